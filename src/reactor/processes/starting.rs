//! Processes that have not executed their programs yet.
//!
//! Usually that takes well under a millisecond. A working directory, a script or a program on a file system that does not answer
//! holds its process up for as long, and nothing else: the loop waits for all of them through epoll.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::{Interest, Token};

use super::groups::RunGroup;
use crate::engine::{Spawn, StopSignal};
use crate::exec::{Abandoned, Cgroup, Child, GroupSignal, Known, PendingSpawn, Progress};
use crate::model::{Elapsed, RunId};
use crate::reactor::io::{Io, What};

/// How many processes start at once: more than any of these machines has processors. Each takes a stack and descriptors
/// meanwhile.
const AT_ONCE: usize = 32;

/// A process that takes longer than this does not count as one of those: others go on beside it.
const SLOW: Duration = Duration::from_millis(100);

/// How long a start may take. It includes the look-up of the program by a busy machine, and a network file system that comes
/// back.
pub(in crate::reactor) const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a start may still take once its process was killed, or the daemon is to stop.
const LIMIT_AT_END: Duration = Duration::from_secs(1);

struct Pending {
    spawn: Box<Spawn>,
    begun: PendingSpawn,
    token: Token,
    group: Option<Cgroup>,
    since: Elapsed,
    until: Elapsed,
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
    /// Killed, and not dead.
    abandoned: Vec<Abandoned>,
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
        let token = begun.wake().map(|wake| io.watch(wake.as_raw_fd(), What::Start(run), Interest::READABLE));
        match token {
            Some(Ok(token)) => {
                let pending = Pending { spawn, begun, token, group, since: now, until: now + START_LIMIT };
                self.pending.insert(run, pending);
            }
            Some(Err(error)) => {
                let (abandoned, _) = begun.abandon();
                self.abandoned.extend(abandoned);
                self.finished.push(Finished { spawn, group, result: Err(format!("its process can't be watched: {error}")) });
            }
            None => {}
        }
    }

    /// An attempt could not begin to start.
    pub fn refused(&mut self, spawn: Box<Spawn>, group: Option<RunGroup>, reason: String) {
        self.finished.push(Finished { spawn, group: group.map(|group| group.group), result: Err(reason) });
    }

    /// There is progress with a run's process.
    pub fn ready(&mut self, io: &mut Io, run: RunId) {
        let Some(mut pending) = self.pending.remove(&run) else { return };
        match pending.begun.poll() {
            Progress::Pending(begun) => {
                pending.begun = begun;
                self.pending.insert(run, pending);
            }
            Progress::Done(result) => {
                io.release(pending.token);
                let result = result.map_err(|error| error.to_string());
                self.finished.push(Finished { spawn: pending.spawn, group: pending.group, result });
            }
        }
    }

    /// Gives up those that take too long.
    pub fn give_up_overdue(&mut self, io: &mut Io, now: Elapsed) {
        while let Some((_, pending)) = self.pending.extract_if(.., |_, pending| pending.until <= now).next() {
            self.give_up(io, pending);
        }
    }

    fn give_up(&mut self, io: &mut Io, pending: Pending) {
        io.release(pending.token);
        let (abandoned, error) = pending.begun.abandon();
        self.abandoned.extend(abandoned);
        self.finished.push(Finished { spawn: pending.spawn, group: pending.group, result: Err(error.to_string()) });
    }

    /// Signals the process of a run that starts; false if there is none.
    pub fn signal(&mut self, run: RunId, signal: StopSignal, now: Elapsed) -> bool {
        if let Some(pending) = self.pending.get_mut(&run) {
            match signal {
                StopSignal::Term => pending.begun.signal(GroupSignal::Term),
                StopSignal::Kill => {
                    pending.begun.signal(GroupSignal::Kill);
                    pending.until = pending.until.min(now + LIMIT_AT_END);
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
            pending.until = pending.until.min(now + LIMIT_AT_END);
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
        let until = self.pending.values().map(|pending| pending.until).min();
        let slow = self.pending.values().map(|pending| pending.since + SLOW).min().filter(|_| !self.queue.is_empty());
        until.into_iter().chain(slow).min()
    }

    /// Their processes, and those that were killed and are not dead.
    pub fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.abandoned.retain_mut(|abandoned| !abandoned.is_over());
        let abandoned = self.abandoned.iter().map(|abandoned| Known::childless(abandoned.pid()));
        let pending = self.pending.iter().map(|(run, pending)| Known { pid: pending.begun.identity(), run: Some(*run) });
        pending.chain(abandoned)
    }
}
