//! Files that others may look at or put something in the place of meanwhile.
//!
//! [`replace`] and [`write()`] replace a file atomically: readers, and a start after a crash, see the old contents or the new
//! ones. The new contents are written to a temporary file in the same directory, which rename(2) puts in the place of the old
//! one. [`Dir`] opens files relative to a directory's descriptor, without following links.

mod dir;

pub use dir::Dir;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a power cut right after [`replace`] may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The old contents, the new ones, or on some file systems an empty file.
    None,
    /// Nothing: the file and its directory are fsynced.
    Full,
}

/// Replaces `path` by the file that `write` creates at the temporary path that it is given. Nothing exists there when
/// `write` is called, so create it with [`File::create_new`], which follows no link that somebody else put there since.
///
/// The temporary path is `path` with `.new` appended. It has no process id, so that a crash leaves one such file at most,
/// which the next call removes.
///
/// # Errors
/// Those of `write` and of the file system. `path` is unchanged then, unless only the fsync of its directory failed, and
/// the temporary file is removed.
pub fn replace(path: &Path, sync: Sync, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_path(path);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let renamed = write(&temporary)
        .and_then(|()| if sync == Sync::Full { File::open(&temporary)?.sync_all() } else { Ok(()) })
        .and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // A file that can't be removed now is removed by the next call.
        let _ = fs::remove_file(&temporary);
        return renamed;
    }
    match (sync, path.parent()) {
        // A bare file name has the empty path as its parent.
        (Sync::Full, Some(parent)) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        (Sync::Full, Some(parent)) => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Replaces `path` by a file with these contents. With `mode` it gets these permission bits whatever the umask is, without
/// those that the umask leaves.
///
/// # Errors
/// As [`replace`].
pub fn write(path: &Path, contents: &[u8], mode: Option<u32>, sync: Sync) -> io::Result<()> {
    replace(path, sync, |temporary| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
        if let Some(mode) = mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        file.write_all(contents)
    })
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_contents_are_replaced_with_the_given_mode_and_no_temporary_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.prom");
        for (contents, mode, sync) in [("one", 0o644, Sync::None), ("two", 0o600, Sync::Full)] {
            write(&path, contents.as_bytes(), Some(mode), sync).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(names(dir.path()), ["a.prom"]);
    }

    #[test]
    fn a_reader_that_has_the_old_file_open_sees_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"one", None, Sync::None).unwrap();
        let reader = File::open(&path).unwrap();
        write(&path, b"two", None, Sync::None).unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "one");
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_contents_and_removes_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old", None, Sync::None).unwrap();
        let failed = replace(&path, Sync::None, |temporary| {
            fs::write(temporary, "half")?;
            Err(io::Error::other("no space left"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no space left");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        // rename(2) refuses to put a file in the place of a directory.
        fs::create_dir(dir.path().join("b")).unwrap();
        write(&dir.path().join("b"), b"new", None, Sync::None).unwrap_err();
        write(&dir.path().join("nowhere/a"), b"new", None, Sync::None).unwrap_err();
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn a_link_at_the_temporary_path_is_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("a"), dir.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("a.new")).unwrap();
        write(&path, b"new", None, Sync::None).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(names(dir.path()), ["a", "victim"]);
    }
}
