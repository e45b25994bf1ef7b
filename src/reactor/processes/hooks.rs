//! Commands that follow an attempt or a run: `on_success`, `on_failure`, `on_retry`.
//!
//! A hook has its run's environment, gets how the attempt ended in variables, and writes into the run's log. It is no run:
//! it takes no slot, is not retried and has no row in the history; when it fails, the daemon's log says so. A daemon that
//! dies takes its hooks with it, so nothing that must happen belongs in one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::environment::{About, Environment, borrowed};
use super::logs::Logs;
use super::running::watch;
use super::start::{AbandonedStarts, Start};
use crate::config::Job;
use crate::exec::spec::{Action, Hooks as HookActions};
use crate::exec::{self, Child, Drained, GroupSignal, Known, Launch, PendingSpawn};
use crate::model::{Elapsed, Exit, RunId, StateWord};
use crate::reactor::host::FollowUp;
use crate::reactor::io::{HookId, Io, What};
use crate::store::split_exit;

/// How long a hook may take: it reports something to somebody. What takes longer is a job.
const LIMIT: Duration = Duration::from_secs(60);

/// How long hooks may still take once everything else of the daemon has ended.
const LIMIT_AT_END: Duration = Duration::from_secs(5);

/// Reads of a hook's pipe in one turn.
const READS: usize = 4;

/// Which of a job's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Success,
    Failure,
    Retry,
}

