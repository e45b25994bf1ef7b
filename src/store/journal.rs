//! The journal: turns that survive a crash of the daemon and are not in the database yet.
//!
//! A transaction costs dozens of system calls, and most of the pages that it writes are written again by the next one. While
//! turns follow each other closely, each is appended to this file by a single write instead, which survives the process as
//! well as a commit with `synchronous=NORMAL` does. From time to time a checkpoint brings all of them into the database in
//! one transaction.
//!
//! A frame is a header (the payload's length, its sequence number, a hash of number and payload; little-endian) and a JSON
//! array of entries. Sequence numbers count up by one; the database stores the last one that it has applied. Recovery
//! applies a frame if, and only if, its number follows on the applied one: after a checkpoint the file is overwritten from
//! its beginning, and stale frames behind the new ones are recognized by their numbers. Each daemon draws its first number at
//! random, so that frames of another database, or of transactions that a power cut rolled back, follow on nothing.

use std::fs::File;
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use rusqlite::{Connection, OptionalExtension as _};
use siphasher::sip::SipHasher13;

use super::JOURNAL;
use super::apply::{apply, in_transaction};
use super::entry::{Entry, coalesce};
use super::error::StoreError;
use crate::files::Dir;

/// Length, sequence number, hash.
const HEADER: usize = 4 + 8 + 8;

/// Bytes from which on a checkpoint has to come before the next frame: as much is read at a start and kept in memory.
const CHECKPOINT_BYTES: u64 = 256 << 10;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Journal {
    dir: Arc<Dir>,
    file: Option<File>,
    /// The offset of the next frame.
    end: u64,
    /// The sequence number of the last frame.
    last: i64,
    /// The database has stored the number before that of the file's first frame.
    has_base: bool,
    /// An append was refused because [`has_base`](Journal::has_base) was false: the next transaction stores a number.
    base_requested: bool,
    frame: Vec<u8>,
}

impl Journal {
    /// The file is created with the first frame.
    pub fn new(dir: Arc<Dir>) -> Journal {
        Journal { dir, file: None, end: 0, last: 0, has_base: false, base_requested: false, frame: Vec::new() }
    }

    /// Bytes in frames that the database has not applied.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// Whether a frame can be appended now. If only the stored sequence number is missing, the next transaction stores one.
    pub fn accepts_appends(&mut self) -> bool {
        self.base_requested |= !self.has_base;
        self.has_base && self.end < CHECKPOINT_BYTES
    }

    /// Appends a turn's entries as one frame.
    ///
    /// # Errors
    /// Those of the file system. A frame that was written in part is ignored by recovery.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.dir.open_file(JOURNAL, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?),
        };
        // Never used again, even if the write fails: part of this frame may be in the file.
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
            // The numbers have a gap now, which the next stored number closes.
            self.has_base = false;
            return Err(error);
        }
        self.end += self.frame.len() as u64;
        Ok(())
    }

    /// The sequence number that a transaction has to store as applied, if any.
    pub fn sequence_to_store(&mut self, conn: &Connection) -> rusqlite::Result<Option<i64>> {
        if !self.has_base && self.base_requested && self.end == 0 {
            // Two bits fewer, so that counting up never overflows.
            self.last = conn.query_row("SELECT abs(random() >> 2)", [], |row| row.get(0))?;
        }
        Ok((self.end > 0 || (self.base_requested && !self.has_base)).then_some(self.last))
    }

    /// The database has applied all of it: the next frame overwrites the file from its beginning.
    pub fn checkpointed(&mut self) {
        self.has_base |= self.base_requested;
        self.end = 0;
    }

    /// Removes the file and frees the buffer, until the next frame. Does nothing before a checkpoint.
    pub fn close(&mut self) {
        if self.end == 0 {
            self.trim();
            if self.file.take().is_some() {
                // Frames of a file that can't be removed are recognized as stale by their numbers.
                let _ = self.dir.remove_file(JOURNAL);
            }
        }
    }

    /// Frees the buffer.
    pub fn trim(&mut self) {
        self.frame = Vec::new();
    }
}

/// Stores the sequence number of the last applied frame.
pub(super) fn store_applied_sequence(conn: &Connection, sequence: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('journal', ?1)")?.execute([sequence]).map(drop)
}

/// The sequence number of the last applied frame; `None` if no journal was ever used with this database.
pub(super) fn applied_sequence(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = 'journal'")?.query_row([], |row| row.get(0)).optional()
}

/// Recovery: applies the frames that a daemon appended before it crashed.
///
/// # Errors
/// Those of the file system and of SQLite.
pub(super) fn replay(conn: &Connection, dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(JOURNAL);
    let sqlite = |error: rusqlite::Error| StoreError::from_sqlite(format!("replay {}", path.display()), &error);
    let Some(applied) = applied_sequence(conn).map_err(sqlite)? else { return Ok(()) };
    let found = read(dir, applied).map_err(|error| unreadable(dir, &error))?;
    if found.entries.is_empty() {
        return Ok(());
    }
    log::info!("recovery: replaying {} changes from {}", found.entries.len(), path.display());
    let entries = coalesce(found.entries);
    in_transaction(conn, |conn| {
        entries.iter().try_for_each(|entry| apply(conn, entry))?;
        store_applied_sequence(conn, found.last)
    })
    .map_err(sqlite)
}

