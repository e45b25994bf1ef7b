//! Starting a child.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid as UnixPid, pipe2, read};

use super::create::{Created, create};
use super::daemon;
use super::explain::explain;
use super::launch::{Launch, SpawnError};
use super::output;
use super::plan::{self, Named, Plan, Prepared};
use super::steps::Step;
use crate::exec::marks::OUTPUT;
use crate::exec::processes::{Child, GroupSignal, proc};
use crate::exec::spec::{Capture, KillMode};
use crate::exec::sys;
use crate::model::Pid;

/// Begins to start a process: own session, stdin from `/dev/null`, both outputs in one pipe, no other descriptors, no blocked
/// and no ignored signals. Returns before the child has executed its program; [`PendingSpawn::poll`] says how that went.
///
/// # Errors
/// When there can be no such process; no path was looked at yet.
pub fn begin(launch: &Launch<'_>) -> Result<PendingSpawn, SpawnError> {
    begin_with(true, launch)
}

fn begin_with(may_share_memory: bool, launch: &Launch<'_>) -> Result<PendingSpawn, SpawnError> {
    let mut plan = Plan::of(launch)?;
    let (mut reader, mut writer) = (None, None);
    if launch.exec.capture != Capture::None {
        let pipe = output::Pipe::new().map_err(|error| refused(&plan.named, &error))?;
        plan::fix(&mut plan.env, OUTPUT, OsStr::new(&pipe.name))?;
        (reader, writer) = (Some(pipe.reader), Some(pipe.writer));
    }
    let fd = writer.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    start(may_share_memory, plan, launch, [fd; 2], true, reader)
}

/// Begins to start a process as [`begin`] does, but with each output in a pipe of its own, whatever `output.capture` is: for a
/// process whose output is read by the daemon. Returns the read ends of stdout and stderr, non-blocking.
///
/// # Errors
/// As [`begin`].
pub fn begin_apart(launch: &Launch<'_>) -> Result<(PendingSpawn, OwnedFd, OwnedFd), SpawnError> {
    let plan = Plan::of(launch)?;
    let (stdout, out) = output::pipe().map_err(|error| refused(&plan.named, &error))?;
    let (stderr, err) = output::pipe().map_err(|error| refused(&plan.named, &error))?;
    let pending = start(true, plan, launch, [out.as_raw_fd(), err.as_raw_fd()], false, None)?;
    Ok((pending, stdout, stderr))
}

/// Starts a process as [`begin`] does, and waits until it has executed its program: for callers that have nothing else to do.
///
/// # Errors
/// When the process can't be started.
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    begin(launch)?.wait()
}

fn refused(named: &Named, error: &io::Error) -> SpawnError {
    SpawnError::Os(named.program.clone(), error.to_string())
}

