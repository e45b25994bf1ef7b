//! Processes that may not have executed their programs yet.

use super::groups::RunGroup;
use crate::engine::Spawn;
use crate::exec::{Cgroup, PendingSpawn};
use crate::model::RunId;

/// How many processes start at once: more than any of these machines has processors. Each takes a stack meanwhile.
const AT_ONCE: usize = 32;

/// One of them.
pub(super) struct Pending {
    pub spawn: Box<Spawn>,
    pub begun: PendingSpawn,
    pub group: Option<Cgroup>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Starting(Vec<Pending>);

impl Starting {
    pub fn add(&mut self, spawn: Box<Spawn>, begun: PendingSpawn, group: Option<RunGroup>) {
        self.0.push(Pending { spawn, begun, group: group.map(|group| group.group) });
    }

    /// True if it is time to wait for them.
    pub fn is_full(&self) -> bool {
        self.0.len() >= AT_ONCE
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, run: RunId) -> bool {
        self.0.iter().any(|pending| pending.spawn.run == run)
    }

    /// Those that have executed their programs; with `wait`, all.
    pub fn take(&mut self, wait: bool) -> Vec<Pending> {
        self.0.extract_if(.., |pending| wait || pending.begun.has_execed()).collect()
    }
}
