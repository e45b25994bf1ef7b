//! The socket's path, and binding it.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

/// The socket's path: the given one, else `$FIRELINK_SOCKET`, else `$XDG_RUNTIME_DIR/firelink.sock`, else
/// `/run/firelink.sock`. Empty variables count as unset.
#[must_use]
pub fn socket_path(asked: Option<&Path>) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    asked
        .map(Path::to_owned)
        .or_else(|| variable("FIRELINK_SOCKET"))
        .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| dir.join("firelink.sock")))
        .unwrap_or_else(|| "/run/firelink.sock".into())
}

/// A listening socket; its file is removed on drop.
#[derive(Debug)]
pub struct Bound {
    /// The listener, non-blocking.
    pub listener: UnixListener,
    path: PathBuf,
    /// True if this process created the file and removes it.
    is_ours: bool,
}

impl Bound {
    /// A socket created by a supervisor, which keeps its file.
    ///
    /// # Errors
    /// Of the system calls on it.
    pub fn passed(listener: UnixListener) -> std::io::Result<Bound> {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map_or_else(|| "(passed)".into(), Path::to_owned);
        Ok(Bound { listener, path, is_ours: false })
    }

    /// The socket's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_ours {
            // A failure has no remedy, and the next daemon replaces a stale socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why the socket can't be bound.
#[derive(Debug)]
pub enum BindError {
    /// Another daemon listens on it.
    InUse(PathBuf),
    /// A system call failed.
    Refused {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(path) => write!(
                f,
                "another daemon listens on {}; stop it (`firelink stop`), or give this one its own socket with --socket",
                path.display()
            ),
            BindError::Refused { path, error } => {
                write!(f, "can't listen on {}: {error}; name another place with --socket or $FIRELINK_SOCKET", path.display())
            }
        }
    }
}

impl std::error::Error for BindError {}

/// Listens on `path` with mode 0600. A stale socket is replaced.
///
/// # Errors
/// When another daemon listens there, or a system call fails.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let refused = |error| BindError::Refused { path: path.into(), error };
    match UnixStream::connect(path) {
        Ok(_) => return Err(BindError::InUse(path.into())),
        // ECONNREFUSED on a socket: its listener is gone. Other files are left alone.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            std::fs::remove_file(path).map_err(refused)?;
        }
        Err(_) => {}
    }
    // A mask, because others could connect between bind(2) and chmod(2).
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(refused)?;
    let bound = Bound { listener, path: path.into(), is_ours: true };
    bound.listener.set_nonblocking(true).map_err(refused)?;
    Ok(bound)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_private_and_removed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bound = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path), Err(BindError::InUse(_))));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        bind(&stale).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(bind(&file), Err(BindError::Refused { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
