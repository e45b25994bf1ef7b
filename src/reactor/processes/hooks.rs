//! Commands that follow an attempt or a run: `on_success`, `on_failure`, `on_retry`.
//!
//! A hook has its run's environment, is told how the attempt ended, and writes into the run's log. It is no run: it
//! takes no slot, is not tried again and has no row in the history; when it fails, the daemon's log says so. A daemon
//! that dies takes its hooks with it, so nothing that must happen belongs into one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::children::{About, Children, watch};
use super::io::{HookId, Io, What};
use crate::config::Job;
use crate::exec::spec::{Action, Hooks as HookActions};
use crate::exec::{Child, Drained, GroupSignal, Known};
use crate::model::{Elapsed, Exit, Outcome, RunId, StateWord};

/// How long a hook may take: it tells somebody something. What takes longer is a job.
const LIMIT: Duration = Duration::from_secs(60);

/// How long hooks may still take once the daemon is done with everything else.
const LIMIT_AT_END: Duration = Duration::from_secs(5);

/// Reads of a hook's pipe in one turn.
const READS: usize = 4;

/// Which of a job's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Success,
    Failure,
    Retry,
}

impl Which {
    /// The one that follows an end of this kind, if one does.
    pub fn after(outcome: Outcome) -> Option<Which> {
        match outcome {
            Outcome::Succeeded => Some(Which::Success),
            Outcome::Failed | Outcome::TimedOut | Outcome::Lost => Some(Which::Failure),
            Outcome::Cancelled | Outcome::Skipped => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Which::Success => "on_success",
            Which::Failure => "on_failure",
            Which::Retry => "on_retry",
        }
    }

    fn action(self, hooks: &HookActions) -> Option<&Action> {
        match self {
            Which::Success => hooks.on_success.as_ref(),
            Which::Failure => hooks.on_failure.as_ref(),
            Which::Retry => hooks.on_retry.as_ref(),
        }
    }
}

/// What a hook follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    pub hook: Which,
    /// The run's state now.
    pub state: StateWord,
    /// How the last attempt ended, if it was started at all.
    pub exit: Option<Exit>,
    pub reason: &'a str,
}

struct Hook {
    which: Which,
    job: Arc<str>,
    run: RunId,
    child: Child,
    exit: Option<Token>,
    output: Option<(OwnedFd, Token)>,
    until: Elapsed,
    /// Whether the run has ended, and then whether it succeeded: its log is finished with the hook.
    ended: Option<bool>,
}

/// All that run.
#[derive(Default)]
pub(super) struct Hooks {
    alive: BTreeMap<HookId, Hook>,
    next: HookId,
    /// Those with more to read.
    readable: BTreeSet<HookId>,
}

