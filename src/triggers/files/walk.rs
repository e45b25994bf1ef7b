//! Reading a folder piece by piece.

use std::fs::{self, Metadata, ReadDir};
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
}

impl Walk {
    /// Of `from`, relative to `root`, and what is below it if `recursive`. Links to folders are not followed.
    pub(super) fn new(root: &Path, from: PathBuf, recursive: bool) -> Walk {
        let is_whole = from.as_os_str().is_empty();
        Walk { root: root.to_owned(), recursive, to_enter: vec![from], entering: None, inside: None, is_whole }
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
                let Ok(entry) = entry else { continue };
                let path = folder.join(entry.file_name());
                // What vanishes between the two calls is gone.
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    if self.recursive {
                        self.to_enter.push(path);
                    }
                } else if let Ok(meta) = fs::metadata(entry.path())
                    && meta.is_file()
                {
                    return Some(Item::File(path, meta));
                }
            } else if let Some(folder) = self.entering.take() {
                match fs::read_dir(self.root.join(&folder)) {
                    Ok(entries) => self.inside = Some((folder, entries)),
                    Err(error) => return Some(Item::Trouble(folder, error)),
                }
            } else {
                let folder = self.to_enter.pop()?;
                self.entering = Some(folder.clone());
                return Some(Item::Folder(folder));
            }
        }
    }
}
