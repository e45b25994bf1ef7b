//! The daemon's log as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::libc;

use crate::files::Dir;

/// A log file that logrotate may rename: [`LogFile::reopen`] then goes on in a new one of its name.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The directory in which it is opened by its name; none for a file at a path that a person chose.
    dir: Option<Arc<Dir>>,
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    /// Opens the file to append to it; it is made if it is not there, readable to its owner's group.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        // Another directory may be the current one when it is opened again.
        let path = std::path::absolute(path)?;
        let file = open_log(None, &path)?;
        Ok(LogFile(Arc::new(Inner { dir: None, path, file: Mutex::new(file) })))
    }

    /// Opens the file of this name in a directory to append to it, and not through a symbolic link; it is made if it is not there,
    /// readable to its owner.
    ///
    /// # Errors
    /// What openat(2) said.
    pub fn open_in(dir: Arc<Dir>, name: &str) -> io::Result<LogFile> {
        let path = std::path::absolute(dir.path())?.join(name);
        let file = open_log(Some(&dir), &path)?;
        Ok(LogFile(Arc::new(Inner { dir: Some(dir), path, file: Mutex::new(file) })))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Reopens it by its name. If that fails, the log goes on in the old file.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open_log(self.0.dir.as_deref(), self.path())?;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Writes a whole line or lines.
    ///
    /// # Errors
    /// What write(2) said.
    pub fn append(&self, lines: &str) -> io::Result<()> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes())
    }
}

fn open_log(dir: Option<&Dir>, path: &Path) -> io::Result<File> {
    if let (Some(dir), Some(name)) = (dir, path.file_name()) {
        return dir.open_file(name, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK);
    }
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
