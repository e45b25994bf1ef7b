//! The copy of a state that is kept in memory to where `state.sync_to` says.

use super::Ledger;
use crate::config::Config;
use crate::model::{Elapsed, format_duration};

/// When the state is copied next, and why the last copy failed.
#[derive(Debug, Default)]
pub(super) struct SyncCopy {
    due: Option<Elapsed>,
    trouble: Option<String>,
}

impl SyncCopy {
    /// The state has changed: it is copied at `due` unless a copy is due before.
    pub fn changed(&mut self, due: Elapsed) {
        self.due.get_or_insert(due);
    }

    pub fn due(&self) -> Option<Elapsed> {
        self.due
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Ledger {
    /// Copies the state if that is due.
    pub fn copy_if_due(&mut self, now: Elapsed, config: &Config) {
        if self.copy.due.is_some_and(|at| at <= now) {
            self.copy_now(now, config);
        }
    }

    pub(super) fn copy_now(&mut self, now: Elapsed, config: &Config) {
        self.copy.due = None;
        let Some(sync) = &config.sync else { return };
        match self.store.copy_to(&sync.to) {
            Ok(()) => self.copy.trouble = None,
            Err(error) => {
                log::error!("{error}; the copy is retried in {}", format_duration(sync.every));
                self.copy.due = Some(now + sync.every);
                self.copy.trouble = Some(error.to_string());
            }
        }
    }
}
