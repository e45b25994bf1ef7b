//! A folder to which only local file systems lead: paths are looked up below its descriptor and do not leave its file system, so
//! no call can hang.
//!
//! A mount below the folder and a link that leads to another file system are `Far`: openat2(2) with `RESOLVE_NO_XDEV` says so
//! without a call on that file system. Kernels before Linux 5.6 have no openat2(2): everything is far then.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs::{self, File, ReadDir};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::helper::{FileStat, open_local, path_of};

/// Why a path was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotNear {
    /// It may hang: the helper process has to look.
    Far,
    /// The system's error.
    Failed(Errno),
}

impl From<Errno> for NotNear {
    fn from(errno: Errno) -> NotNear {
        match errno {
            // EPERM is what seccomp filters say to system calls that they do not know.
            Errno::EXDEV | Errno::ENOSYS | Errno::EPERM => NotNear::Far,
            errno => NotNear::Failed(errno),
        }
    }
}

/// The root. It is open from its first use in a turn to [`Near::close`].
pub(super) struct Near {
    path: PathBuf,
    root: OnceCell<OwnedFd>,
}

impl Near {
    /// `path` has no links, and no call on it can hang.
    pub fn new(path: PathBuf) -> Near {
        Near { path, root: OnceCell::new() }
    }

    /// The end of a turn: an open root would keep its file system from being unmounted, and its removal from being reported.
    pub fn close(&mut self) {
        self.root.take();
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False if it was removed, or replaced by a link.
    pub fn exists(&self) -> bool {
        open_local(&self.path).is_ok()
    }

    fn root(&self) -> Result<&OwnedFd, Errno> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let opened = open_local(&self.path)?;
        Ok(self.root.get_or_init(|| opened))
    }

    /// Looks at a file, following links.
    ///
    /// # Errors
    /// See [`NotNear`].
    pub fn stat(&self, path: &Path) -> Result<FileStat, NotNear> {
        let itself = metadata(self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?)?;
        if !itself.is_symlink() {
            return Ok(FileStat::new(&itself, false));
        }
        Ok(FileStat::new(&metadata(self.open(path, OFlag::O_PATH)?)?, true))
    }

    /// Opens a directory, to be watched and read.
    ///
    /// # Errors
    /// See [`NotNear`].
    pub fn open_dir(&self, path: &Path) -> Result<OwnedFd, NotNear> {
        self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, NotNear> {
        let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(openat2(self.root()?, path, how)?)
    }
}

fn metadata(fd: OwnedFd) -> Result<fs::Metadata, NotNear> {
    File::from(fd).metadata().map_err(|error| NotNear::Failed(errno_of(&error)))
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// An entry of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Directory(OsString),
    File(OsString, FileStat),
    /// It leads anywhere.
    Link(OsString),
    /// It can't be looked at.
    Unreadable,
}

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Listing(ReadDir);

impl Listing {
    /// # Errors
    /// That of opendir(3).
    pub fn open(directory: &OwnedFd) -> Result<Listing, Errno> {
        fs::read_dir(path_of(directory)).map(Listing).map_err(|error| errno_of(&error))
    }
}

impl Iterator for Listing {
    type Item = Found;

    /// Entries that are neither a file nor a directory, and those that were removed meanwhile, are left out.
    fn next(&mut self) -> Option<Found> {
        loop {
            let Ok(entry) = self.0.next()? else { return Some(Found::Unreadable) };
            let kind = match entry.file_type() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return Some(Found::Unreadable),
                Ok(kind) => kind,
            };
            if kind.is_dir() {
                return Some(Found::Directory(entry.file_name()));
            }
            if kind.is_symlink() {
                return Some(Found::Link(entry.file_name()));
            }
            // fstatat(2), relative to the directory and without following a link.
            match entry.metadata() {
                Ok(meta) if meta.is_file() => return Some(Found::File(entry.file_name(), FileStat::new(&meta, false))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return Some(Found::Unreadable),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn near(path: &Path) -> Near {
        Near::new(path.canonicalize().unwrap())
    }

    #[test]
    fn files_and_links_on_the_same_file_system_are_looked_at_and_others_are_far() {
        let dir = tempfile::tempdir().unwrap();
        let root = near(dir.path());
        fs::write(dir.path().join("a"), "four").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("/proc/version", dir.path().join("away")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        let stat = root.stat(Path::new("a")).unwrap();
        assert_eq!((stat.size, stat.is_link, stat.is_file()), (4, false, true));
        assert_eq!(root.stat(Path::new("link")), Ok(FileStat { is_link: true, ..stat }));
        assert_eq!(root.stat(Path::new("away")), Err(NotNear::Far));
        assert_eq!(root.stat(Path::new("dangling")), Err(NotNear::Failed(Errno::ENOENT)));
        // `/` has mounts of other types below it on every machine that has `/proc`.
        assert_eq!(near(Path::new("/")).open_dir(Path::new("proc")).err(), Some(NotNear::Far));
    }

    #[test]
    fn a_directory_is_read_by_its_descriptor_wherever_it_is_moved_and_a_removed_root_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = near(dir.path());
        fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
        fs::write(dir.path().join("sub/a"), "").unwrap();
        symlink("a", dir.path().join("sub/link")).unwrap();
        let open = root.open_dir(Path::new("sub")).unwrap();
        fs::rename(dir.path().join("sub"), dir.path().join("moved")).unwrap();
        let mut names: Vec<String> = Listing::open(&open)
            .unwrap()
            .map(|found| match found {
                Found::Directory(name) => format!("{}/", name.display()),
                Found::File(name, _) => name.display().to_string(),
                Found::Link(name) => format!("{} ->", name.display()),
                Found::Unreadable => "?".to_owned(),
            })
            .collect();
        names.sort();
        assert_eq!(names, ["a", "deep/", "link ->"]);
        assert_eq!(root.open_dir(Path::new("sub")).err(), Some(NotNear::Failed(Errno::ENOENT)));
        assert!(root.exists());
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(!root.exists());
        // A link in its place may lead anywhere.
        symlink("/proc", dir.path()).unwrap();
        assert!(!root.exists());
        fs::remove_file(dir.path()).unwrap();
    }
}
