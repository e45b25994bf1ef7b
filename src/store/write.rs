//! Writing: the changes of a turn, or of several that were jotted down, in one transaction.

use rusqlite::Connection;

use super::Durability;
use super::apply::{apply, in_transaction, move_bound};
use super::entry::{Entry, RowIds, coalesce};
use super::error::StoreError;
use super::{BACKLOG, JOURNAL, Store, WatchRecord, journal, seen};
use crate::engine::Change;

/// Runs between two moves of the bound below which no run is active, which is where a start begins to look.
const BOUND_EVERY: u32 = 256;

impl Store {
    /// Commits a turn's changes, and with them those that were jotted down or that the disk refused before, in one
    /// transaction.
    ///
    /// On an error nothing of it is in the database; the changes are kept in memory, up to a limit, and tried again
    /// with the next turn's, and [`Store::trouble`] tells until that works.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn commit(&mut self, changes: Vec<Change>, mut watches: Vec<WatchRecord>) -> Result<(), StoreError> {
        // Only one of the two has anything: while the disk refuses, nothing is jotted down.
        let mut entries = std::mem::take(&mut self.backlog);
        // Its memory goes, too: a busy minute is not for ever.
        entries.append(&mut std::mem::take(&mut self.jotted));
        entries.extend(changes.iter().map(|change| self.terms().entry(change)));
        if !self.watch_backlog.is_empty() {
            self.watch_backlog.append(&mut watches);
            watches = std::mem::take(&mut self.watch_backlog);
        }
        if entries.is_empty() && watches.is_empty() {
            return Ok(());
        }
        let mut entries = coalesce(entries);
        match self.write(&entries, &watches) {
            Ok(()) => {
                self.trouble = None;
                self.checkpoint_due = true;
                self.journal.folded();
                for watch in &watches {
                    let row = self.row_of(watch.job);
                    seen::note(&mut self.seen_lengths, row, &watch.batch);
                }
                // What no rest has come to.
                self.fold_seen(2);
                let runs = entries.iter().filter(|entry| matches!(entry, Entry::Run { new: true, .. })).count();
                self.since_bound = self.since_bound.saturating_add(u32::try_from(runs).unwrap_or(u32::MAX));
                if self.since_bound >= BOUND_EVERY {
                    self.since_bound = 0;
                    // Only a hint for the next start: a failure costs nothing but a longer look.
                    let _ = move_bound(&self.conn);
                }
                Ok(())
            }
            Err(error) => {
                let error = StoreError::from_sqlite(format!("write {}", self.path.display()), &error);
                let surplus = entries.len().saturating_sub(BACKLOG);
                entries.drain(..surplus);
                self.backlog = entries;
                self.watch_backlog = watches;
                self.trouble = Some(match surplus {
                    0 => format!("{error}; {} changes wait in memory", self.backlog.len()),
                    _ => format!("{error}; the oldest changes had to be dropped from memory"),
                });
                Err(error)
            }
        }
    }

    /// Makes a turn's changes safe from a crash of the daemon by a single write, and leaves the transaction for later:
    /// [`Store::catch_up`], the next [`Store::commit`], and each reading see to it. False if it has to be a commit: with
    /// [`Durability::Full`], while the disk refuses, and now and then.
    #[must_use]
    pub fn append(&mut self, changes: &[Change]) -> bool {
        let is_plain = |change: &Change| {
            // What else there is, is rare, and History::query would have to know it.
            matches!(
                change,
                Change::Run { .. }
                    | Change::AttemptFailed { .. }
                    | Change::Cursor { .. }
                    | Change::Anchor { .. }
                    | Change::Credit { .. }
            )
        };
        let is_calm = self.durability != Durability::Full && self.trouble.is_none() && self.backlog.is_empty();
        if !is_calm || !changes.iter().all(is_plain) || !self.journal.takes() {
            return false;
        }
        let entries: Vec<Entry> = changes.iter().map(|change| self.terms().entry(change)).collect();
        match self.journal.append(&entries) {
            Ok(()) => {
                self.jotted.extend(entries);
                true
            }
            Err(error) => {
                // The commit that follows meets the same disk, and tells.
                log::debug!("{}: {error}", self.path.with_file_name(JOURNAL).display());
                false
            }
        }
    }

    /// Bytes that were jotted down and are not in the database yet.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal.size()
    }

    /// Brings what was jotted down into the database.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.jotted.is_empty() { Ok(()) } else { self.commit(Vec::new(), Vec::new()) }
    }

    /// For a reading, which goes on with what is there if the disk refuses: [`Store::trouble`] tells.
    pub(super) fn caught_up(&mut self) -> &Connection {
        let _ = self.catch_up();
        &self.conn
    }

    fn terms(&self) -> RowIds<'_> {
        RowIds { job_rows: &self.job_rows, boot: &self.boot_id }
    }

    fn write(&mut self, entries: &[Entry], watches: &[WatchRecord]) -> rusqlite::Result<()> {
        let mark = self.journal.mark(&self.conn)?;
        let terms = self.terms();
        in_transaction(&self.conn, |conn| {
            entries.iter().try_for_each(|entry| apply(conn, entry))?;
            for watch in watches {
                seen::write(conn, terms.row_of(watch.job), &watch.batch)?;
            }
            mark.map_or(Ok(()), |mark| journal::set_mark(conn, mark))
        })
    }
}
