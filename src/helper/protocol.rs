//! Requests and answers, as types and as bytes: one packet each. Numbers are little-endian; a path or name is its length in
//! 4 bytes and its bytes. Both ends are the same program, so there is no version.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::file_stat::FileStat;

/// The most bytes of the paths of one [`Request::Stat`], each counted with `PATH_COST` more: what fits into a packet.
pub const MAX_PATHS_BYTES: usize = 32 * 1024;

/// Bytes that a path needs besides its own.
const PATH_COST: usize = 4;

/// What is asked. Paths are absolute. Every request ends with [`Answer::Done`] or [`Answer::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Looks where a directory is: [`Answer::Located`].
    Locate(PathBuf),
    /// Lists a directory: [`Answer::Entries`] in any number of parts. With the descriptor of an inotify instance it is watched
    /// before it is read: [`Answer::Watched`] comes first.
    List {
        /// The directory.
        path: PathBuf,
        /// The events of interest, as of inotify(7).
        mask: u32,
    },
    /// Looks at files: [`Answer::Stats`] in any number of parts, in this order.
    Stat(Vec<PathBuf>),
    /// Watches the nearest directory above a path that does not exist, with the descriptor of an inotify instance:
    /// [`Answer::Watched`].
    WatchAncestor {
        /// The path that does not exist.
        path: PathBuf,
        /// The events of interest, as of inotify(7).
        mask: u32,
    },
    /// Replaces a file by the contents of the descriptor, atomically.
    Put {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// It is on the disk before the answer comes; its directory is made if it is missing.
        durable: bool,
        /// A file that is there is renamed to this first.
        keep_as: Option<PathBuf>,
    },
    /// Copies a file's contents into the descriptor.
    Get(PathBuf),
    /// Removes a file.
    Remove(PathBuf),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The directory exists.
    Located {
        /// Its path without links.
        path: PathBuf,
        /// No call on it can hang, nor on the directories above it: [`super::open_local`] opens it.
        is_local: bool,
    },
    /// The watch descriptor, or the errno of inotify_add_watch(2).
    Watched(Result<i32, i32>),
    /// Entries of a directory.
    Entries(Vec<Entry>),
    /// What is known of files, or the errno of stat(2).
    Stats(Vec<Result<FileStat, i32>>),
    /// It takes longer.
    Working,
    /// The end of an answer.
    Done,
    /// The end of an answer: an errno.
    Failed(i32),
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory, not a link to one.
    Directory,
    /// A file.
    File(FileStat),
    /// A link, to anything.
    Link,
    /// It can't be looked at.
    Unreadable,
}

impl Request {
    /// The bytes that a path takes of [`MAX_PATHS_BYTES`].
    #[must_use]
    pub fn cost_of(path: &Path) -> usize {
        path.as_os_str().len() + PATH_COST
    }

    /// As a packet.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Request::Locate(path) => out.word(1).path(path),
            Request::List { path, mask } => out.word(2).path(path).u32(*mask),
            Request::Stat(paths) => {
                out.word(3).count(paths.len());
                paths.iter().fold(&mut out, |out, path| out.path(path))
            }
            Request::WatchAncestor { path, mask } => out.word(4).path(path).u32(*mask),
            Request::Put { path, mode, durable, keep_as } => {
                out.word(5).path(path).u32(*mode).word(u8::from(*durable)).word(u8::from(keep_as.is_some()));
                out.path(keep_as.as_deref().unwrap_or(Path::new("")))
            }
            Request::Get(path) => out.word(6).path(path),
            Request::Remove(path) => out.word(7).path(path),
        };
        out.0
    }

    /// From a packet.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Request> {
        let mut from = Reader(bytes);
        Ok(match from.word()? {
            1 => Request::Locate(from.path()?),
            2 => Request::List { path: from.path()?, mask: from.u32()? },
            3 => Request::Stat((0..from.u32()?).map(|_| from.path()).collect::<io::Result<_>>()?),
            4 => Request::WatchAncestor { path: from.path()?, mask: from.u32()? },
            5 => {
                let (path, mode, durable, keeps) = (from.path()?, from.u32()?, from.word()? != 0, from.word()? != 0);
                let keep_as = from.path()?;
                Request::Put { path, mode, durable, keep_as: keeps.then_some(keep_as) }
            }
            6 => Request::Get(from.path()?),
            7 => Request::Remove(from.path()?),
            _ => return Err(no_packet()),
        })
    }
}

