//! What the store reports when it fails.

use std::fmt;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::VERSION;

/// Why the state can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Written by a firelink that knows more.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// SQLite says that the file is no database or a broken one.
    Damaged {
        /// SQLite's words.
        said: String,
    },
    /// The disk or SQLite refused.
    Refused {
        /// What was tried.
        tried: String,
        /// What it said.
        said: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Newer { path, version } => write!(
                f,
                "{} was written by a newer firelink (its version is {version}, this one knows up to {VERSION}); \
                 use that firelink, or another state_dir",
                path.display()
            ),
            StoreError::Damaged { said } => write!(f, "the state database is damaged: {said}"),
            StoreError::Refused { tried, said } => write!(f, "can't {tried}: {said}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// Tells damage from refusal by SQLite's code.
    pub(super) fn from_sqlite(tried: impl Into<String>, error: &rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { said: error.to_string() },
            _ => StoreError::Refused { tried: tried.into(), said: error.to_string() },
        }
    }
}
