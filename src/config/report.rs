//! What `check --format json` says: stable, new keys may be added.

use serde::Serialize;

use super::{Config, Diagnostic, Refused, Severity};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if the file loads.
    pub ok: bool,
    /// How many jobs it has; 0 if it does not load.
    pub jobs: usize,
    /// What is wrong, in the order of the file.
    pub errors: Vec<Entry>,
    /// What is legal but likely wrong, in the order of the file.
    pub warnings: Vec<Entry>,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file as it was named.
    pub file: String,
    /// From 1; 0 if the file could not be read.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do; null if there is nothing to add.
    pub help: Option<String>,
}

impl Report {
    /// Of what [`super::load`] said.
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
