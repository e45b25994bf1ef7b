//! A copy of the state in another directory: for a state directory in memory, so that the card is written only for copies.
//!
//! The other directory may hang. Nothing here touches it: the caller has a file sent there, or fetched.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::StoreError;
use super::{DATABASE, Store};
use crate::files::{self, Sync};

/// The name in the state directory of a copy that is being made.
const SNAPSHOT: &str = "state.copy";

/// Restores a copy to `dir` if there is no database; `fetch` writes it into the file that it is given. True if it did, false
/// if there is a database, or no copy: `fetch` says [`io::ErrorKind::NotFound`].
///
/// # Errors
/// Those of `fetch` and of the file system.
pub fn bring_back(dir: &Path, fetch: impl FnOnce(&File) -> io::Result<()>) -> io::Result<bool> {
    let database = dir.join(DATABASE);
    if database.exists() {
        return Ok(false);
    }
    // A crash in the middle must not leave half a database behind.
    let restored = files::replace(&database, Sync::None, |temporary| fetch(&private(temporary)?));
    match restored {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        restored => restored.map(|()| true),
    }
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl Store {
    /// A copy of the database as it is now: a file in `dir`, the state directory, that has no name any more.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn snapshot(&mut self, dir: &Path) -> io::Result<File> {
        let path = dir.join(SNAPSHOT);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = path.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
        // SQLite takes an empty file, and would make one with mode 0644.
        private(&path)?;
        let copied = self.caught_up().execute("VACUUM INTO ?1", [name]).map_err(io::Error::other).and_then(|_| File::open(&path));
        // On an error, half a copy. The file stays readable by its descriptor.
        let _ = fs::remove_file(&path);
        copied
    }
}

/// Why a copy of the state to `dir` was not made.
#[must_use]
pub fn copy_failed(dir: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed { action: format!("copy the state to {}", dir.display()), message: why.to_string() }
}
