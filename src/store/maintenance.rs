//! Housekeeping while nothing is due: the write-ahead log goes into the database, which on a slow card takes longer than a
//! firing may be late.
//!
//! By itself SQLite does that in whichever commit fills the log, and a commit often stands right before the start of a
//! process. So the loop tells at the end of a turn how long nothing is due, and the log is emptied then; for its sake nothing
//! ever wakes. Where the loop never rests, SQLite's own limit is the net (`wal_autocheckpoint`).

use std::time::Duration;

use super::Store;
use super::apply::move_bound;

/// Pages in the log with which a rest of a [`LONG`] while is used.
const PAGES: i64 = 1_000;

/// Long enough for a checkpoint on most cards.
const LONG: Duration = Duration::from_secs(1);

/// Pages with which a rest of a [`SHORT`] while is used.
const MORE_PAGES: i64 = 2_000;

/// Long enough on most days.
const SHORT: Duration = Duration::from_millis(200);

/// Steps of a fold in a rest of a [`LONG`] while: some milliseconds.
const STEPS: usize = 4;

impl Store {
    /// Nothing is due for so long: what would hold up a commit is done now, if it is worth it.
    pub fn idle_maintenance(&mut self, quiet: Duration) {
        if quiet < SHORT {
            return;
        }
        if self.trouble.is_none() {
            (0..if quiet < LONG { 1 } else { STEPS }).for_each(|_| self.fold_seen(1));
        }
        if !self.checkpoint_due {
            return;
        }
        // A refusal costs nothing but the log's length, and is met again by the next commit if it lasts.
        let _ = self.checkpoint(if quiet < LONG { MORE_PAGES } else { PAGES });
    }

    fn checkpoint(&mut self, from: i64) -> rusqlite::Result<()> {
        // Asked for without doing anything (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>).
        if self.waiting_pages("PRAGMA wal_checkpoint(NOOP)")? < from {
            return Ok(());
        }
        let left = self.waiting_pages("PRAGMA wal_checkpoint(PASSIVE)")?;
        self.checkpoint_due = left > 0;
        // A reader may still need the rest of it. Without one, the next commit begins the log anew, which is a sync more:
        // better one that nobody waits for.
        if left == 0 {
            self.since_bound = 0;
            move_bound(&self.conn)?;
        }
        Ok(())
    }

    /// Pages of the log that are not in the database; none if there is no log.
    fn waiting_pages(&self, pragma: &str) -> rusqlite::Result<i64> {
        self.conn.prepare_cached(pragma)?.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    }
}
