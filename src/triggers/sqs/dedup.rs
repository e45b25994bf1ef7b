//! Deduplication: the ids of messages whose runs were stored, so that a message which is delivered again makes no second run.
//!
//! A deleted message may still be delivered once more, rarely and soon; so the latest [`MAX_KEPT`] ids are kept, in the store
//! too, and older ones expire. The version of an id is the time at which it was stored, which restores the order at a start.

use std::collections::{HashMap, VecDeque};

use crate::model::WallTime;
use crate::model::{ObjectKey, ObjectVersion, SeenObject};
use crate::triggers::watch::hash::{SPARE_BIT, object_key};

/// The number of ids kept.
const MAX_KEPT: usize = 10_000;

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DedupState {
    /// Its run was stored by an earlier daemon.
    StoredEarlier,
    /// Its run was stored by this daemon.
    Stored,
    /// Its run has succeeded.
    Succeeded,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DedupSet {
    states: HashMap<ObjectKey, DedupState>,
    /// Oldest first; an id that was removed and stored again is in it twice.
    order: VecDeque<ObjectKey>,
}

impl DedupSet {
    pub(super) fn from_snapshot(mut objects: Vec<SeenObject>) -> DedupSet {
        objects.sort_unstable_by_key(|object| ({ object.version.0 }, { object.key.0 }));
        let order = objects.iter().map(|object| object.key).collect();
        DedupSet { states: objects.iter().map(|object| (object.key, DedupState::StoredEarlier)).collect(), order }
    }

    pub(super) fn state(&self, id: &str) -> Option<DedupState> {
        self.states.get(&object_key(id)).copied()
    }

    /// The run of this message is in the store.
    pub(super) fn mark_stored(&mut self, id: &str) {
        let key = object_key(id);
        if self.states.insert(key, DedupState::Stored).is_none() {
            self.order.push_back(key);
        }
    }

    /// Its run has succeeded.
    pub(super) fn mark_succeeded(&mut self, id: &str) {
        if let Some(state) = self.states.get_mut(&object_key(id)) {
            *state = DedupState::Succeeded;
        }
    }

    /// Its run has failed: if it is delivered again, it is new. Returns the key to delete from the store, if it is there.
    pub(super) fn remove(&mut self, id: &str) -> Option<ObjectKey> {
        let key = object_key(id);
        self.states.remove(&key).map(|_| key)
    }

    /// Removes up to `limit` of the oldest ids beyond [`MAX_KEPT`], except for those in use, and returns them.
    pub(super) fn expire(&mut self, limit: usize, is_in_use: impl Fn(ObjectKey) -> bool) -> Vec<ObjectKey> {
        let mut expired = Vec::new();
        for _ in 0..limit {
            if self.order.len() <= MAX_KEPT {
                break;
            }
            let Some(key) = self.order.pop_front() else { break };
            if is_in_use(key) {
                self.order.push_back(key);
            } else if self.states.remove(&key).is_some() {
                expired.push(key);
            }
        }
        expired
    }
}

/// A message as a seen object in the store.
pub(super) fn seen(id: &str, at: WallTime) -> SeenObject {
    SeenObject { key: object_key(id), version: ObjectVersion(at.as_nanos().unsigned_abs() & !SPARE_BIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ids_expire_except_for_those_in_use() {
        let at = |n: i64| WallTime::from_secs(n);
        let objects: Vec<SeenObject> = (0..10_000).map(|n| seen(&format!("m-{n}"), at(n))).rev().collect();
        let mut set = DedupSet::from_snapshot(objects);
        assert_eq!(set.expire(100, |_| false), []);
        (10_000..10_003).for_each(|n| set.mark_stored(&format!("m-{n}")));
        let in_use = object_key("m-1");
        let left = set.expire(100, |key| key == in_use);
        assert_eq!(left, [object_key("m-0"), object_key("m-2"), object_key("m-3")]);
        assert_eq!(set.state("m-1"), Some(DedupState::StoredEarlier));
        assert_eq!((set.state("m-0"), set.state("m-10002")), (None, Some(DedupState::Stored)));
    }

    #[test]
    fn a_removed_id_is_new_again_and_a_succeeded_one_stays_known() {
        let mut set = DedupSet::default();
        set.mark_stored("a");
        set.mark_succeeded("a");
        set.mark_succeeded("b");
        assert_eq!((set.state("a"), set.state("b")), (Some(DedupState::Succeeded), None));
        assert_eq!(set.remove("a"), Some(object_key("a")));
        assert_eq!((set.state("a"), set.remove("a")), (None, None));
    }
}
