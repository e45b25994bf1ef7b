//! Paths that a configuration names, for `check` alone: they may lie on a mount that does not answer, so neither a start nor a
//! reload looks at them, and `check` has somebody else look.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::triggers::Place;

/// A path to be looked at once the whole file is read, and what it is for.
#[derive(Debug)]
pub(super) struct PathLint {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) what: NamedFor,
}

/// What a path is for.
#[derive(Debug)]
pub(super) enum NamedFor {
    /// A script, or a program, which must be executable; and what will fail.
    Program { must_execute: bool, role: &'static str },
    /// The working directory of a job.
    Cwd,
    /// The `env_file` of a job.
    EnvFile,
    /// The directory of the metrics text file.
    Textfile,
}

/// What is at a path: `st_mode` of stat(2), links followed.
pub type Looked = Result<u32, NotLooked>;

/// Why nothing is known of a path.
#[derive(Debug)]
pub enum NotLooked {
    /// The system's error.
    Failed(io::Error),
    /// Since when there is no answer, as in `did not answer within 5s`.
    NoAnswer(String),
}

/// Looks at paths, and answers for each of them in this order.
pub type Look<'a> = &'a dyn Fn(&[PathBuf]) -> Vec<Looked>;

/// Looks without a deadline, for tests.
#[doc(hidden)]
#[must_use]
pub fn look_here(paths: &[PathBuf]) -> Vec<Looked> {
    paths.iter().map(|path| std::fs::metadata(path).map(|meta| meta.mode()).map_err(NotLooked::Failed)).collect()
}