impl Hooks {
    /// Starts the job's hook, if it has one; false if nothing runs now. That it could not be started is logged.
    pub fn start(
        &mut self,
        io: &mut Io,
        children: &mut Children,
        job: &Job,
        about: &About<'_>,
        how: &How<'_>,
        now: Elapsed,
    ) -> bool {
        let Some(action) = job.hooks.as_deref().and_then(|hooks| how.hook.action(hooks)) else { return false };
        let (run, which, id) = (about.run, how.hook, self.next);
        let ended = how.state.is_end().then_some(how.state == StateWord::Succeeded);
        let started = children.start_hook(job, action, about, how).and_then(|mut child| {
            let watched = watch(io, What::HookExit(id), What::HookOutput(id), &mut child);
            let (exit, output) = watched.map_err(|error| format!("its process can't be watched: {error}"))?;
            Ok(Hook { which, job: Arc::clone(&job.name), run, child, exit, output, until: now + LIMIT, ended })
        });
        match started {
            Ok(hook) => {
                self.next = self.next.wrapping_add(1);
                self.alive.insert(id, hook);
                true
            }
            Err(reason) => {
                log::warn!("{}: run {run}: {} could not be started: {reason}", job.name, which.word());
                false
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    pub fn has_output(&self) -> bool {
        !self.readable.is_empty()
    }

    pub fn output_ready(&mut self, id: HookId) {
        self.readable.insert(id);
    }

    /// Reads what hooks wrote, a bounded amount each.
    pub fn pump(&mut self, io: &mut Io, children: &mut Children) {
        for id in std::mem::take(&mut self.readable) {
            let Some(hook) = self.alive.get_mut(&id) else { continue };
            match hook.read(children) {
                Some(Drained::More) => {
                    self.readable.insert(id);
                }
                Some(Drained::Closed) => hook.close_output(io),
                Some(Drained::Empty) | None => {}
            }
        }
    }

    /// The process of a hook may have ended. If its run had, and this was its last hook, that run's number and whether
    /// it succeeded.
    pub fn reap(&mut self, id: HookId, io: &mut Io, children: &mut Children) -> Option<(RunId, bool)> {
        let hook = self.alive.get_mut(&id)?;
        match hook.child.try_reap() {
            Ok(None) => return None,
            Ok(Some(Exit::Code(0))) => {}
            Ok(Some(Exit::Code(code))) => {
                log::warn!("{}: run {}: {} ended with exit code {code}", hook.job, hook.run, hook.which.word())
            }
            Ok(Some(Exit::Signal(signal))) => {
                let signal = crate::exec::signal_name(signal);
                log::warn!("{}: run {}: {} was ended by {signal}", hook.job, hook.run, hook.which.word());
            }
            Err(error) => log::error!("{}: run {}: the exit of {} can't be read: {error}", hook.job, hook.run, hook.which.word()),
        }
        hook.read(children);
        hook.close_output(io);
        if let (Some(token), Some(fd)) = (hook.exit, hook.child.pidfd()) {
            io.forget(fd.as_raw_fd(), token);
        }
        let (run, ended) = (hook.run, hook.ended);
        self.alive.remove(&id);
        self.readable.remove(&id);
        let others = self.alive.values().any(|other| other.run == run && other.ended.is_some());
        ended.filter(|_| !others).map(|success| (run, success))
    }

    /// Their processes.
    pub fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.alive.values().map(|hook| Known { pid: hook.child.pid(), run: Some(hook.run) })
    }

    /// Hooks whose exits only SIGCHLD tells.
    pub fn without_pidfd(&self) -> Vec<HookId> {
        self.alive.iter().filter(|(_, hook)| hook.exit.is_none()).map(|(id, _)| *id).collect()
    }

    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.alive.values().map(|hook| hook.until).min()
    }

    /// Kills those whose time is up.
    pub fn kill_overdue(&mut self, now: Elapsed) {
        for hook in self.alive.values_mut().filter(|hook| hook.until <= now) {
            log::warn!("{}: run {}: {} takes too long and is killed", hook.job, hook.run, hook.which.word());
            if let Err(error) = hook.child.signal_group(GroupSignal::Kill) {
                log::warn!("{} could not be killed: {error}", hook.which.word());
            }
            // Its exit comes by itself; until then it is not killed again.
            hook.until = now + LIMIT;
        }
    }

    /// Everything else is done: what still runs must end soon.
    pub fn hurry(&mut self, now: Elapsed) {
        for hook in self.alive.values_mut() {
            hook.until = hook.until.min(now + LIMIT_AT_END);
        }
    }
}

impl Hook {
    fn read(&self, children: &mut Children) -> Option<Drained> {
        let (fd, _) = self.output.as_ref()?;
        let mut last = None;
        for _ in 0..READS {
            last = children.drain_hook(self.run, fd.as_fd());
            if !matches!(last, Some(Drained::More)) {
                break;
            }
        }
        last
    }

    fn close_output(&mut self, io: &mut Io) {
        if let Some((fd, token)) = self.output.take() {
            io.forget(fd.as_raw_fd(), token);
        }
    }
}
