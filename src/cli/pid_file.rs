//! `--pid-file`: the daemon's pid in a file, for supervisors that ask for one.

use std::path::{Path, PathBuf};

use super::out::Failure;

/// The file; it goes away with the daemon.
#[derive(Debug)]
pub(super) struct PidFile {
    /// Absolute: another directory may be the current one at the end.
    path: PathBuf,
}

impl PidFile {
    /// Writes it, whole or not at all. What another daemon has left there is replaced: the lock on the state says
    /// whether one runs.
    pub fn write(path: &Path) -> Result<PidFile, Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("the pid file {} can't be written: {error}", path.display()));
        let path = std::path::absolute(path).map_err(failed)?;
        let mut name = path.file_name().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = path.with_file_name(name);
        let written = std::fs::write(&fresh, format!("{}\n", std::process::id()));
        written.and_then(|()| std::fs::rename(&fresh, &path)).map_err(|error| {
            let _ = std::fs::remove_file(&fresh);
            failed(error)
        })?;
        Ok(PidFile { path })
    }

    /// Leaves the file.
    pub fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == own) {
            // Nothing can be done about a failure, and the next daemon replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
