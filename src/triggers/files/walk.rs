//! Reading a folder piece by piece.

use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata, ReadDir};
use std::io;
use std::path::{Path, PathBuf};

/// What comes next.
#[derive(Debug)]
pub(super) enum Item {
    /// A folder, relative to the root, before it is read: whoever wants to hear of what comes into it must listen now.
    Folder(PathBuf),
    /// A file, or a link to one.
    File(PathBuf, Metadata),
    /// A folder that can't be read.
    Trouble(PathBuf, io::Error),
}

/// A reading under way.
#[derive(Debug)]
pub(super) struct Walk {
    root: PathBuf,
    recursive: bool,
    to_enter: Vec<PathBuf>,
    entering: Option<PathBuf>,
    inside: Option<(PathBuf, ReadDir)>,
    /// True if it began at the root.
    pub(super) is_whole: bool,
    /// True if something could not be read: what was not found may be there all the same.
    pub(super) is_torn: bool,
}

impl Walk {
    /// Of `from`, relative to `root`, and what is below it if `recursive`. Links to folders are not followed.
    pub(super) fn new(root: &Path, from: PathBuf, recursive: bool) -> Walk {
        let is_whole = from.as_os_str().is_empty();
        Walk { root: root.to_owned(), recursive, to_enter: vec![from], entering: None, inside: None, is_whole, is_torn: false }
    }
}

impl Iterator for Walk {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some((folder, entries)) = &mut self.inside {
                let Some(entry) = entries.next() else {
                    self.inside = None;
                    continue;
                };
                match entry.and_then(|entry| look_at(&entry)) {
                    Ok(Seen::Folder(name)) if self.recursive => self.to_enter.push(folder.join(name)),
                    Ok(Seen::File(name, meta)) => return Some(Item::File(folder.join(name), meta)),
                    Ok(Seen::Folder(_) | Seen::Nothing) => {}
                    Err(_) => self.is_torn = true,
                }
            } else if let Some(folder) = self.entering.take() {
                match fs::read_dir(self.root.join(&folder)) {
                    Ok(entries) => self.inside = Some((folder, entries)),
                    // A folder that is gone took its files with it; but the root may be a mount that has gone for a while.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.as_os_str().is_empty() => {}
                    Err(error) => {
                        self.is_torn = true;
                        return Some(Item::Trouble(folder, error));
                    }
                }
            } else {
                let folder = self.to_enter.pop()?;
                self.entering = Some(folder.clone());
                return Some(Item::Folder(folder));
            }
        }
    }
}

/// What stands in a folder.
enum Seen {
    Folder(OsString),
    File(OsString, Metadata),
    /// No file, or one that has vanished since.
    Nothing,
}

fn look_at(entry: &DirEntry) -> io::Result<Seen> {
    let kind = match entry.file_type() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        kind => kind?,
    };
    if kind.is_dir() {
        return Ok(Seen::Folder(entry.file_name()));
    }
    match fs::metadata(entry.path()) {
        Ok(meta) if meta.is_file() => Ok(Seen::File(entry.file_name(), meta)),
        Ok(_) => Ok(Seen::Nothing),
        // A link may lead nowhere, in a circle, or to where one may not go.
        Err(error) if kind.is_symlink() || error.kind() == io::ErrorKind::NotFound => Ok(Seen::Nothing),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk comes across, with its folders' fate decided by `before` just before each is read.
    fn walk(root: &Path, mut before: impl FnMut(&Path)) -> (Vec<PathBuf>, Vec<PathBuf>, bool) {
        let mut walk = Walk::new(root, PathBuf::new(), true);
        let (mut files, mut troubles) = (Vec::new(), Vec::new());
        for item in walk.by_ref() {
            match item {
                Item::Folder(folder) => before(&folder),
                Item::File(path, _) => files.push(path),
                Item::Trouble(folder, _) => troubles.push(folder),
            }
        }
        files.sort();
        (files, troubles, walk.is_torn)
    }

    #[test]
    fn what_is_gone_is_no_trouble_and_what_can_t_be_read_tears_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a"), "").unwrap();
        fs::write(root.join("sub/b"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        std::os::unix::fs::symlink("round", root.join("round")).unwrap();
        let all = vec![PathBuf::from("a"), PathBuf::from("sub/b")];
        assert_eq!(walk(root, |_| {}), (all, vec![], false));

        let vanishes = |folder: &Path| {
            if folder == Path::new("sub") {
                fs::remove_dir_all(root.join("sub")).unwrap();
            }
        };
        assert_eq!(walk(root, vanishes), (vec!["a".into()], vec![], false));

        fs::create_dir(root.join("sub")).unwrap();
        let unreadable = |folder: &Path| {
            if folder == Path::new("sub") {
                fs::remove_dir(root.join("sub")).unwrap();
                fs::write(root.join("sub"), "no folder any more").unwrap();
            }
        };
        assert_eq!(walk(root, unreadable), (vec!["a".into()], vec!["sub".into()], true));
    }

    #[test]
    fn a_root_that_is_gone_tears_the_walk_for_it_may_be_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(walk(&dir.path().join("gone"), |_| {}), (vec![], vec![PathBuf::new()], true));
    }
}
