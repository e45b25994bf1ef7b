//! Writing: the changes of a turn, or of several that are in the journal, in one transaction.

use rusqlite::Connection;

use super::Durability;
use super::apply::{apply, in_transaction, move_bound};
use super::entry::{Entry, RowIds, coalesce};
use super::error::StoreError;
use super::{BACKLOG, JOURNAL, Store, WatchRecord, journal, seen};
use crate::engine::Change;

/// New runs between two updates of the number below which no run is active, from which on a start looks for active runs.
const BOUND_EVERY: u32 = 256;

impl Store {
    /// Commits a turn's changes in one transaction, together with those in the journal or of transactions that failed.
    ///
    /// On an error the transaction is rolled back; the changes are kept in memory, up to a limit, and written with the next
    /// turn's. Until that succeeds, [`Store::trouble`] has the error.
    ///
    /// # Errors
    /// Those of SQLite, which include those of the file system.
    pub fn commit(&mut self, changes: Vec<Change>, mut watches: Vec<WatchRecord>) -> Result<(), StoreError> {
        // Only one of the two has entries: while writes fail, nothing is appended to the journal.
        let mut entries = std::mem::take(&mut self.backlog);
        // Not `append`ed in place, which would keep the capacity of a busy minute.
        entries.append(&mut std::mem::take(&mut self.journaled));
        entries.extend(changes.iter().map(|change| self.row_ids().entry(change)));
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
                self.journal.checkpointed();
                for watch in &watches {
                    let row = self.row_of(watch.job);
                    seen::add_length(&mut self.seen_lengths, row, &watch.batch);
                }
                // For a loop that is never idle.
                self.compact_seen(2);
                let runs = entries.iter().filter(|entry| matches!(entry, Entry::Run { new: true, .. })).count();
                self.since_bound = self.since_bound.saturating_add(u32::try_from(runs).unwrap_or(u32::MAX));
                if self.since_bound >= BOUND_EVERY {
                    self.since_bound = 0;
                    // Only a hint for the next start: without it the start reads more rows.
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

    /// Appends a turn's changes to the journal by a single write(2), after which they survive a crash of the daemon. The
    /// transaction follows with [`Store::catch_up`], the next [`Store::commit`] or the next query. False if the changes have
    /// to be committed instead: with [`Durability::Full`], while writes fail, for rare kinds of changes, and when the journal
    /// needs a checkpoint.
    #[must_use]
    pub fn append(&mut self, changes: &[Change]) -> bool {
        let is_plain = |change: &Change| {
            // The other kinds are rare, and History::query would have to merge them.
            matches!(
                change,
                Change::Run { .. }
                    | Change::AttemptFailed { .. }
                    | Change::Cursor { .. }
                    | Change::Anchor { .. }
                    | Change::Credit { .. }
            )
        };
        let is_healthy = self.durability != Durability::Full && self.trouble.is_none() && self.backlog.is_empty();
        if !is_healthy || !changes.iter().all(is_plain) || !self.journal.accepts_appends() {
            return false;
        }
        let entries: Vec<Entry> = changes.iter().map(|change| self.row_ids().entry(change)).collect();
        match self.journal.append(&entries) {
            Ok(()) => {
                self.journaled.extend(entries);
                true
            }
            Err(error) => {
                // The commit that follows meets the same error, and reports it.
                log::debug!("{}: {error}", self.path.with_file_name(JOURNAL).display());
                false
            }
        }
    }

    /// Bytes of the journal that are not in the database yet.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal.size()
    }

    /// Checkpoint: commits the journal's entries to the database.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.journaled.is_empty() { Ok(()) } else { self.commit(Vec::new(), Vec::new()) }
    }

    /// The database for a query, after a checkpoint of the journal. If that fails, the query sees the last committed state,
    /// and [`Store::trouble`] has the error.
    pub(super) fn caught_up(&mut self) -> &Connection {
        let _ = self.catch_up();
        &self.conn
    }

    fn row_ids(&self) -> RowIds<'_> {
        RowIds { job_rows: &self.job_rows, boot: &self.boot_id }
    }

    fn write(&mut self, entries: &[Entry], watches: &[WatchRecord]) -> rusqlite::Result<()> {
        let sequence = self.journal.sequence_to_store(&self.conn)?;
        let row_ids = self.row_ids();
        in_transaction(&self.conn, |conn| {
            entries.iter().try_for_each(|entry| apply(conn, entry))?;
            for watch in watches {
                seen::write(conn, row_ids.row_of(watch.job), &watch.batch)?;
            }
            sequence.map_or(Ok(()), |sequence| journal::store_applied_sequence(conn, sequence))
        })
    }
}
