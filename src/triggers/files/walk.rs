//! A scan of a folder, one directory after another.

use std::path::PathBuf;

use super::near::Listing;

/// A scan in progress. Paths are relative to the root.
#[derive(Debug)]
pub(super) struct Walk {
    recursive: bool,
    to_read: Vec<PathBuf>,
    /// The directory that is being read here; the helper process reads others.
    pub reading: Option<(PathBuf, Listing)>,
    /// True if it scans from the root on, not a directory that appeared.
    pub is_from_root: bool,
    /// True if something could not be read: files that were not found may exist all the same.
    pub is_incomplete: bool,
}

impl Walk {
    /// Scans `from` and, if `recursive`, everything below it. Links to directories are not followed.
    pub fn new(from: PathBuf, recursive: bool) -> Walk {
        let is_from_root = from.as_os_str().is_empty();
        Walk { recursive, to_read: vec![from], reading: None, is_from_root, is_incomplete: false }
    }

    /// The next directory to be read.
    pub fn next_directory(&mut self) -> Option<PathBuf> {
        self.to_read.pop()
    }

    /// A directory was found.
    pub fn found_directory(&mut self, path: PathBuf) {
        if self.recursive {
            self.to_read.push(path);
        }
    }

    /// True once every directory was read.
    pub fn is_exhausted(&self) -> bool {
        self.reading.is_none() && self.to_read.is_empty()
    }
}