fn start(
    may_share_memory: bool,
    plan: Plan,
    launch: &Launch<'_>,
    outputs: [i32; 2],
    reopen: bool,
    reader: Option<OwnedFd>,
) -> Result<PendingSpawn, SpawnError> {
    let program = plan.named.program.clone();
    let begun = || -> io::Result<Started> {
        // Both ends are closed by an exec: the child's, when it executes its program, is what the daemon waits for.
        let (wake, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        if !daemon::properties()?.has_close_range {
            sys::close_on_exec_from(3)?;
        }
        let mut prepared = plan.prepare(outputs, reopen, end.as_raw_fd())?;
        let before = ticks();
        let cgroup = launch.cgroup.map(|(directory, _)| directory);
        let Prepared { steps, slot, .. } = &mut prepared;
        // SAFETY: `prepared` goes into the value that is returned, which frees nothing of it before the child has executed its
        // program or is gone; boxes, vectors and mappings do not move with it.
        let Created { pid, pidfd } = unsafe { create(steps, slot, cgroup, may_share_memory) }?;
        let start_ticks = before.filter(|before| ticks() == Some(*before));
        Ok(Started { pid, pidfd, start_ticks, wake, reader, kill_mode: KillMode::Run, prepared })
    };
    match begun() {
        Ok(started) => Ok(PendingSpawn { started: Some(Box::new(started)) }),
        Err(error) => Err(SpawnError::Os(program, error.to_string())),
    }
}

/// The current time in the clock and unit of process start times; `None` where that unit was not compared with the kernel's.
fn ticks() -> Option<u64> {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64")).then(proc::now_ticks)?
}

#[derive(Debug)]
struct Started {
    pid: i32,
    pidfd: Option<OwnedFd>,
    start_ticks: Option<u64>,
    /// At its end once the child has executed its program or is gone.
    wake: OwnedFd,
    /// The read end of its output.
    reader: Option<OwnedFd>,
    kill_mode: KillMode,
    prepared: Prepared,
}

impl Started {
    fn is_over(&self) -> bool {
        !matches!(read(&self.wake, &mut [0]), Err(Errno::EAGAIN | Errno::EINTR))
    }

    /// Its end as a start.
    fn finish(self) -> Result<Child, SpawnError> {
        let Started { pid, pidfd, start_ticks, wake: _, reader, kill_mode, prepared } = self;
        let result = match prepared.slot.report().failed() {
            None => {
                let mut child = Child::new(pid, pidfd, start_ticks).with_kill_mode(kill_mode);
                child.set_output(reader);
                Ok(child)
            }
            Some(failed) => {
                reap(pid);
                Err(explain(failed, prepared.named()))
            }
        };
        prepared.release();
        result
    }

    fn signal(&self, signal: Signal) {
        // No group yet: there is nothing but the child, which has no children.
        if killpg(UnixPid::from_raw(self.pid), signal) == Err(Errno::ESRCH) {
            let _ = kill(UnixPid::from_raw(self.pid), signal);
        }
    }
}

/// A process that may not have executed its program yet. Dropped, it is killed.
#[derive(Debug)]
#[must_use = "dropped, it is killed"]
pub struct PendingSpawn {
    /// Absent once it has left this value.
    started: Option<Box<Started>>,
}

/// What has become of a [`PendingSpawn`].
#[derive(Debug)]
pub enum Progress {
    /// The child has not executed its program yet.
    Pending(PendingSpawn),
    /// It has, or could not and is gone.
    Done(Result<Child, SpawnError>),
}

impl PendingSpawn {
    /// The child.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.started.as_ref().map_or(0, |started| started.pid)
    }

    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> Pid {
        let (pid, start_ticks) = self.started.as_ref().map_or((0, None), |started| (started.pid, started.start_ticks));
        start_ticks.map_or_else(|| proc::identify(pid), |start_ticks| Pid { pid, start_ticks })
    }

    /// Sets whether it is killed alone, once it has executed its program.
    pub fn with_kill_mode(mut self, kill_mode: KillMode) -> PendingSpawn {
        if let Some(started) = &mut self.started {
            started.kill_mode = kill_mode;
        }
        self
    }

    /// Becomes readable when there is progress.
    #[must_use]
    pub fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.started.as_ref().map(|started| started.wake.as_fd())
    }

    /// How it goes; does not block.
    pub fn poll(mut self) -> Progress {
        match self.started.take() {
            Some(started) if started.is_over() => Progress::Done(started.finish()),
            started => {
                self.started = started;
                Progress::Pending(self)
            }
        }
    }

    /// Waits for its end. Not for the daemon's thread.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn wait(mut self) -> Result<Child, SpawnError> {
        let Some(started) = self.started.take() else { return Err(SpawnError::Nothing) };
        while !started.is_over() {
            // An error ends the wait early, and it is looked at again.
            let _ = poll(&mut [PollFd::new(started.wake.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
        started.finish()
    }

    /// Signals it, and its group if it has one already. It gets the signal before it executes its program, or after.
    pub fn signal(&self, signal: GroupSignal) {
        if let Some(started) = &self.started {
            started.signal(signal.signal());
        }
    }

    /// Kills it and does not wait for its death, which a file system that does not answer may hold up for ever.
    pub fn abandon(mut self) -> (Option<Abandoned>, SpawnError) {
        let Some(started) = self.started.take() else { return (None, SpawnError::Nothing) };
        let step = started.prepared.slot.report().step();
        started.signal(Signal::SIGKILL);
        let named = started.prepared.named();
        let error = SpawnError::Hung(named.program.clone(), hung_at(step, named));
        (Some(Abandoned { started: Some(started) }), error)
    }
}

impl Drop for PendingSpawn {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            started.signal(Signal::SIGKILL);
            drop(Abandoned { started: Some(started) });
        }
    }
}

/// A child that was killed before it executed its program, and may take its time to die.
#[derive(Debug)]
pub struct Abandoned {
    started: Option<Box<Started>>,
}

impl Abandoned {
    /// The child.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.started.as_ref().map_or(0, |started| started.pid)
    }

    /// True once it is dead and reaped.
    pub fn is_over(&mut self) -> bool {
        match self.started.take_if(|started| started.is_over()) {
            Some(started) => {
                reap(started.pid);
                started.prepared.release();
                true
            }
            None => self.started.is_none(),
        }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if !self.is_over() {
            // The child still uses it.
            std::mem::forget(self.started.take());
        }
    }
}

/// Reaps a child that has closed the pipe and not executed its program. It has released its memory and closes what else it has
/// open, which takes the kernel some microseconds: of the daemon's descriptors it has closed all before it could fail at a path.
fn reap(pid: i32) {
    let _ = sys::wait_for_death(pid);
}

fn hung_at(step: Step, named: &Named) -> String {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match step {
        Step::Directory => format!("entering {}", named.cwd.display()),
        Step::EnvFile => format!("reading the env_file {}", path(&named.env_file)),
        Step::Script => format!("looking up the script {}", path(&named.script)),
        Step::Exec => "looking up and executing the program".to_owned(),
        _ => "preparing the process".to_owned(),
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
