//! Turns that are safe from a crash and not in the database yet.
//!
//! A transaction costs dozens of system calls, and most of the pages that it writes are written again by the next one. While
//! turns follow each other closely, each is appended to this file by a single write instead, which survives the process as
//! well as a commit with `synchronous=NORMAL` does, and now and then all of them go into the database in one transaction.
//!
//! A frame is a header (the payload's length, its number, a hash of both number and payload; little-endian) and a JSON array
//! of entries. Numbers count up by one; the database knows the last one that it holds, its *mark*. So what a frame says is
//! to be done if, and only if, it follows on the mark: after a transaction the file is written anew from its beginning, and
//! what is left of older frames is told by its numbers. The first number is drawn by lot whenever a daemon begins a journal,
//! so that frames of another database, or of a time that a power cut took back, follow on nothing.

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use siphasher::sip::SipHasher13;

use super::JOURNAL;
use super::apply::{apply, in_transaction};
use super::entry::{Entry, coalesce};
use super::error::StoreError;

/// Length, number, hash.
const HEADER: usize = 4 + 8 + 8;

/// With so many bytes it takes no more: as much is read at a start, and kept in memory.
const FULL: u64 = 256 << 10;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// Where the next frame goes.
    end: u64,
    /// The last frame's number.
    last: i64,
    /// The database knows the number before the file's first frame.
    marked: bool,
    /// A turn would have liked to be here.
    wanted: bool,
    frame: Vec<u8>,
}

impl Journal {
    /// Nothing is written before the first frame.
    pub fn new(dir: &Path) -> Journal {
        Journal { path: dir.join(JOURNAL), file: None, end: 0, last: 0, marked: false, wanted: false, frame: Vec::new() }
    }

    /// Bytes in frames that the database does not have.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// Whether a frame can be written now; if only the mark is missing, the next transaction makes it.
    pub fn takes(&mut self) -> bool {
        self.wanted |= !self.marked;
        self.marked && self.end < FULL
    }

    /// Writes a turn.
    ///
    /// # Errors
    /// What the disk said. Whatever reached it counts for nothing.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?),
        };
        // Used up even if the write fails: no later frame has this number.
        self.last += 1;
        self.frame.clear();
        self.frame.resize(HEADER, 0);
        serde_json::to_writer(&mut self.frame, entries)?;
        let (header, payload) = self.frame.split_at_mut(HEADER);
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..12].copy_from_slice(&self.last.to_le_bytes());
        header[12..].copy_from_slice(&hash(self.last, payload).to_le_bytes());
        if let Err(error) = file.write_all_at(&self.frame, self.end) {
            // The numbers have a gap now, which the next mark closes.
            self.marked = false;
            return Err(error);
        }
        self.end += self.frame.len() as u64;
        Ok(())
    }

    /// The mark that a transaction has to make, if any.
    pub fn mark(&mut self, conn: &Connection) -> rusqlite::Result<Option<i64>> {
        if !self.marked && self.wanted && self.end == 0 {
            // Two bits fewer: there is no end of numbers to come to.
            self.last = conn.query_row("SELECT abs(random() >> 2)", [], |row| row.get(0))?;
        }
        Ok((self.end > 0 || (self.wanted && !self.marked)).then_some(self.last))
    }

    /// The database has all of it.
    pub fn folded(&mut self) {
        self.marked |= self.wanted;
        self.end = 0;
    }

    /// Lets go of the file and of what its frames needed, until the next one.
    pub fn close(&mut self) {
        if self.end == 0 {
            self.forget();
            if self.file.take().is_some() {
                // One that stays is told by its numbers.
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }

    /// As [`Journal::close`] does, but for the file.
    pub fn forget(&mut self) {
        self.frame = Vec::new();
    }
}

/// Notes a mark.
pub(super) fn set_mark(conn: &Connection, mark: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('journal', ?1)")?.execute([mark]).map(drop)
}

/// The mark, if there is one.
pub(super) fn read_mark(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = 'journal'")?.query_row([], |row| row.get(0)).optional()
}

/// Brings what a daemon that crashed had jotted down into the database.
///
/// # Errors
/// What the disk or SQLite said.
pub(super) fn replay(conn: &Connection, dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(JOURNAL);
    let sqlite = |error: rusqlite::Error| StoreError::from_sqlite(format!("bring {} into the database", path.display()), &error);
    let Some(mark) = read_mark(conn).map_err(sqlite)? else { return Ok(()) };
    let found = read(dir, mark).map_err(|error| unreadable(dir, &error))?;
    if found.entries.is_empty() {
        return Ok(());
    }
    log::info!("{} has {} changes that the database lacks", path.display(), found.entries.len());
    let entries = coalesce(found.entries);
    in_transaction(conn, |conn| {
        entries.iter().try_for_each(|entry| apply(conn, entry))?;
        set_mark(conn, found.last)
    })
    .map_err(sqlite)
}

/// Why a journal says nothing.
pub(super) fn unreadable(dir: &Path, error: &io::Error) -> StoreError {
    StoreError::Refused { tried: format!("read {}", dir.join(JOURNAL).display()), said: error.to_string() }
}

/// What a file says that follows on a mark.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// In the order in which it was written.
    pub entries: Vec<Entry>,
    /// The last frame's number.
    pub last: i64,
    /// The file begins behind what follows on the mark: the database has moved on since the mark was read.
    pub is_ahead: bool,
}

