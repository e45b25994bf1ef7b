//! The processes of running runs: their exits and their output.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::{Interest, Token};

use super::logs::Logs;
use crate::engine::StopSignal;
use crate::exec::spec::KillMode;
use crate::exec::{self, Adopted, Cgroup, Child, Drained, GroupSignal, Known};
use crate::model::{Elapsed, Exit, Pid, RunId};
use crate::reactor::io::{Io, What};

/// A process that the daemon watches.
enum Process {
    /// Its own child.
    Own(Child),
    /// The child of a daemon that died.
    Adopted(Adopted),
}

impl Process {
    fn pid(&self) -> Pid {
        match self {
            Process::Own(child) => child.pid(),
            Process::Adopted(adopted) => adopted.pid(),
        }
    }
}

struct Watched {
    process: Process,
    /// The pidfd's registration; absent where the kernel has none.
    exit: Option<Token>,
    output: Option<(OwnedFd, Token)>,
    /// The control group that it alone is in.
    group: Option<Cgroup>,
    /// When it was first sent SIGKILL.
    killed: Option<Elapsed>,
    /// It has not died of that in time.
    is_unkillable: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Running {
    watched: HashMap<RunId, Watched>,
    /// Pipes with more to read.
    readable: HashSet<RunId>,
    /// Processes that have ended and are still to be reaped, and pipes that are still to be closed: the kernel takes some
    /// microseconds for each, which what comes next need not wait for.
    exited: Vec<Child>,
    closing: Vec<OwnedFd>,
}

/// How a process ended.
pub(super) struct Ended {
    pub process: Known,
    pub kill_mode: KillMode,
    /// `None` if it was adopted and nobody knows.
    pub exit: Option<Exit>,
}

/// What is still read of a pipe after its process has ended: a pipe's largest usual capacity. Output beyond that, of
/// other processes that hold the pipe open, is lost.
const LAST_DRAIN: usize = 1 << 20;

/// How long a process may take to die of SIGKILL. Beyond that it is in uninterruptible sleep: its disk or file system does not
/// answer, and nobody can end it.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

impl Running {
    /// Watches a child that has executed its program.
    pub fn add(&mut self, io: &mut Io, run: RunId, mut child: Child, group: &mut Option<Cgroup>) -> io::Result<Pid> {
        let (exit, output) = watch(io, What::Exit(run), What::Output(run), &mut child)?;
        let pid = child.pid();
        let watched =
            Watched { process: Process::Own(child), exit, output, group: group.take(), killed: None, is_unkillable: false };
        self.watched.insert(run, watched);
        Ok(pid)
    }

    /// Watches a process of an earlier daemon; true if its output can be read on.
    pub fn adopt(&mut self, io: &mut Io, run: RunId, adopted: Adopted, group: Option<Cgroup>) -> io::Result<bool> {
        let exit = io.watch(adopted.as_fd().as_raw_fd(), What::Exit(run), Interest::READABLE)?;
        let output = adopted.open_output().and_then(|fd| {
            let token = io.watch(fd.as_raw_fd(), What::Output(run), Interest::READABLE).ok()?;
            Some((fd, token))
        });
        let reads_on = output.is_some();
        let process = Process::Adopted(adopted);
        self.watched.insert(run, Watched { process, exit: Some(exit), output, group, killed: None, is_unkillable: false });
        Ok(reads_on)
    }

    pub fn signal(&mut self, run: RunId, signal: StopSignal, now: Elapsed) {
        let Some(watched) = self.watched.get_mut(&run) else { return };
        let signal = match signal {
            StopSignal::Term => GroupSignal::Term,
            StopSignal::Kill => {
                watched.killed.get_or_insert(now);
                GroupSignal::Kill
            }
        };
        let sent = match &watched.process {
            Process::Own(child) => child.signal(signal),
            Process::Adopted(adopted) => adopted.signal(signal),
        };
        if let Err(error) = sent {
            log::warn!("run {run} could not be signalled: {error}");
        }
    }

