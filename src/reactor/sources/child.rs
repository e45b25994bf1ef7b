//! The child of a source: a plugin. It belongs to no run, its end is no run's end, and it never outlives the daemon.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::{Interest, Token};

use crate::exec::spec::{Action, ExecSpec, Limits};
use crate::exec::{self, Child, GroupSignal, Known, Launch};
use crate::model::{Elapsed, Exit, TriggerWord};
use crate::reactor::io::{Io, What};
use crate::reactor::processes::{AbandonedStarts, Environment, Start, borrowed};

enum State {
    /// It has not executed its program yet.
    Starting(Start),
    /// With the pidfd's registration; absent where the kernel has none.
    Running {
        child: Child,
        exit: Option<Token>,
    },
    Over,
}

/// A plugin's process.
pub(super) struct SourceChild {
    state: State,
    kill_at: Option<Elapsed>,
    ending: bool,
}

/// The part of a job that its source's child needs.
#[derive(Clone, Copy)]
pub(super) struct ChildOwner<'a> {
    pub job: &'a str,
    pub trigger: TriggerWord,
    pub exec: &'a ExecSpec,
}

impl SourceChild {
    /// Begins to start it; its stdout and stderr are for the caller to watch.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn start(
        io: &mut Io,
        environment: &Environment,
        watch: u32,
        owner: ChildOwner<'_>,
        action: &Action,
        now: Elapsed,
    ) -> Result<(SourceChild, OwnedFd, OwnedFd), String> {
        let vars = environment.source_vars(owner.job, owner.trigger);
        let vars = borrowed(&vars);
        // CPU time bounds a run; what lives as long as the daemon uses up any amount of it.
        let exec = ExecSpec { limits: Limits { cpu_secs: None, ..owner.exec.limits.clone() }, ..owner.exec.clone() };
        let launch = Launch { action, exec: &exec, start_dir: &environment.start_dir, vars: &vars, cgroup: None };
        let (begun, stdout, stderr) = exec::begin_apart(&launch).map_err(|error| error.to_string())?;
        let state = State::Starting(Start::watch(io, begun, What::SourceStart(watch), now)?);
        Ok((SourceChild { state, kill_at: None, ending: false }, stdout, stderr))
    }

    /// There is progress with its start: the reason, if it could not be started.
    pub fn start_ready(&mut self, io: &mut Io, watch: u32) -> Option<String> {
        let started = match std::mem::replace(&mut self.state, State::Over) {
            State::Starting(start) => start.finish(io),
            other => {
                self.state = other;
                return None;
            }
        };
        let result = match started {
            Ok(result) => result,
            Err(start) => {
                self.state = State::Starting(start);
                return None;
            }
        };
        let watched = result.and_then(|child| {
            let exit = child.pidfd().map(|fd| io.watch(fd.as_raw_fd(), What::SourceExit(watch), Interest::READABLE));
            let exit = exit.transpose().map_err(|error| format!("its process can't be watched: {error}"))?;
            self.state = State::Running { child, exit };
            Ok(())
        });
        watched.err()
    }

    /// Gives up a start that takes too long, or any start with `at_once`: the reason.
    pub fn give_up_start(&mut self, io: &mut Io, abandoned: &mut AbandonedStarts, now: Elapsed, at_once: bool) -> Option<String> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Starting(start) if at_once || start.until() <= now => Some(start.give_up(io, abandoned)),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// SIGTERM now, SIGKILL after `grace`. Asked twice, the first counts.
    pub fn end(&mut self, now: Elapsed, grace: Duration) {
        if !self.ending {
            self.ending = true;
            self.kill_at = Some(now + grace);
            self.signal(GroupSignal::Term);
        }
    }

    pub fn kill(&mut self) {
        self.ending = true;
        self.kill_at = None;
        self.signal(GroupSignal::Kill);
        if let State::Running { child, .. } = &self.state {
            child.kill_tracer();
        }
    }

    /// Ends it at once; output that was not read is lost.
    pub fn discard(self, io: &mut Io, abandoned: &mut AbandonedStarts) {
        match self.state {
            State::Starting(start) => drop(start.give_up(io, abandoned)),
            State::Running { child, exit } => {
                if let (Some(fd), Some(token)) = (child.pidfd(), exit) {
                    io.deregister(fd.as_raw_fd(), token);
                }
            }
            State::Over => {}
        }
    }

    fn signal(&self, signal: GroupSignal) {
        let sent = match &self.state {
            State::Starting(start) => return start.signal(signal),
            State::Running { child, .. } => child.signal(signal).map_err(|error| (child.pid().pid, error)),
            State::Over => Ok(()),
        };
        if let Err((pid, error)) = sent {
            log::warn!("the plugin with pid {pid} could not be signalled: {error}");
        }
    }

    /// When it is killed, if it has been asked to end, or its start is given up.
    pub fn next_wake(&self) -> Option<Elapsed> {
        let start = match &self.state {
            State::Starting(start) => Some(start.until()),
            _ => None,
        };
        self.kill_at.into_iter().chain(start).min()
    }

    /// When it is killed, if it has been asked to end.
    pub fn kill_at(&self) -> Option<Elapsed> {
        self.kill_at
    }

    pub fn known(&self) -> Option<Known> {
        match &self.state {
            State::Starting(start) => Some(Known { pid: start.pid(), run: None }),
            State::Running { child, .. } => Some(Known { pid: child.pid(), run: None }),
            State::Over => None,
        }
    }

    /// True if only SIGCHLD reports its exit.
    pub fn lacks_pidfd(&self) -> bool {
        matches!(self.state, State::Running { exit: None, .. })
    }

    /// If it has ended, kills what is left of it and releases everything.
    pub fn reap(&mut self, io: &mut Io, environment: &Environment, job: &str) -> Option<Exit> {
        let State::Running { child, exit: token } = &mut self.state else { return None };
        let exit = match child.try_reap() {
            Ok(exit) => exit?,
            Err(error) => {
                log::error!("{job}: the plugin's exit can't be read: {error}");
                Exit::Signal(0)
            }
        };
        if let (Some(token), Some(fd)) = (token.take(), child.pidfd()) {
            io.deregister(fd.as_raw_fd(), token);
        }
        match exec::kill_plugins(&environment.source_marks(job)) {
            Ok(0) => {}
            Ok(count) => log::info!("{job}: {count} processes had left the plugin's group and outlived it, and were killed"),
            Err(error) => log::warn!("{job}: what the plugin left behind can't be looked for: {error}"),
        }
        Some(exit)
    }
}
