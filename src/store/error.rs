//! What the store reports when it fails.

use std::fmt;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::VERSION;

/// An error of the state directory.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The database was written by a newer firelink.
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema's version.
        version: i64,
    },
    /// SQLite reports corruption, or that the file is not a database.
    Damaged {
        /// SQLite's message.
        message: String,
    },
    /// Any other error of SQLite or of the file system.
    Failed {
        /// The operation, as in `can't {action}`.
        action: String,
        /// The error's message.
        message: String,
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
            StoreError::Damaged { message } => write!(f, "the state database is damaged: {message}"),
            StoreError::Failed { action, message } => write!(f, "can't {action}: {message}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// Distinguishes damage from other errors by SQLite's code.
    pub(super) fn from_sqlite(action: impl Into<String>, error: &rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { message: error.to_string() },
            _ => StoreError::Failed { action: action.into(), message: error.to_string() },
        }
    }
}
