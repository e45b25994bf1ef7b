//! Everything that the loop writes into the state: when a turn's changes are committed, held back or appended to the
//! journal, what is reported while writes fail, which old runs are deleted, and the copy of a state in memory.
//!
//! Nothing here knows who waits for a write: [`Ledger::write`] answers with [`Written`], and the turn goes on by it.

mod acts;
mod copy;
mod prune;
mod throttle;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::engine::{Change, RunState};
use crate::model::{Elapsed, JobId, Now, RunId};
use crate::store::{Store, WatchRecord};
use acts::Held;
use copy::SyncCopy;
use prune::Pruning;
use throttle::CommitThrottle;

pub use acts::Acts;
pub use copy::{Copied, StateCopy};
pub use throttle::CommitLimits;

/// What became of a turn's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There were none, or `commit_every` holds them back.
    Held,
    /// They are in the journal: a crash of the daemon does not lose them.
    Journaled,
    /// They are in the database, with everything that waited for it before.
    Committed {
        /// The write before this one had failed.
        recovered: bool,
    },
    /// They wait in memory for the next commit.
    Failed {
        /// The write before this one had worked.
        first: bool,
    },
}

/// The store, and all that decides when it is written.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    state_dir: PathBuf,
    held: Held,
    throttle: CommitThrottle,
    pruning: Pruning,
    copy: SyncCopy,
    /// The failure of the last write was logged.
    failing: bool,
}

impl Ledger {
    /// A ledger over an opened store in `state_dir`.
    #[must_use]
    pub fn new(store: Store, state_dir: PathBuf, limits: CommitLimits) -> Ledger {
        Ledger {
            store,
            state_dir,
            held: Held::default(),
            throttle: CommitThrottle::new(limits),
            pruning: Pruning::default(),
            copy: SyncCopy::default(),
            failing: false,
        }
    }

    /// The store, to read from.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Where the state and the logs are.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Why the state can't be written, while that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.store.trouble()
    }

    /// Why the last copy of the state failed.
    #[must_use]
    pub fn copy_trouble(&self) -> Option<&str> {
        self.copy.trouble()
    }

    /// The row of a job of the configuration.
    #[must_use]
    pub fn job_of(&self, row: i64) -> Option<JobId> {
        self.store.job_of(row)
    }

    /// When the ledger has something to do, but for [pruning](Ledger::next_prune), which can wait.
    #[must_use]
    pub fn next_wake(&self) -> Option<Elapsed> {
        [self.held.until(), self.throttle.until(), self.copy.due()].into_iter().flatten().min()
    }

    /// When the changes that `commit_every` holds back are written at the latest.
    #[must_use]
    pub fn held_until(&self) -> Option<Elapsed> {
        self.held.until()
    }

    /// Bytes of journal entries that are not in the database yet.
    #[must_use]
    pub fn journaled(&self) -> u64 {
        self.store.journal_bytes()
    }

    /// Writes a turn's changes and batches, or holds the changes back if they can be.
    pub fn write(&mut self, now: Elapsed, config: &Config, acts: TurnChanges) -> Written {
        let TurnChanges { changes, records, may_be_held } = acts;
        self.note_history(&changes);
        let may_be_held = may_be_held && records.is_empty();
        let Some(changes) = self.held.add(now, config.commit_every, changes, may_be_held) else { return Written::Held };
        if changes.is_empty() && records.is_empty() {
            return Written::Held;
        }
        if let Some(sync) = &config.sync {
            self.copy.changed(now + sync.every);
        }
        if records.is_empty() && !self.throttle.allows(now) && self.store.append(&changes) {
            self.throttle.appended(now);
            return Written::Journaled;
        }
        self.commit(changes, records)
    }

    /// Commits everything that is held back, in the journal or waiting in memory; `None` if nothing is.
    pub fn commit_all(&mut self) -> Option<Written> {
        let waits = !self.held.is_empty() || self.journaled() > 0 || self.trouble().is_some();
        let held = if waits { self.held.take() } else { return None };
        Some(self.commit(held, Vec::new()))
    }

    /// Tries again to commit what an earlier write could not.
    pub fn retry(&mut self) -> Written {
        self.commit(Vec::new(), Vec::new())
    }

    /// Commits the journal's entries if an idle moment is to be used for that; `alive` runs may soon write again.
    pub fn commit_journal_if_due(&mut self, now: Elapsed, alive: u32) -> Option<Written> {
        self.throttle.is_due(now, self.journaled(), alive).then(|| self.commit(Vec::new(), Vec::new()))
    }

    /// Nothing is due for so long: the time for a checkpoint.
    pub fn idle_maintenance(&mut self, quiet: Duration) {
        self.store.idle_maintenance(quiet);
    }

    /// Releases the memory that a start or a busy time needed.
    pub fn trim(&mut self) {
        self.store.trim();
    }

    /// The copy in `state.sync_to` could not be restored: it is kept beside the next one.
    pub fn keep_old_copy(&mut self) {
        self.copy.keep_old();
    }

    /// The end of the database's log, at the daemon's end.
    pub fn close(&mut self) {
        self.store.close();
    }

    fn commit(&mut self, changes: Vec<Change>, records: Vec<WatchRecord>) -> Written {
        self.throttle.committed();
        let result = self.store.commit(changes, records);
        let was_failing = std::mem::replace(&mut self.failing, result.is_err());
        match result {
            Ok(()) => {
                if was_failing {
                    log::warn!("the state can be written again; nothing of it is missing");
                }
                Written::Committed { recovered: was_failing }
            }
            Err(error) => {
                if !was_failing {
                    log::error!("{error}; jobs go on in memory, and the write is retried with each change");
                }
                Written::Failed { first: !was_failing }
            }
        }
    }

    /// Ended runs and missed deadlines are what a job's history grows by.
    fn note_history(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Run { record, .. } if matches!(record.state, RunState::Ended(_)) => self.pruning.note(record.job),
                Change::Missed { job, .. } => self.pruning.note(*job),
                _ => {}
            }
        }
    }
}

/// What one turn has to write.
#[derive(Debug, Default)]
pub struct TurnChanges {
    /// The engine's changes, in order.
    pub changes: Vec<Change>,
    /// Batches of sources, committed with them.
    pub records: Vec<WatchRecord>,
    /// Nothing relies on them before a crash.
    pub may_be_held: bool,
}
