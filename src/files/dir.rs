//! A directory by its descriptor.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A directory that is held open: what is opened in it is in this directory, wherever its path leads by then. The last
/// component of a name is never followed if it is a symbolic link (`O_NOFOLLOW`, open(2)).
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory that exists; a symbolic link is followed.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Dir> {
        let fd = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// The path by which it was opened, for messages and for programs that take no descriptor.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file, to read it, or with `flags` as open(2) takes them. One that `O_CREAT` makes has mode 0600.
    ///
    /// # Errors
    /// Those of openat(2); `ELOOP` for a symbolic link.
    pub fn open_file(&self, name: impl AsRef<Path>, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = openat(&self.fd, name.as_ref(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        opened.map(File::from).map_err(|errno| match errno {
            Errno::ELOOP => io::Error::other("it is a symbolic link, which is not followed"),
            errno => errno.into(),
        })
    }

    /// As [`Dir::open_file`], for a file of which a directory or two may be missing: they are made with mode 0700.
    ///
    /// # Errors
    /// Those of openat(2) and of mkdirat(2).
    pub fn open_file_in_dirs(&self, name: &Path, flags: OFlag) -> io::Result<File> {
        match self.open_file(name, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = name.parent() {
                    self.create_dirs(parent)?;
                }
                self.open_file(name, flags)
            }
            opened => opened,
        }
    }

    /// Makes a directory and those above it, below this one, that are missing; each with mode 0700.
    ///
    /// # Errors
    /// Those of mkdirat(2).
    pub fn create_dirs(&self, name: &Path) -> io::Result<()> {
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Err(Errno::ENOENT) => {
                let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(Errno::ENOENT)?;
                self.create_dirs(parent)?;
                match mkdirat(&self.fd, name, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a file; true if there was one.
    ///
    /// # Errors
    /// Those of unlinkat(2), but for a file that is not there.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> io::Result<bool> {
        self.unlink(name.as_ref(), UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory; true if there was one.
    ///
    /// # Errors
    /// Those of unlinkat(2), but for a directory that is not there.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> io::Result<bool> {
        self.unlink(name.as_ref(), UnlinkatFlags::RemoveDir)
    }

    fn unlink(&self, name: &Path, how: UnlinkatFlags) -> io::Result<bool> {
        match unlinkat(&self.fd, name, how) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The names in a directory below this one; none if it is not there.
    ///
    /// # Errors
    /// Those of open(2) and of getdents64(2).
    pub fn names(&self, name: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut opened = match nix::dir::Dir::openat(&self.fd, name.as_ref(), flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut names = Vec::new();
        for entry in opened.iter() {
            let name = entry?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// The status of the directory itself.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn stat(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.fd)?)
    }

    /// The status of a name in it; of a symbolic link the link's. `None` if there is none.
    ///
    /// # Errors
    /// Those of fstatat(2).
    pub fn stat_of(&self, name: impl AsRef<Path>) -> io::Result<Option<FileStat>> {
        match fstatat(&self.fd, name.as_ref(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_made_in_the_directory_that_was_opened_wherever_its_path_leads_now() {
        let place = tempfile::tempdir().unwrap();
        let (first, second) = (place.path().join("state"), place.path().join("other"));
        std::fs::create_dir_all(&first).unwrap();
        std::fs::create_dir_all(&second).unwrap();
        let dir = Dir::open(&first).unwrap();
        std::fs::rename(&first, place.path().join("moved")).unwrap();
        symlink(&second, &first).unwrap();
        let mut file = dir.open_file_in_dirs(Path::new("logs/a/1.log"), OFlag::O_WRONLY | OFlag::O_CREAT).unwrap();
        file.write_all(b"x").unwrap();
        let made = place.path().join("moved/logs/a/1.log");
        assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::metadata(made.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(second.read_dir().unwrap().count(), 0);
        assert!(dir.remove_file("logs/a/1.log").unwrap());
        assert!(!dir.remove_file("logs/a/1.log").unwrap());
        assert!(dir.remove_dir("logs/a").unwrap());
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let victim = place.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, place.path().join("lock")).unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let error = dir.open_file("lock", OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link, which is not followed");
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    }
}