/// Reads what follows on a mark; an absent file says nothing.
///
/// # Errors
/// What the disk said, or that a frame is whole and yet can't be understood.
pub(super) fn read(dir: &Path, mark: i64) -> io::Result<Found> {
    let bytes = match std::fs::read(dir.join(JOURNAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let mut found = Found { last: mark, ..Found::default() };
    let mut rest = &*bytes;
    let mut first = true;
    while let Some((number, payload, behind)) = frame(rest) {
        if found.last.checked_add(1) != Some(number) {
            found.is_ahead = first && number > mark;
            break;
        }
        let entries: Vec<Entry> = serde_json::from_slice(payload).map_err(io::Error::other)?;
        found.entries.extend(entries);
        found.last = number;
        (rest, first) = (behind, false);
    }
    Ok(found)
}

/// The number and payload of the frame at the beginning, if there is a whole one, and what is behind it.
fn frame(bytes: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?);
    let number = i64::from_le_bytes(header[4..12].try_into().ok()?);
    let told = u64::from_le_bytes(header[12..].try_into().ok()?);
    let (payload, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    (hash(number, payload) == told).then_some((number, payload, behind))
}

fn hash(number: i64, payload: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_i64(number);
    hasher.write(payload);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WallTime;
    use proptest::prelude::*;

    fn turn(number: i64) -> Vec<Entry> {
        vec![Entry::Cursor { job: number, at: WallTime::from_secs(number) }; usize::try_from(number % 3).unwrap() + 1]
    }

    fn marked(dir: &Path, mark: i64) -> Journal {
        Journal { last: mark, marked: true, ..Journal::new(dir) }
    }

    fn read_all(dir: &Path, mark: i64) -> Vec<Entry> {
        read(dir, mark).unwrap().entries
    }

    #[test]
    fn what_follows_on_the_mark_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 7).unwrap(), Found { last: 7, ..Found::default() }, "no file");
        let mut journal = marked(dir.path(), 7);
        (1..=5).for_each(|number| journal.append(&turn(number)).unwrap());
        let found = read(dir.path(), 7).unwrap();
        assert_eq!((found.last, found.is_ahead), (12, false));
        assert_eq!(found.entries, (1..=5).flat_map(turn).collect::<Vec<_>>());
        // The database has taken it, and the file begins anew over what is left of it.
        journal.folded();
        assert_eq!(read_all(dir.path(), 12), []);
        journal.append(&turn(6)).unwrap();
        assert_eq!(read_all(dir.path(), 12), turn(6));
        let found = read(dir.path(), 7).unwrap();
        assert!(found.is_ahead && found.entries.is_empty(), "somebody who knows an older mark looks again: {found:?}");
        assert!(!read(dir.path(), 99).unwrap().is_ahead);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = marked(dir.path(), 0);
        journal.append(&turn(1)).unwrap();
        journal.file = Some(File::open("/dev/full").unwrap());
        journal.append(&turn(2)).unwrap_err();
        assert!(!journal.takes(), "not before the database has a new mark");
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(journal.mark(&conn).unwrap(), Some(2), "the number is used up");
        journal.folded();
        assert!(journal.takes());
    }

    #[test]
    fn one_that_is_full_takes_no_more_until_it_is_folded() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = marked(dir.path(), 0);
        while journal.takes() {
            journal.append(&turn(2)).unwrap();
        }
        assert!(journal.size() >= FULL && journal.size() < FULL + 4_096);
        journal.folded();
        assert!(journal.takes());
        journal.close();
        assert!(!dir.path().join(JOURNAL).exists());
    }

    proptest! {
        /// The file after a crash of the machine, or after a bad block: frames before the damage are read, none after it.
        #[test]
        fn damage_ends_the_reading(cut in 0_usize..2_000, flip in 0_usize..2_000, bit in 0_u8..8) {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = marked(dir.path(), 0);
            let mut ends = Vec::new();
            for number in 1..=10 {
                journal.append(&turn(number)).unwrap();
                ends.push(usize::try_from(journal.size()).unwrap());
            }
            let path = dir.path().join(JOURNAL);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(cut);
            if let Some(byte) = bytes.get_mut(flip) {
                *byte ^= 1 << bit;
            }
            let sound = if flip < bytes.len() { flip } else { bytes.len() };
            std::fs::write(&path, &bytes).unwrap();
            let whole = ends.iter().filter(|end| **end <= sound).count();
            let expected: Vec<Entry> = (1..=i64::try_from(whole).unwrap()).flat_map(turn).collect();
            prop_assert_eq!(read_all(dir.path(), 0), expected);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), mark: i64) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(JOURNAL), bytes).unwrap();
            prop_assert_eq!(read_all(dir.path(), mark), []);
        }
    }
}
