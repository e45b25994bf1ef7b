//! The daemon's log as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

/// A log file that logrotate may rename: [`LogFile::reopen`] then goes on in a new one of its name.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<(PathBuf, Mutex<File>)>);

impl LogFile {
    /// Opens the file to append to it; it is made if it is not there, readable to its owner's group.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        // Another directory may be the current one when it is opened again.
        let path = std::path::absolute(path)?;
        let file = open_log(&path)?;
        Ok(LogFile(Arc::new((path, Mutex::new(file)))))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// Reopens it by its name. If that fails, the log goes on in the old file.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open_log(self.path())?;
        *self.0.1.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Writes a whole line or lines.
    ///
    /// # Errors
    /// What write(2) said.
    pub fn append(&self, lines: &str) -> io::Result<()> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes())
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    // A terminal must not become the daemon's controlling one, and a pipe without a reader must not block the open.
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_moved_away_goes_on_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("old"));
        let log = LogFile::open(&path).unwrap();
        log.append("one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        log.append("two\n").unwrap();
        log.reopen().unwrap();
        log.append("three\n").unwrap();
        assert_eq!(
            (std::fs::read_to_string(old).unwrap(), std::fs::read_to_string(path).unwrap()),
            ("one\ntwo\n".into(), "three\n".into())
        );
    }
}
