//! Scanning a folder, one entry at a time.

use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata, ReadDir};
use std::io;
use std::path::{Path, PathBuf};

/// A step of the scan.
#[derive(Debug)]
pub(super) enum Item {
    /// A directory, before it is read: a watch that is added now misses nothing. Paths are relative to the root.
    Directory(PathBuf),
    /// A file, or a link to one.
    File(PathBuf, Metadata),
    /// A directory that can't be read.
    Unreadable(PathBuf, io::Error),
}

/// A scan in progress.
#[derive(Debug)]
pub(super) struct Walk {
    root: PathBuf,
    recursive: bool,
    to_read: Vec<PathBuf>,
    announced: Option<PathBuf>,
    reading: Option<(PathBuf, ReadDir)>,
    /// True if it scans from the root on, not a directory that appeared.
    pub(super) is_from_root: bool,
    /// True if something could not be read: files that were not found may exist all the same.
    pub(super) is_incomplete: bool,
}

impl Walk {
    /// Scans `from`, relative to `root`, and everything below it if `recursive`. Links to directories are not followed.
    pub(super) fn new(root: &Path, from: PathBuf, recursive: bool) -> Walk {
        let is_from_root = from.as_os_str().is_empty();
        Walk {
            root: root.to_owned(),
            recursive,
            to_read: vec![from],
            announced: None,
            reading: None,
            is_from_root,
            is_incomplete: false,
        }
    }
}

impl Iterator for Walk {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some((directory, entries)) = &mut self.reading {
                let Some(entry) = entries.next() else {
                    self.reading = None;
                    continue;
                };
                match entry.and_then(|entry| kind_of(&entry)) {
                    Ok(Kind::Directory(name)) if self.recursive => self.to_read.push(directory.join(name)),
                    Ok(Kind::File(name, meta)) => return Some(Item::File(directory.join(name), meta)),
                    Ok(Kind::Directory(_) | Kind::Other) => {}
                    Err(_) => self.is_incomplete = true,
                }
            } else if let Some(directory) = self.announced.take() {
                match fs::read_dir(self.root.join(&directory)) {
                    Ok(entries) => self.reading = Some((directory, entries)),
                    // A removed directory took its files with it; but the root may be a file system that is not mounted now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() => {}
                    Err(error) => {
                        self.is_incomplete = true;
                        return Some(Item::Unreadable(directory, error));
                    }
                }
            } else {
                let directory = self.to_read.pop()?;
                self.announced = Some(directory.clone());
                return Some(Item::Directory(directory));
            }
        }
    }
}

/// The kind of a directory entry.
enum Kind {
    Directory(OsString),
    File(OsString, Metadata),
    /// Neither, or removed meanwhile.
    Other,
}

fn kind_of(entry: &DirEntry) -> io::Result<Kind> {
    let kind = match entry.file_type() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::Other),
        kind => kind?,
    };
    if kind.is_dir() {
        return Ok(Kind::Directory(entry.file_name()));
    }
    match fs::metadata(entry.path()) {
        Ok(meta) if meta.is_file() => Ok(Kind::File(entry.file_name(), meta)),
        Ok(_) => Ok(Kind::Other),
        // A link may be dangling, form a loop, or lead to a place without permission.
        Err(error) if kind.is_symlink() || error.kind() == io::ErrorKind::NotFound => Ok(Kind::Other),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files and unreadable directories of a scan, with `before` called before each directory is read.
    fn walk(root: &Path, mut before: impl FnMut(&Path)) -> (Vec<PathBuf>, Vec<PathBuf>, bool) {
        let mut walk = Walk::new(root, PathBuf::new(), true);
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for item in walk.by_ref() {
            match item {
                Item::Directory(directory) => before(&directory),
                Item::File(path, _) => files.push(path),
                Item::Unreadable(directory, _) => unreadable.push(directory),
            }
        }
        files.sort();
        (files, unreadable, walk.is_incomplete)
    }

    #[test]
    fn a_removed_directory_is_skipped_and_an_unreadable_one_makes_the_scan_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a"), "").unwrap();
        fs::write(root.join("sub/b"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        std::os::unix::fs::symlink("round", root.join("round")).unwrap();
        let all = vec![PathBuf::from("a"), PathBuf::from("sub/b")];
        assert_eq!(walk(root, |_| {}), (all, vec![], false));

        let vanishes = |directory: &Path| {
            if directory == Path::new("sub") {
                fs::remove_dir_all(root.join("sub")).unwrap();
            }
        };
        assert_eq!(walk(root, vanishes), (vec!["a".into()], vec![], false));

        fs::create_dir(root.join("sub")).unwrap();
        let unreadable = |directory: &Path| {
            if directory == Path::new("sub") {
                fs::remove_dir(root.join("sub")).unwrap();
                fs::write(root.join("sub"), "not a directory").unwrap();
            }
        };
        assert_eq!(walk(root, unreadable), (vec!["a".into()], vec!["sub".into()], true));
    }

    #[test]
    fn a_missing_root_makes_the_scan_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(walk(&dir.path().join("gone"), |_| {}), (vec![], vec![PathBuf::new()], true));
    }
}
