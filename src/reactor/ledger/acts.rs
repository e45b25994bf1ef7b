//! A turn's effects, sorted by when they are carried out, and the changes that may wait for a later transaction. Pure.

use std::time::Duration;

use crate::engine::{Change, Effect};
use crate::model::Elapsed;

/// A turn's effects: records go into one transaction, and everything else follows it.
#[derive(Debug, Default)]
pub struct Acts {
    /// The changes to store.
    pub changes: Vec<Change>,
    /// The effects that follow the transaction, in the engine's order.
    pub rest: Vec<Effect>,
    /// One of the other effects relies on the changes: no process may start before its record is safe.
    pub needs_commit_before_acting: bool,
    /// Losing the changes in a crash would not have an event acted on twice, so `commit_every` may hold them back.
    pub can_be_held: bool,
}

impl Acts {
    /// Sorts what the engine answered in one turn.
    #[must_use]
    pub fn sort(effects: Vec<Effect>) -> Acts {
        let mut acts = Acts { can_be_held: true, ..Acts::default() };
        for effect in effects {
            match effect {
                Effect::Record(change) => {
                    acts.can_be_held &= is_harmless(&change);
                    acts.changes.push(change);
                }
                other => {
                    acts.needs_commit_before_acting |= matches!(other, Effect::Spawn(_) | Effect::Load { .. } | Effect::Stopped);
                    acts.rest.push(other);
                }
            }
        }
        acts
    }

    /// True if the turn decided nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.rest.is_empty()
    }
}

/// How running runs go on and end can be lost: after a crash they are found as they are, or as lost.
fn is_harmless(change: &Change) -> bool {
    matches!(change, Change::Run { new: false, .. } | Change::AttemptFailed { .. })
}

/// The changes that `commit_every` holds back, and until when.
#[derive(Debug, Default)]
pub(super) struct Held {
    changes: Vec<Change>,
    until: Option<Elapsed>,
}

impl Held {
    /// Adds a turn's changes. Returns all that are to be written now, or `None` while they wait.
    pub fn add(&mut self, now: Elapsed, every: Duration, changes: Vec<Change>, may_wait: bool) -> Option<Vec<Change>> {
        let due = self.until.is_some_and(|until| until <= now);
        if every.is_zero() || due || !may_wait {
            self.changes.extend(changes);
            return Some(self.take());
        }
        if !changes.is_empty() {
            self.changes.extend(changes);
            self.until.get_or_insert(now + every);
        }
        None
    }

    /// Everything held back, to be written now.
    pub fn take(&mut self) -> Vec<Change> {
        self.until = None;
        std::mem::take(&mut self.changes)
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// When the changes are written at the latest.
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }
}
