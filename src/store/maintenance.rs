//! Maintenance while nothing is due: checkpoints of SQLite's write-ahead log, which on a slow card take longer than a firing may
//! be late.
//!
//! By default SQLite makes a checkpoint in the commit that fills the log, and a commit often comes right before the start of
//! a process. So at the end of a turn the loop says for how long nothing is due, and the checkpoint is made then; the daemon
//! never wakes up for it. Under constant load SQLite's own limit applies (`wal_autocheckpoint`).

use std::time::Duration;

use super::Store;
use super::apply::move_bound;

/// Pages in the log from which on a checkpoint is made in an idle time of [`LONG_IDLE`].
const PAGES: i64 = 1_000;

/// Long enough for a checkpoint on most cards.
const LONG_IDLE: Duration = Duration::from_secs(1);

/// The same for [`SHORT_IDLE`].
const MORE_PAGES: i64 = 2_000;

/// Long enough for a checkpoint in most cases.
const SHORT_IDLE: Duration = Duration::from_millis(200);

/// Steps of compaction in an idle time of [`LONG_IDLE`]: some milliseconds.
const STEPS: usize = 4;

impl Store {
    /// Does the work that would delay a later commit, if `idle`, the time until something is due, is long enough.
    pub fn idle_maintenance(&mut self, idle: Duration) {
        if idle < SHORT_IDLE {
            return;
        }
        if self.trouble.is_none() {
            (0..if idle < LONG_IDLE { 1 } else { STEPS }).for_each(|_| self.compact_seen(1));
        }
        if !self.checkpoint_due {
            return;
        }
        // An error only leaves the log longer; if it lasts, the next commit reports it.
        let _ = self.checkpoint(if idle < LONG_IDLE { MORE_PAGES } else { PAGES });
    }

    /// Makes a checkpoint if the log has `from` pages.
    fn checkpoint(&mut self, from: i64) -> rusqlite::Result<()> {
        // NOOP reports the numbers and does nothing (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>).
        if self.pending_pages("PRAGMA wal_checkpoint(NOOP)")? < from {
            return Ok(());
        }
        let left = self.pending_pages("PRAGMA wal_checkpoint(PASSIVE)")?;
        self.checkpoint_due = left > 0;
        // A reader may still need the rest of it. Without one, the next commit restarts the log, which costs an fsync more:
        // better in this one, which delays no process.
        if left == 0 {
            self.since_bound = 0;
            move_bound(&self.conn)?;
        }
        Ok(())
    }

    /// Pages of the log that are not in the database.
    fn pending_pages(&self, pragma: &str) -> rusqlite::Result<i64> {
        self.conn.prepare_cached(pragma)?.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    }
}