impl Answer {
    /// True for the last part of an answer.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Answer::Done | Answer::Failed(_))
    }

    /// As a packet.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Answer::Located { path, is_local } => out.word(1).path(path).word(u8::from(*is_local)),
            Answer::Watched(Ok(watch)) => out.word(2).word(0).i32(*watch),
            Answer::Watched(Err(errno)) => out.word(2).word(1).i32(*errno),
            Answer::Entries(entries) => {
                out.word(3).count(entries.len());
                entries.iter().fold(&mut out, |out, Entry { name, kind }| {
                    let out = out.path(Path::new(name));
                    match kind {
                        EntryKind::Directory => out.word(1),
                        EntryKind::File(stat) => out.word(2).stat(stat),
                        EntryKind::Unreadable => out.word(3),
                        EntryKind::Link => out.word(4),
                    }
                })
            }
            Answer::Stats(stats) => {
                out.word(4).count(stats.len());
                stats.iter().fold(&mut out, |out, stat| match stat {
                    Ok(stat) => out.word(0).stat(stat),
                    Err(errno) => out.word(1).i32(*errno),
                })
            }
            Answer::Working => out.word(5),
            Answer::Done => out.word(6),
            Answer::Failed(errno) => out.word(7).i32(*errno),
        };
        out.0
    }

    /// From a packet.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Answer> {
        let mut from = Reader(bytes);
        Ok(match from.word()? {
            1 => Answer::Located { path: from.path()?, is_local: from.word()? != 0 },
            2 => Answer::Watched(from.result(Reader::i32)?),
            3 => Answer::Entries((0..from.u32()?).map(|_| from.entry()).collect::<io::Result<_>>()?),
            4 => Answer::Stats((0..from.u32()?).map(|_| from.result(Reader::stat)).collect::<io::Result<_>>()?),
            5 => Answer::Working,
            6 => Answer::Done,
            7 => Answer::Failed(from.i32()?),
            _ => return Err(no_packet()),
        })
    }
}

fn no_packet() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet of the helper process can't be read")
}

struct Writer(Vec<u8>);

impl Writer {
    fn word(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A packet holds fewer than 2^32 of anything.
    fn count(&mut self, count: usize) -> &mut Writer {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn path(&mut self, path: &Path) -> &mut Writer {
        let bytes = path.as_os_str().as_bytes();
        self.count(bytes.len());
        self.0.extend(bytes);
        self
    }

    fn stat(&mut self, stat: &FileStat) -> &mut Writer {
        let FileStat { mode, is_link, links, inode, size, mtime, mtime_nanos } = *stat;
        self.u32(mode).word(u8::from(is_link)).u64(links).u64(inode).u64(size).i64(mtime).i64(mtime_nanos)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or_else(no_packet)?;
        self.0 = rest;
        Ok(*first)
    }

    fn word(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn path(&mut self) -> io::Result<PathBuf> {
        let length = self.u32()? as usize;
        let (path, rest) = self.0.split_at_checked(length).ok_or_else(no_packet)?;
        self.0 = rest;
        Ok(OsString::from_vec(path.to_vec()).into())
    }

    fn stat(&mut self) -> io::Result<FileStat> {
        Ok(FileStat {
            mode: self.u32()?,
            is_link: self.word()? != 0,
            links: self.u64()?,
            inode: self.u64()?,
            size: self.u64()?,
            mtime: self.i64()?,
            mtime_nanos: self.i64()?,
        })
    }

    fn entry(&mut self) -> io::Result<Entry> {
        let name = self.path()?.into_os_string();
        let kind = match self.word()? {
            1 => EntryKind::Directory,
            2 => EntryKind::File(self.stat()?),
            3 => EntryKind::Unreadable,
            4 => EntryKind::Link,
            _ => return Err(no_packet()),
        };
        Ok(Entry { name, kind })
    }

    fn result<T>(&mut self, value: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<Result<T, i32>> {
        match self.word()? {
            0 => value(self).map(Ok),
            _ => self.i32().map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: FileStat =
        FileStat { mode: 0o100_644, is_link: true, links: 2, inode: 3, size: u64::MAX, mtime: -5, mtime_nanos: 999_999_999 };

    #[test]
    fn every_request_and_answer_is_read_as_it_was_written_and_a_cut_one_is_refused() {
        let path = PathBuf::from(OsString::from_vec(b"/a/\xff b".to_vec()));
        let requests = [
            Request::Locate(path.clone()),
            Request::List { path: path.clone(), mask: u32::MAX },
            Request::Stat(vec![path.clone(), "/b".into()]),
            Request::WatchAncestor { path: path.clone(), mask: 7 },
            Request::Put { path: path.clone(), mode: 0o644, durable: true, keep_as: Some("/kept".into()) },
            Request::Put { path: path.clone(), mode: 0o600, durable: false, keep_as: None },
            Request::Get(path.clone()),
            Request::Remove(path.clone()),
        ];
        for request in requests {
            let bytes = request.to_bytes();
            assert_eq!(Request::from_bytes(&bytes).unwrap(), request);
            (0..bytes.len()).for_each(|cut| assert!(Request::from_bytes(&bytes[..cut]).is_err(), "{request:?} cut at {cut}"));
        }
        let entry = |name: &str, kind| Entry { name: name.into(), kind };
        let entries = vec![
            entry("a", EntryKind::Directory),
            entry("b", EntryKind::File(STAT)),
            entry("c", EntryKind::Unreadable),
            entry("d", EntryKind::Link),
        ];
        let answers = [
            Answer::Located { path, is_local: true },
            Answer::Watched(Ok(3)),
            Answer::Watched(Err(28)),
            Answer::Entries(entries),
            Answer::Stats(vec![Ok(STAT), Err(2)]),
            Answer::Working,
            Answer::Done,
            Answer::Failed(5),
        ];
        for answer in answers {
            let bytes = answer.to_bytes();
            assert_eq!(Answer::from_bytes(&bytes).unwrap(), answer);
            (0..bytes.len()).for_each(|cut| assert!(Answer::from_bytes(&bytes[..cut]).is_err(), "{answer:?} cut at {cut}"));
        }
    }
}
