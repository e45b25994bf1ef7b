//! The child of a source: a plugin. It belongs to no run, its end is no run's end, and it never outlives the daemon.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::{Interest, Token};

use crate::exec::spec::{Action, ExecSpec, Limits};
use crate::exec::{self, Apart, Child, Daemon, GroupSignal, Known, Launch};
use crate::model::{Elapsed, Exit, TriggerWord};
use crate::reactor::io::{Io, What};
use crate::reactor::processes::{Environment, borrowed};

/// A running plugin.
pub(super) struct SourceChild {
    child: Child,
    /// The pidfd's registration; absent where the kernel has none.
    exit: Option<Token>,
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
    /// Starts it; its stdout and stderr are for the caller to watch.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn start(
        io: &mut Io,
        environment: &Environment,
        watch: u32,
        owner: ChildOwner<'_>,
        action: &Action,
    ) -> Result<(SourceChild, OwnedFd, OwnedFd), String> {
        let vars = environment.source_vars(owner.job, owner.trigger);
        let vars = borrowed(&vars);
        // CPU time bounds a run; what lives as long as the daemon uses up any amount of it.
        let exec = ExecSpec { limits: Limits { cpu_secs: None, ..owner.exec.limits.clone() }, ..owner.exec.clone() };
        let launch = Launch { action, exec: &exec, start_dir: &environment.start_dir, vars: &vars, cgroup: None };
        let Apart { child, stdout, stderr } = exec::spawn_apart(&launch).map_err(|error| error.to_string())?;
        let exit = match child.pidfd() {
            Some(fd) => {
                let token = io.watch(fd.as_raw_fd(), What::SourceExit(watch), Interest::READABLE);
                Some(token.map_err(|error| format!("its process can't be watched: {error}"))?)
            }
            None => None,
        };
        Ok((SourceChild { child, exit, kill_at: None, ending: false }, stdout, stderr))
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
    }

    /// Ends it at once; output that was not read is lost.
    pub fn discard(self, io: &mut Io) {
        if let (Some(fd), Some(token)) = (self.child.pidfd(), self.exit) {
            io.deregister(fd.as_raw_fd(), token);
        }
    }

    fn signal(&self, signal: GroupSignal) {
        if let Err(error) = self.child.signal_group(signal) {
            log::warn!("the plugin with pid {} could not be signalled: {error}", self.child.pid().pid);
        }
    }

    /// When it is killed, if it has been asked to end.
    pub fn kill_at(&self) -> Option<Elapsed> {
        self.kill_at
    }

    pub fn known(&self) -> Known {
        Known { pid: self.child.pid(), run: None }
    }

    pub fn has_pidfd(&self) -> bool {
        self.exit.is_some()
    }

    /// If it has ended, kills what is left of it and releases everything.
    pub fn reap(&mut self, io: &mut Io, environment: &Environment, job: &str) -> Option<Exit> {
        let exit = match self.child.try_reap() {
            Ok(exit) => exit?,
            Err(error) => {
                log::error!("{job}: the plugin's exit can't be read: {error}");
                Exit::Signal(0)
            }
        };
        if let (Some(token), Some(fd)) = (self.exit.take(), self.child.pidfd()) {
            io.deregister(fd.as_raw_fd(), token);
        }
        match exec::kill_plugins(&environment.source_marks(Some(job)), Daemon::This) {
            Ok(0) => {}
            Ok(count) => log::info!("{job}: {count} processes had left the plugin's group and outlived it, and were killed"),
            Err(error) => log::warn!("{job}: what the plugin left behind can't be looked for: {error}"),
        }
        Some(exit)
    }
}

/// Ends the plugins of a daemon that died without ending them.
pub(in crate::reactor) fn end_leftovers(environment: &Environment) {
    match exec::kill_plugins(&environment.source_marks(None), Daemon::Gone) {
        Ok(0) => {}
        Ok(count) => log::info!("{count} processes of plugins had outlived the daemon that started them, and were killed"),
        Err(error) => log::warn!("plugins that an earlier daemon left behind can't be looked for: {error}"),
    }
}
