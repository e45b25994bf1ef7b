//! What jobs share: ten thousand of them differ in little, and what they have alike is kept once and looked at once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::rules::Policy;
use crate::exec::spec::{Action, ExecSpec};
use crate::model::TriggerWord;
use crate::triggers::Trigger;
use crate::triggers::cron::Zone;

/// The collections. They last as long as the file is read.
#[derive(Default)]
pub(super) struct Common<'a> {
    pub(super) specs: Pool<ExecSpec>,
    pub(super) actions: Pool<Action>,
    pub(super) policies: Pool<Policy>,
    triggers: Triggers<'a>,
    /// Files that nothing is to be said of.
    pub(super) sound: HashSet<PathBuf>,
}

/// Equal values, once each.
pub(super) struct Pool<T> {
    /// The one that was asked for last. It is likely the next one too, and to compare with it is less than a hash of all
    /// fields.
    last: Option<Arc<T>>,
    known: HashSet<Arc<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { last: None, known: HashSet::new() }
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The first value that is equal to this one.
    pub(super) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == value) {
            return Arc::clone(last);
        }
        let shared = match self.known.get(&value) {
            Some(known) => Arc::clone(known),
            None => {
                let value = Arc::new(value);
                self.known.insert(Arc::clone(&value));
                value
            }
        };
        self.last = Some(Arc::clone(&shared));
        shared
    }
}

/// All that a trigger of time is made of, if nothing else stands there: its type, its only key's value and the zone.
pub(super) type Written<'a> = (&'static str, &'a str, Zone);

#[derive(Default)]
struct Triggers<'a> {
    written: HashMap<Written<'a>, Arc<dyn Trigger>>,
    /// By a hash of their summaries.
    made: HashMap<u64, Arc<dyn Trigger>>,
}

impl<'a> Common<'a> {
    /// The trigger that was made of the same words.
    pub(super) fn written(&self, written: Option<Written<'a>>) -> Option<Arc<dyn Trigger>> {
        self.triggers.written.get(&written?).map(Arc::clone)
    }

    /// The first trigger that is the same as this one. Two are, if their summaries and their timing are; those that watch
    /// something belong to one job each.
    pub(super) fn trigger(&mut self, trigger: Box<dyn Trigger>, written: Option<Written<'a>>) -> Arc<dyn Trigger> {
        if matches!(trigger.kind(), TriggerWord::Watch | TriggerWord::Plugin) {
            return trigger.into();
        }
        let summary = trigger.summary();
        let mut hasher = DefaultHasher::new();
        summary.hash(&mut hasher);
        let trigger = match self.triggers.made.entry(hasher.finish()) {
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(trigger.into())),
            Entry::Occupied(known) => {
                let known = known.get();
                let same = known.kind() == trigger.kind() && known.timing() == trigger.timing() && known.summary() == summary;
                if same { Arc::clone(known) } else { trigger.into() }
            }
        };
        if let Some(written) = written {
            self.triggers.written.insert(written, Arc::clone(&trigger));
        }
        trigger
    }
}
