//! A copy of the state elsewhere: for a state directory in memory, whose card is spared all writes but these.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::schema::StoreError;
use super::{DATABASE, Store};

/// Brings the copy in `from` back into `dir`, if there is one and no database in `dir` yet; true if it did.
///
/// # Errors
/// What the disk said.
pub fn bring_back(dir: &Path, from: &Path) -> io::Result<bool> {
    let (database, copy) = (dir.join(DATABASE), from.join(DATABASE));
    if database.exists() || !copy.exists() {
        return Ok(false);
    }
    // A crash in the middle must not leave half a database behind.
    let half = dir.join("state.db.new");
    fs::copy(&copy, &half)?;
    fs::rename(&half, &database)?;
    Ok(true)
}

impl Store {
    /// Writes a copy of the database into `dir`, whole or not at all: the copy before it stays until this one is on the
    /// disk.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn copy_to(&mut self, dir: &Path) -> Result<(), StoreError> {
        let refused = |said: String| StoreError::Refused { tried: format!("copy the state to {}", dir.display()), said };
        let disk = |error: io::Error| refused(error.to_string());
        fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(disk)?;
        let half = dir.join("state.db.new");
        match fs::remove_file(&half) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(error)),
            _ => {}
        }
        let name = half.to_str().ok_or_else(|| refused("its name is not UTF-8".into()))?;
        self.caught_up().execute("VACUUM INTO ?1", [name]).map_err(|error| refused(error.to_string()))?;
        let file = File::open(&half).map_err(disk)?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(disk)?;
        file.sync_all().map_err(disk)?;
        fs::rename(&half, dir.join(DATABASE)).map_err(disk)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(disk)
    }
}