/// The error for a journal that can't be read.
pub(super) fn unreadable(dir: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed { action: format!("read {}", dir.join(JOURNAL).display()), message: error.to_string() }
}

/// The frames of a file that follow on a sequence number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// In the order in which they were appended.
    pub entries: Vec<Entry>,
    /// The sequence number of the last frame.
    pub last: i64,
    /// The first frame's number is too large to follow: a checkpoint was made since the applied number was read.
    pub is_ahead: bool,
}

/// Reads the frames that follow on a sequence number; none if there is no file.
///
/// # Errors
/// Those of the file system, and of a frame whose hash is right and whose payload can't be parsed.
pub(super) fn read(dir: &Path, applied: i64) -> io::Result<Found> {
    let bytes = match std::fs::read(dir.join(JOURNAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let mut found = Found { last: applied, ..Found::default() };
    let mut rest = &*bytes;
    let mut first = true;
    while let Some((number, payload, behind)) = frame(rest) {
        if found.last.checked_add(1) != Some(number) {
            found.is_ahead = first && number > applied;
            break;
        }
        let entries: Vec<Entry> = serde_json::from_slice(payload).map_err(io::Error::other)?;
        found.entries.extend(entries);
        found.last = number;
        (rest, first) = (behind, false);
    }
    Ok(found)
}

/// The number and payload of the frame at the beginning, if it is complete, and the bytes behind it.
fn frame(bytes: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?);
    let number = i64::from_le_bytes(header[4..12].try_into().ok()?);
    let stored_hash = u64::from_le_bytes(header[12..].try_into().ok()?);
    let (payload, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    (hash(number, payload) == stored_hash).then_some((number, payload, behind))
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

    fn journal_after(dir: &Path, applied: i64) -> Journal {
        Journal { last: applied, has_base: true, ..Journal::new(Arc::new(Dir::open(dir).unwrap())) }
    }

    fn read_all(dir: &Path, applied: i64) -> Vec<Entry> {
        read(dir, applied).unwrap().entries
    }

    #[test]
    fn only_frames_that_follow_on_the_applied_sequence_number_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 7).unwrap(), Found { last: 7, ..Found::default() }, "no file");
        let mut journal = journal_after(dir.path(), 7);
        (1..=5).for_each(|number| journal.append(&turn(number)).unwrap());
        let found = read(dir.path(), 7).unwrap();
        assert_eq!((found.last, found.is_ahead), (12, false));
        assert_eq!(found.entries, (1..=5).flat_map(turn).collect::<Vec<_>>());
        // After a checkpoint the file is overwritten from its beginning; the frames behind the new one are stale.
        journal.checkpointed();
        assert_eq!(read_all(dir.path(), 12), []);
        journal.append(&turn(6)).unwrap();
        assert_eq!(read_all(dir.path(), 12), turn(6));
        let found = read(dir.path(), 7).unwrap();
        assert!(found.is_ahead && found.entries.is_empty(), "a reader with an older number has to read again: {found:?}");
        assert!(!read(dir.path(), 99).unwrap().is_ahead);
    }

    #[test]
    fn after_a_failed_append_no_frame_is_accepted_until_a_number_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal_after(dir.path(), 0);
        journal.append(&turn(1)).unwrap();
        journal.file = Some(File::open("/dev/full").unwrap());
        journal.append(&turn(2)).unwrap_err();
        assert!(!journal.accepts_appends());
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(journal.sequence_to_store(&conn).unwrap(), Some(2), "the number is used up");
        journal.checkpointed();
        assert!(journal.accepts_appends());
    }

    #[test]
    fn a_full_journal_accepts_no_appends_until_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal_after(dir.path(), 0);
        while journal.accepts_appends() {
            journal.append(&turn(2)).unwrap();
        }
        assert!(journal.size() >= CHECKPOINT_BYTES && journal.size() < CHECKPOINT_BYTES + 4_096);
        journal.checkpointed();
        assert!(journal.accepts_appends());
        journal.close();
        assert!(!dir.path().join(JOURNAL).exists());
    }

    proptest! {
        /// As after a crash of the machine, or with a bad block.
        #[test]
        fn frames_before_the_first_damaged_one_are_read_and_none_after_it(cut in 0_usize..2_000, flip in 0_usize..2_000, bit in 0_u8..8) {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = journal_after(dir.path(), 0);
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
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), applied: i64) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(JOURNAL), bytes).unwrap();
            prop_assert_eq!(read_all(dir.path(), applied), []);
        }
    }
}
