//! `--pid-file`: the daemon's pid in a file, for supervisors that need one.

use std::path::{Path, PathBuf};

use super::out::Failure;
use crate::files;

/// The file, which is removed on drop.
#[derive(Debug)]
pub(super) struct PidFile {
    /// Absolute, since the current directory may change.
    path: PathBuf,
}

impl PidFile {
    /// Writes it atomically. A stale file is replaced: the lock on the state tells whether a daemon runs.
    pub fn write(path: &Path) -> Result<PidFile, Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("the pid file {} can't be written: {error}", path.display()));
        let path = std::path::absolute(path).map_err(failed)?;
        files::write(&path, format!("{}\n", std::process::id()).as_bytes(), None, files::Sync::None).map_err(failed)?;
        Ok(PidFile { path })
    }

    /// Keeps the file, for a daemon that replaces itself.
    pub fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == own) {
            // A failure has no remedy, and the next daemon replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