    /// Logs processes that do not die of SIGKILL.
    pub fn report_unkillable(&mut self, now: Elapsed) {
        for (run, watched) in &mut self.watched {
            if !watched.is_unkillable && watched.killed.is_some_and(|at| at + DEATH_LIMIT <= now) {
                watched.is_unkillable = true;
                let pid = watched.process.pid().pid;
                log::error!(
                    "run {run}: its process {pid} does not die of SIGKILL: it waits for a disk or file system that does not answer"
                );
            }
        }
    }

    /// When that is due next.
    pub fn next_report(&self) -> Option<Elapsed> {
        let at = |watched: &Watched| watched.killed.filter(|_| !watched.is_unkillable).map(|at| at + DEATH_LIMIT);
        self.watched.values().filter_map(at).min()
    }

    /// True if there are processes, and all of them were sent SIGKILL and do not die of it.
    pub fn are_unkillable(&self) -> bool {
        !self.watched.is_empty() && self.watched.values().all(|watched| watched.is_unkillable)
    }

    /// The pipe of a run has something.
    pub fn output_ready(&mut self, run: RunId) {
        self.readable.insert(run);
    }

    /// The pipe of a run is empty, and everybody has closed the other end.
    pub fn output_ended(&mut self, io: &mut Io, run: RunId) {
        self.readable.remove(&run);
        self.close_output(io, run);
    }

    pub fn has_output(&self) -> bool {
        !self.readable.is_empty()
    }

    /// True if no process is watched, and so nothing is read.
    pub fn is_empty(&self) -> bool {
        self.readable.is_empty() && self.watched.is_empty()
    }

    /// Reads from each pipe that has something, a bounded amount each, so that no run starves another.
    pub fn pump(&mut self, io: &mut Io, logs: &mut Logs) {
        for run in std::mem::take(&mut self.readable) {
            match self.drain(logs, run) {
                Some(Drained::More) => {
                    self.readable.insert(run);
                }
                Some(Drained::Closed) => self.close_output(io, run),
                Some(Drained::Empty) | None => {}
            }
        }
    }

    fn drain(&self, logs: &mut Logs, run: RunId) -> Option<Drained> {
        let (fd, _) = self.watched.get(&run)?.output.as_ref()?;
        logs.drain(run, fd.as_fd())
    }

    fn close_output(&mut self, io: &mut Io, run: RunId) {
        if let Some((fd, token)) = self.watched.get_mut(&run).and_then(|watched| watched.output.take()) {
            io.release(token);
            self.closing.push(fd);
        }
    }

    /// `None` if the process of a run has not ended.
    pub fn exit_of(&mut self, run: RunId) -> Option<Ended> {
        let (pid, kill_mode, exit) = match &mut self.watched.get_mut(&run)?.process {
            Process::Own(child) => {
                let exit = match child.ended() {
                    Ok(exit) => Some(exit?),
                    Err(error) => {
                        log::error!("run {run}: its exit can't be read: {error}");
                        None
                    }
                };
                (child.pid(), child.kill_mode(), exit)
            }
            Process::Adopted(adopted) => {
                if adopted.is_alive() {
                    return None;
                }
                // Asked first: its parent may be about to reap it.
                let exit = adopted.exit();
                kill_remaining(run, adopted);
                (adopted.pid(), adopted.kill_mode(), exit)
            }
        };
        Some(Ended { process: Known { pid, run: Some(run) }, kill_mode, exit })
    }

    /// True if the process of a run has exited and another process, which traces it, keeps its exit from the daemon.
    pub fn is_held_by_tracer(&self, run: RunId) -> bool {
        matches!(self.watched.get(&run).map(|watched| &watched.process), Some(Process::Own(child)) if child.is_held_by_tracer())
    }

