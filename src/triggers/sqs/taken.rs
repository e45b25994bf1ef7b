//! The messages that were taken, by their ids: what comes again makes no second run.
//!
//! A message that was deleted may still come once more, rarely and soon; so the latest [`KEPT`] ids stay, in the store
//! too, and older ones leave. The version of an id is when it was taken, by which a restart puts them in order.

use std::collections::{HashMap, VecDeque};

use crate::model::WallTime;
use crate::model::{ObjectKey, ObjectVersion, SeenObject};
use crate::triggers::watch::hash::{SPARE_BIT, object_key};

/// How many ids are kept.
const KEPT: usize = 10_000;

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An earlier daemon took it.
    Earlier,
    /// This one did.
    Taken,
    /// Its run has succeeded.
    Done,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Taken {
    fates: HashMap<ObjectKey, Fate>,
    /// Oldest first; an id that was forgotten and taken again stands in it twice.
    order: VecDeque<ObjectKey>,
}

impl Taken {
    pub(super) fn from_snapshot(mut objects: Vec<SeenObject>) -> Taken {
        objects.sort_unstable_by_key(|object| ({ object.version.0 }, { object.key.0 }));
        let order = objects.iter().map(|object| object.key).collect();
        Taken { fates: objects.iter().map(|object| (object.key, Fate::Earlier)).collect(), order }
    }

    pub(super) fn fate(&self, id: &str) -> Option<Fate> {
        self.fates.get(&object_key(id)).copied()
    }

    /// Notes what the store has.
    pub(super) fn insert(&mut self, id: &str) {
        let key = object_key(id);
        if self.fates.insert(key, Fate::Taken).is_none() {
            self.order.push_back(key);
        }
    }

    /// Its run has succeeded.
    pub(super) fn done(&mut self, id: &str) {
        if let Some(fate) = self.fates.get_mut(&object_key(id)) {
            *fate = Fate::Done;
        }
    }

    /// Its run has failed, and if it comes again, it is new. What the store must forget, if it knows it.
    pub(super) fn forget(&mut self, id: &str) -> Option<ObjectKey> {
        let key = object_key(id);
        self.fates.remove(&key).map(|_| key)
    }

    /// What is too old to be kept, at most so many; `is_needed` says which are not to leave yet.
    pub(super) fn outdated(&mut self, limit: usize, is_needed: impl Fn(ObjectKey) -> bool) -> Vec<ObjectKey> {
        let mut leaving = Vec::new();
        for _ in 0..limit {
            if self.order.len() <= KEPT {
                break;
            }
            let Some(key) = self.order.pop_front() else { break };
            if is_needed(key) {
                self.order.push_back(key);
            } else if self.fates.remove(&key).is_some() {
                leaving.push(key);
            }
        }
        leaving
    }
}

/// A message as the store keeps it.
pub(super) fn seen(id: &str, at: WallTime) -> SeenObject {
    SeenObject { key: object_key(id), version: ObjectVersion(at.as_nanos().unsigned_abs() & !SPARE_BIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ids_leave_but_for_those_that_are_needed() {
        let at = |n: i64| WallTime::from_secs(n);
        let objects: Vec<SeenObject> = (0..10_000).map(|n| seen(&format!("m-{n}"), at(n))).rev().collect();
        let mut taken = Taken::from_snapshot(objects);
        assert_eq!(taken.outdated(100, |_| false), []);
        (10_000..10_003).for_each(|n| taken.insert(&format!("m-{n}")));
        let needed = object_key("m-1");
        let left = taken.outdated(100, |key| key == needed);
        assert_eq!(left, [object_key("m-0"), object_key("m-2"), object_key("m-3")]);
        assert_eq!(taken.fate("m-1"), Some(Fate::Earlier));
        assert_eq!((taken.fate("m-0"), taken.fate("m-10002")), (None, Some(Fate::Taken)));
    }

    #[test]
    fn what_is_forgotten_is_new_again_and_what_is_done_stays_known() {
        let mut taken = Taken::default();
        taken.insert("a");
        taken.done("a");
        taken.done("b");
        assert_eq!((taken.fate("a"), taken.fate("b")), (Some(Fate::Done), None));
        assert_eq!(taken.forget("a"), Some(object_key("a")));
        assert_eq!((taken.fate("a"), taken.forget("a")), (None, None));
    }
}
