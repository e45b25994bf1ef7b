//! The output of `check --format json`: stable, but new keys may be added.

use serde::Serialize;

use super::{Config, Diagnostic, Refused, Severity};

/// The report on a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if the file loads.
    pub ok: bool,
    /// The number of jobs; 0 if the file does not load.
    pub jobs: usize,
    /// In the order of the file.
    pub errors: Vec<Entry>,
    /// In the order of the file.
    pub warnings: Vec<Entry>,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The path as it was given.
    pub file: String,
    /// Counted from 1; 0 if the file could not be read.
    pub line: usize,
    /// Counted from 1, in characters; 0 if the file could not be read.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to fix it, or null.
    pub help: Option<String>,
}

impl Report {
    /// On the result of [`super::load()`] or [`super::check`].
    #[must_use]
    pub fn of(loaded: &Result<Config, Refused>) -> Report {
        let (jobs, diagnostics) = match loaded {
            Ok(config) => (config.jobs.len(), &config.warnings),
            Err(Refused(diagnostics)) => (0, diagnostics),
        };
        let entries = |severity| diagnostics.iter().filter(move |one| one.severity == severity).map(Entry::of).collect();
        Report { ok: loaded.is_ok(), jobs, errors: entries(Severity::Error), warnings: entries(Severity::Warning) }
    }
}

impl Entry {
    fn of(diagnostic: &Diagnostic) -> Entry {
        Entry {
            file: diagnostic.file.display().to_string(),
            line: diagnostic.line,
            column: diagnostic.column,
            message: diagnostic.message.clone(),
            help: Some(diagnostic.help.clone()).filter(|help| !help.is_empty()),
        }
    }
}
