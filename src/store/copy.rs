//! A copy of the state in another directory: for a state directory in memory, so that the card is written only for copies.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::error::StoreError;
use super::{DATABASE, Store};
use crate::files::{self, Sync};

/// Restores the copy in `from` to `dir`, if there is a copy and no database in `dir`; true if it did.
///
/// # Errors
/// Those of the file system.
pub fn bring_back(dir: &Path, from: &Path) -> io::Result<bool> {
    let (database, copy) = (dir.join(DATABASE), from.join(DATABASE));
    if database.exists() || !copy.exists() {
        return Ok(false);
    }
    // A crash in the middle must not leave half a database behind.
    files::replace(&database, Sync::None, |temporary| fs::copy(&copy, temporary).map(drop))?;
    Ok(true)
}

impl Store {
    /// Writes a copy of the database into `dir`, whole or not at all: the copy before it stays until this one is on the
    /// disk.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn copy_to(&mut self, dir: &Path) -> Result<(), StoreError> {
        let conn = self.caught_up();
        let copied = fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).and_then(|()| {
            files::replace(&dir.join(DATABASE), Sync::Full, |temporary| {
                let name = temporary.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
                conn.execute("VACUUM INTO ?1", [name]).map_err(io::Error::other)?;
                fs::set_permissions(temporary, fs::Permissions::from_mode(0o600))
            })
        });
        copied.map_err(|error| StoreError::Failed {
            action: format!("copy the state to {}", dir.display()),
            message: error.to_string(),
        })
    }
}
