//! Processes that have not executed their programs yet.
//!
//! Usually that takes well under a millisecond. A working directory, a script or a program on a file system that does not answer
//! holds its process up for as long, and nothing else: the loop waits for all of them through epoll.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::groups::RunGroup;
use super::start::{AbandonedStarts, Start};
use crate::engine::{Spawn, StopSignal};
use crate::exec::{Cgroup, Child, GroupSignal, Known, PendingSpawn};
use crate::model::{Elapsed, RunId};
use crate::reactor::io::{Io, What};

/// How many processes start at once: more than any of these machines has processors. Each takes a stack and descriptors
/// meanwhile.
const AT_ONCE: usize = 32;

/// A process that takes longer than this does not count as one of those: others go on beside it.
const SLOW: Duration = Duration::from_millis(100);

/// How long a start may still take once its process was killed, or the daemon is to stop.
const LIMIT_AT_END: Duration = Duration::from_secs(1);

struct Pending {
    spawn: Box<Spawn>,
    start: Start,
    group: Option<Cgroup>,
    since: Elapsed,
}

/// A start that is over.
pub(super) struct Finished {
    pub spawn: Box<Spawn>,
    /// The control group that was made for it.
    pub group: Option<Cgroup>,
    /// The error is a sentence for a person.
    pub result: Result<Child, String>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Starting {
    pending: BTreeMap<RunId, Pending>,
    /// Attempts that were not begun, because too many start at once.
    queue: VecDeque<Box<Spawn>>,
    finished: Vec<Finished>,
    abandoned: AbandonedStarts,
}

impl Starting {
    /// True if another process may begin to start now.
    pub fn has_room(&self, now: Elapsed) -> bool {
        self.pending.values().filter(|pending| now.since(pending.since) < SLOW).count() < AT_ONCE
    }

    /// An attempt has to wait until others have started.
    pub fn wait_for_room(&mut self, spawn: Box<Spawn>) {
        self.queue.push_back(spawn);
    }

    /// An attempt that waits and need not any longer.
    pub fn next_in_queue(&mut self, now: Elapsed) -> Option<Box<Spawn>> {
        if self.has_room(now) { self.queue.pop_front() } else { None }
    }

    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn add(&mut self, io: &mut Io, spawn: Box<Spawn>, begun: PendingSpawn, group: Option<RunGroup>, now: Elapsed) {
        let group = group.map(|group| group.group);
        let run = spawn.run;
        match Start::watch(io, begun, What::Start(run), now) {
            Ok(start) => {
                self.pending.insert(run, Pending { spawn, start, group, since: now });
            }
            Err(reason) => self.finished.push(Finished { spawn, group, result: Err(reason) }),
        }
    }

    /// An attempt could not begin to start.
    pub fn refused(&mut self, spawn: Box<Spawn>, group: Option<RunGroup>, reason: String) {
        self.finished.push(Finished { spawn, group: group.map(|group| group.group), result: Err(reason) });
    }

    /// There is progress with a run's process.
    pub fn ready(&mut self, io: &mut Io, run: RunId) {
        let Some(Pending { spawn, start, group, since }) = self.pending.remove(&run) else { return };
        match start.finish(io) {
            Ok(result) => self.finished.push(Finished { spawn, group, result }),
            Err(start) => {
                self.pending.insert(run, Pending { spawn, start, group, since });
            }
        }
    }

    /// Gives up those that take too long.
    pub fn give_up_overdue(&mut self, io: &mut Io, now: Elapsed) {
        for (_, Pending { spawn, start, group, .. }) in self.pending.extract_if(.., |_, pending| pending.start.until() <= now) {
            let reason = start.give_up(io, &mut self.abandoned);
            self.finished.push(Finished { spawn, group, result: Err(reason) });
        }
    }

    /// Signals the process of a run that starts; false if there is none.
    pub fn signal(&mut self, run: RunId, signal: StopSignal, now: Elapsed) -> bool {
        if let Some(pending) = self.pending.get_mut(&run) {
            match signal {
                StopSignal::Term => pending.start.signal(GroupSignal::Term),
                StopSignal::Kill => {
                    pending.start.signal(GroupSignal::Kill);
                    pending.start.hurry(now + LIMIT_AT_END);
                }
            }
            return true;
        }
        let Some(index) = self.queue.iter().position(|spawn| spawn.run == run) else { return false };
        if let Some(spawn) = self.queue.remove(index) {
            self.refused(spawn, None, "it was ended before its process was started".into());
        }
        true
    }

    /// The daemon is to stop: what has not started soon does not start, and nothing else is begun.
    pub fn hurry(&mut self, now: Elapsed) {
        for pending in self.pending.values_mut() {
            pending.start.hurry(now + LIMIT_AT_END);
        }
        for spawn in std::mem::take(&mut self.queue) {
            self.refused(spawn, None, "the daemon stopped before its process was started".into());
        }
    }

    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// True while an attempt is between its spawn and the report of its start.
    pub fn is_active(&self) -> bool {
        !self.pending.is_empty() || !self.queue.is_empty() || !self.finished.is_empty()
    }

    /// True if starts are over that nobody was notified of.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        let until = self.pending.values().map(|pending| pending.start.until()).min();
        let slow = self.pending.values().map(|pending| pending.since + SLOW).min().filter(|_| !self.queue.is_empty());
        until.into_iter().chain(slow).min()
    }

    /// Their processes, and those that were killed and are not dead.
    pub fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        let pending = self.pending.iter().map(|(run, pending)| Known { pid: pending.start.pid(), run: Some(*run) });
        pending.chain(self.abandoned.known())
    }
}