impl Which {
    fn of(follow_up: &FollowUp<'_>) -> Option<Which> {
        match follow_up.state() {
            StateWord::Succeeded => Some(Which::Success),
            StateWord::Failed | StateWord::TimedOut | StateWord::Lost => Some(Which::Failure),
            StateWord::Pending => Some(Which::Retry),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
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

enum Process {
    /// It has not executed its program yet.
    Starting(Start),
    Running(Child, Option<Token>),
    /// It could not be started.
    Nothing,
}

struct Hook {
    which: Which,
    job: Arc<str>,
    run: RunId,
    process: Process,
    output: Option<(OwnedFd, Token)>,
    until: Elapsed,
    /// Whether the run has ended, and then whether it succeeded: its log is finished with the hook.
    ended: Option<bool>,
}

/// A hook whose process has ended.
pub(super) struct Reaped {
    pub process: Known,
    /// If its run has ended, and this was its last hook: that run's number and whether it succeeded.
    pub finishes: Option<(RunId, bool)>,
}

/// All hooks that run.
#[derive(Default)]
pub(super) struct Hooks {
    alive: BTreeMap<HookId, Hook>,
    next: HookId,
    /// Those with more to read.
    readable: BTreeSet<HookId>,
    abandoned: AbandonedStarts,
}

impl Hooks {
    /// Starts the job's hook, if it has one; false if nothing runs now. That it could not be started is logged.
    pub fn start(
        &mut self,
        io: &mut Io,
        environment: &Environment,
        logs: &mut Logs,
        job: &Job,
        follow_up: &FollowUp<'_>,
        now: Elapsed,
    ) -> bool {
        let Some(which) = Which::of(follow_up) else { return false };
        let Some(action) = job.hooks.as_deref().and_then(|hooks| which.action(hooks)) else { return false };
        let (run, id) = (follow_up.row().id, self.next);
        let ended = follow_up.state().is_end().then_some(follow_up.state() == StateWord::Succeeded);
        let started = begin(environment, logs, job, action, follow_up).and_then(|begun| {
            logs.of(job, run).sink.begin(which.word());
            let process = Process::Starting(Start::watch(io, begun, What::HookStart(id), now)?);
            Ok(Hook { which, job: Arc::clone(&job.name), run, process, output: None, until: now + LIMIT, ended })
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

    /// There is progress with the start of a hook. As [`Reaped::finishes`], if it could not be started.
    pub fn start_ready(&mut self, id: HookId, io: &mut Io) -> Option<(RunId, bool)> {
        let hook = self.alive.get_mut(&id)?;
        let started = match std::mem::replace(&mut hook.process, Process::Nothing) {
            Process::Starting(start) => start.finish(io),
            other => {
                hook.process = other;
                return None;
            }
        };
        let result = match started {
            Ok(result) => result,
            Err(start) => {
                hook.process = Process::Starting(start);
                return None;
            }
        };
        let watched = result.and_then(|mut child| {
            let watched = watch(io, What::HookExit(id), What::HookOutput(id), &mut child);
            let (exit, output) = watched.map_err(|error| format!("its process can't be watched: {error}"))?;
            (hook.process, hook.output) = (Process::Running(child, exit), output);
            Ok(())
        });
        watched.err().and_then(|reason: String| self.not_started(id, &reason))
    }

    fn not_started(&mut self, id: HookId, reason: &str) -> Option<(RunId, bool)> {
        let hook = self.alive.get(&id)?;
        log::warn!("{}: run {}: {} could not be started: {reason}", hook.job, hook.run, hook.which.word());
        self.remove(id)
    }

    /// A hook is over. If its run is, and this was its last hook, that run's number and whether it succeeded.
    fn remove(&mut self, id: HookId) -> Option<(RunId, bool)> {
        let hook = self.alive.remove(&id)?;
        self.readable.remove(&id);
        let (run, ended) = (hook.run, hook.ended);
        let others = self.alive.values().any(|other| other.run == run && other.ended.is_some());
        ended.filter(|_| !others).map(|success| (run, success))
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
    pub fn pump(&mut self, io: &mut Io, logs: &mut Logs) {
        for id in std::mem::take(&mut self.readable) {
            let Some(hook) = self.alive.get_mut(&id) else { continue };
            match hook.read(logs) {
                Some(Drained::More) => {
                    self.readable.insert(id);
                }
                Some(Drained::Closed) => hook.close_output(io),
                Some(Drained::Empty) | None => {}
            }
        }
    }

    /// The process of a hook may have ended.
    pub fn reap(&mut self, id: HookId, io: &mut Io, logs: &mut Logs) -> Option<Reaped> {
        let hook = self.alive.get_mut(&id)?;
        let Process::Running(child, exit) = &mut hook.process else { return None };
        match child.try_reap() {
            Ok(None) => return None,
            Ok(Some(Exit::Code(0))) => {}
            Ok(Some(Exit::Code(code))) => {
                log::warn!("{}: run {}: {} ended with exit code {code}", hook.job, hook.run, hook.which.word())
            }
            Ok(Some(Exit::Signal(signal))) => {
                let signal = crate::model::signal_name(signal);
                log::warn!("{}: run {}: {} was ended by {signal}", hook.job, hook.run, hook.which.word());
            }
            Err(error) => log::error!("{}: run {}: the exit of {} can't be read: {error}", hook.job, hook.run, hook.which.word()),
        }
        if let (Some(token), Some(fd)) = (exit.take(), child.pidfd()) {
            io.deregister(fd.as_raw_fd(), token);
        }
        let process = Known { pid: child.pid(), run: Some(hook.run) };
        hook.read(logs);
        hook.close_output(io);
        Some(Reaped { process, finishes: self.remove(id) })
    }

    /// Their processes.
    pub fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.alive.values().filter_map(Hook::known).chain(self.abandoned.known())
    }

    /// Hooks whose exits only SIGCHLD reports.
    pub fn without_pidfd(&self) -> Vec<HookId> {
        let has_none = |hook: &Hook| matches!(hook.process, Process::Running(_, None));
        self.alive.iter().filter(|(_, hook)| has_none(hook)).map(|(id, _)| *id).collect()
    }

    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.alive.values().map(Hook::deadline).min()
    }

    /// Kills those whose time is up. As [`Reaped::finishes`], for those that had not executed their programs.
    pub fn kill_overdue(&mut self, io: &mut Io, now: Elapsed) -> Vec<(RunId, bool)> {
        let overdue: Vec<HookId> = self.alive.iter().filter(|(_, hook)| hook.deadline() <= now).map(|(id, _)| *id).collect();
        overdue.into_iter().filter_map(|id| self.kill(id, io, now)).collect()
    }

    fn kill(&mut self, id: HookId, io: &mut Io, now: Elapsed) -> Option<(RunId, bool)> {
        let hook = self.alive.get_mut(&id)?;
        match std::mem::replace(&mut hook.process, Process::Nothing) {
            Process::Starting(start) => {
                let reason = start.give_up(io, &mut self.abandoned);
                self.not_started(id, &reason)
            }
            Process::Running(child, exit) => {
                log::warn!("{}: run {}: {} takes too long and is killed", hook.job, hook.run, hook.which.word());
                if let Err(error) = child.signal(GroupSignal::Kill) {
                    log::warn!("{} could not be killed: {error}", hook.which.word());
                }
                child.kill_tracer();
                // Its exit comes by itself; until then it is not killed again.
                hook.until = now + LIMIT;
                hook.process = Process::Running(child, exit);
                None
            }
            Process::Nothing => self.remove(id),
        }
    }

    /// Everything else has ended: hooks must end soon.
    pub fn hurry(&mut self, now: Elapsed) {
        for hook in self.alive.values_mut() {
            hook.until = hook.until.min(now + LIMIT_AT_END);
        }
    }
}

impl Hook {
    /// When it is killed.
    fn deadline(&self) -> Elapsed {
        match &self.process {
            Process::Starting(start) => self.until.min(start.until()),
            Process::Running(..) | Process::Nothing => self.until,
        }
    }

    fn known(&self) -> Option<Known> {
        let pid = match &self.process {
            Process::Starting(start) => start.pid(),
            Process::Running(child, _) => child.pid(),
            Process::Nothing => return None,
        };
        Some(Known { pid, run: Some(self.run) })
    }

    fn read(&self, logs: &mut Logs) -> Option<Drained> {
        let (fd, _) = self.output.as_ref()?;
        let mut last = None;
        for _ in 0..READS {
            last = logs.drain(self.run, fd.as_fd());
            if !matches!(last, Some(Drained::More)) {
                break;
            }
        }
        last
    }

    fn close_output(&mut self, io: &mut Io) {
        if let Some((fd, token)) = self.output.take() {
            io.deregister(fd.as_raw_fd(), token);
        }
    }
}

/// Begins to start a command that follows an attempt, in the environment of its run.
fn begin(
    environment: &Environment,
    logs: &Logs,
    job: &Job,
    action: &Action,
    follow_up: &FollowUp<'_>,
) -> Result<PendingSpawn, String> {
    let row = follow_up.row();
    let mut vars = environment.run_vars(job, &About::of_row(row), logs.event_file(row.id));
    let (code, signal) = split_exit(follow_up.exit());
    vars.push(("FIRELINK_STATE".to_owned(), follow_up.state().as_str().into()));
    vars.push(("FIRELINK_EXIT_CODE".to_owned(), code.map(|code| code.to_string()).unwrap_or_default().into()));
    vars.push(("FIRELINK_SIGNAL".to_owned(), signal.unwrap_or_default().into()));
    vars.push(("FIRELINK_REASON".to_owned(), follow_up.reason().into()));
    let vars = borrowed(&vars);
    let launch = Launch { action, exec: &job.exec, start_dir: &environment.start_dir, vars: &vars, cgroup: None };
    exec::begin(&launch).map_err(|error| error.to_string())
}