    /// Kills the tracer, if it is one of this daemon's processes.
    pub fn kill_tracer(&self, run: RunId) {
        if let Some(Process::Own(child)) = self.watched.get(&run).map(|watched| &watched.process)
            && let Some(tracer) = child.kill_tracer()
        {
            log::warn!("run {run}: the process {tracer} traced it and kept its exit from the daemon, and was killed");
        }
    }

    /// The control group of a run that is over.
    pub fn take_group(&mut self, run: RunId) -> Option<Cgroup> {
        self.watched.get_mut(&run)?.group.take()
    }

    /// The process of a run has ended: reads what is left in its pipe and releases everything of it.
    pub fn release(&mut self, io: &mut Io, logs: &mut Logs, run: RunId) {
        let mut read = 0;
        while read < LAST_DRAIN && matches!(self.drain(logs, run), Some(Drained::More)) {
            read += exec::DRAIN_AT_ONCE;
        }
        self.close_output(io, run);
        self.readable.remove(&run);
        if let Some(watched) = self.watched.remove(&run)
            && let Some(token) = watched.exit
        {
            // Its pidfd is closed with it, before the loop waits again.
            io.release(token);
            if let Process::Own(child) = watched.process {
                self.exited.push(child);
            }
        }
    }

    /// Reaps the processes that have ended, and closes their pipes.
    pub fn reap_exited(&mut self) {
        self.exited.clear();
        self.closing.clear();
    }

    /// Stops watching every process: they go on, and the next daemon finds them.
    pub fn leave(&mut self) {
        for watched in std::mem::take(&mut self.watched).into_values() {
            if let Process::Own(child) = watched.process {
                child.leave();
            }
        }
    }

    /// The processes that are not reaped yet.
    pub fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.watched.iter().map(|(run, watched)| Known { pid: watched.process.pid(), run: Some(*run) })
    }

    /// The adopted processes that have not exited. A zombie's run is over: what it has left is killed as a leftover.
    pub fn alive(&self) -> impl Iterator<Item = Known> + '_ {
        self.watched.iter().filter_map(|(run, watched)| match &watched.process {
            Process::Adopted(adopted) if adopted.is_alive() => Some(Known { pid: adopted.pid(), run: Some(*run) }),
            _ => None,
        })
    }

    /// The control groups of the processes that are watched.
    pub fn groups(&self) -> impl Iterator<Item = &Cgroup> {
        self.watched.values().filter_map(|watched| watched.group.as_ref())
    }

    /// Runs whose exits only SIGCHLD reports.
    pub fn without_pidfd(&self) -> Vec<RunId> {
        self.watched.iter().filter(|(_, watched)| watched.exit.is_none()).map(|(run, _)| *run).collect()
    }
}

/// Kills what an adopted process leaves behind. One that is signalled may just have started another, so it is looked for
/// again; what is still there after that comes to init, as all orphans of a dead daemon do.
fn kill_remaining(run: RunId, adopted: &Adopted) {
    const LOOKS: usize = 3;
    for _ in 0..LOOKS {
        match adopted.kill_remaining() {
            Ok(0) => return,
            Ok(count) => log::warn!("run {run}: {count} of its processes had outlived it and were killed"),
            Err(error) => return log::warn!("run {run}: what it left behind can't be found: {error}"),
        }
    }
}

/// The pidfd's token, and the output with its own.
pub(super) type Registrations = (Option<Token>, Option<(OwnedFd, Token)>);

/// Watches a child's exit and its output.
pub(super) fn watch(io: &mut Io, exit: What, output: What, child: &mut Child) -> io::Result<Registrations> {
    let exit = match child.pidfd() {
        Some(fd) => Some(io.watch(fd.as_raw_fd(), exit, Interest::READABLE)?),
        None => None,
    };
    let output = match child.take_output() {
        Some(fd) => {
            let token = io.watch(fd.as_raw_fd(), output, Interest::READABLE)?;
            Some((fd, token))
        }
        None => None,
    };
    Ok((exit, output))
}
