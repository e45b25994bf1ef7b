//! What a turn decided, in the order in which it is done, and what of it may wait for a later transaction. Pure, so that
//! the simulation runs it as it stands here.

use std::time::Duration;

use crate::engine::{Change, Effect};
use crate::model::Elapsed;
use crate::planted::{self, Bug};

/// A turn's effects, sorted: records, which go into one transaction, before everything else.
#[derive(Debug, Default)]
pub struct Acts {
    /// What is to be stored.
    pub changes: Vec<Change>,
    /// What is to be done once it is.
    pub rest: Vec<Effect>,
    /// True if something of the rest relies on what is stored: no process may start before its record is safe.
    pub presses: bool,
}

/// Sorts.
#[must_use]
pub fn sort(effects: Vec<Effect>) -> Acts {
    let mut acts = Acts::default();
    for effect in effects {
        match effect {
            Effect::Record(change) => acts.changes.push(change),
            other => acts.rest.push(other),
        }
    }
    if planted::is(Bug::RecordsReversed) {
        acts.changes.reverse();
    }
    acts.presses = acts.rest.iter().any(|effect| match effect {
        Effect::Spawn(_) => !planted::is(Bug::SpawnBeforeCommit),
        Effect::Load { .. } | Effect::Stopped => true,
        _ => false,
    });
    acts
}

/// Changes that `commit_every` holds back, and until when.
#[derive(Debug, Default)]
pub struct Held {
    changes: Vec<Change>,
    until: Option<Elapsed>,
}

impl Held {
    /// Adds a turn's changes, and gives back all that is to be written now, if that is to be done. Only what can be lost
    /// without an event being acted on twice is held back, which is how running runs go on and end.
    pub fn gather(&mut self, now: Elapsed, every: Duration, changes: Vec<Change>, presses: bool) -> Option<Vec<Change>> {
        let harmless = |change: &Change| {
            matches!(change, Change::Run { new: false, .. } | Change::AttemptFailed { .. }) || planted::is(Bug::EverythingHeld)
        };
        let due = self.until.is_some_and(|until| until <= now) && !planted::is(Bug::HeldTooLong);
        self.changes.extend(changes);
        if !every.is_zero() && !presses && !due && self.changes.iter().all(harmless) {
            if !self.changes.is_empty() {
                self.until.get_or_insert(now + every);
            }
            return None;
        }
        Some(self.take())
    }

    /// All that is held, to be written now.
    pub fn take(&mut self) -> Vec<Change> {
        self.until = None;
        std::mem::take(&mut self.changes)
    }

    /// True if nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// When it is to be written at the latest.
    #[must_use]
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }
}
