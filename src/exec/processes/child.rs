//! A child of this daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid as UnixPid;

use super::proc;
use crate::exec::spec::KillMode;
use crate::exec::sys;
use crate::model::{Exit, Pid};

/// How long to wait for a process that was sent SIGKILL, and after how many milliseconds to look again where no descriptor tells.
const DEATH_TIMEOUT: Duration = Duration::from_secs(1);
const DEATH_POLL_MS: u8 = 1;

/// A signal for a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

impl GroupSignal {
    pub(in crate::exec) const fn signal(self) -> Signal {
        match self {
            GroupSignal::Term => Signal::SIGTERM,
            GroupSignal::Kill => Signal::SIGKILL,
        }
    }
}

/// A started process that is not reaped yet: the leader of its own session and group. Dropped, its group is killed and it is
/// reaped, so that neither a process nor a zombie is left.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    exit: Option<OwnedFd>,
    output: Option<OwnedFd>,
    kill_mode: KillMode,
    /// It has exited, and the rest of its group was sent SIGKILL, unless that is left alone.
    over: bool,
    reaped: bool,
}

impl Child {
    pub(in crate::exec) fn new(pid: i32, exit: Option<OwnedFd>, start_ticks: Option<u64>) -> Child {
        // ENOSYS before Linux 5.3, EMFILE when descriptors run out: SIGCHLD reports the exit then.
        let exit = exit.or_else(|| sys::pidfd_open(pid).ok());
        let pid = start_ticks.map_or_else(|| proc::identify(pid), |start_ticks| Pid { pid, start_ticks });
        Child { pid, exit, output: None, kill_mode: KillMode::Run, over: false, reaped: false }
    }

    pub(in crate::exec) fn set_output(&mut self, output: Option<OwnedFd>) {
        self.output = output;
    }

    /// Sets whether it is killed alone while it runs, and the rest of its group left alone once it has exited.
    #[must_use]
    pub fn with_kill_mode(mut self, kill_mode: KillMode) -> Child {
        self.kill_mode = kill_mode;
        self
    }

    /// Whether it is killed alone.
    #[must_use]
    pub fn kill_mode(&self) -> KillMode {
        self.kill_mode
    }

    /// Its identity.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once it has exited; `None` if there is no pidfd: then try [`Child::try_reap`] on SIGCHLD.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.exit.as_ref().map(AsFd::as_fd)
    }

    /// The read end of its output, non-blocking, once.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// Signals its whole group, with [`KillMode::Main`] it alone.
    ///
    /// # Errors
    /// The error of kill(2), except for a group that is gone.
    pub fn signal(&self, signal: GroupSignal) -> io::Result<()> {
        match self.kill_mode {
            _ if self.reaped => Ok(()),
            KillMode::Run => signal_group(self.pid.pid, signal.signal()),
            // Its pid is not reused until it is reaped.
            KillMode::Main => kill(UnixPid::from_raw(self.pid.pid), signal.signal()).map_err(Into::into),
        }
    }

    /// Releases it: it goes on without this daemon.
    pub fn leave(mut self) {
        self.reaped = true;
    }

    /// If it has exited, kills the rest of its group, unless that is left alone, and returns how. It is reaped on drop, so that the
    /// consequences of its exit do not wait for the kernel to release it.
    ///
    /// # Errors
    /// The error of waitid(2).
    pub fn ended(&mut self) -> io::Result<Option<Exit>> {
        // While the leader is a zombie, its pid, and so the group's id, is not reused.
        let exit = sys::wait(self.pid.pid, false)?;
        if exit.is_some() && !self.over {
            self.over = true;
            if self.kill_mode == KillMode::Run {
                // EPERM (for set-user-id programs) must not cost the exit status.
                let _ = signal_group(self.pid.pid, Signal::SIGKILL);
            }
        }
        Ok(exit)
    }

    /// True if it has exited and its status can't be had, because it is traced: its tracer has to wait for it first (ptrace(2)).
    #[must_use]
    pub fn is_held_by_tracer(&self) -> bool {
        let has_exited =
            |fd: BorrowedFd<'_>| matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..));
        self.pidfd().is_some_and(has_exited) && matches!(sys::wait(self.pid.pid, false), Ok(None))
    }

    /// Sends SIGKILL to the tracer that holds it, if that is a descendant of this process, and returns its pid. One that is not,
    /// a debugger of a person for example, is left alone.
    pub fn kill_tracer(&self) -> Option<i32> {
        let tracer = proc::tracer(self.pid.pid).filter(|_| self.is_held_by_tracer())?;
        let fd = sys::pidfd_open(tracer).ok()?;
        // Again, now that the pidfd pins the process.
        let is_it = proc::tracer(self.pid.pid) == Some(tracer) && proc::is_descendant(tracer);
        (is_it && sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok()).then_some(tracer)
    }

    /// As [`Child::ended`], and reaps it.
    ///
    /// # Errors
    /// The error of waitid(2).
    pub fn try_reap(&mut self) -> io::Result<Option<Exit>> {
        let exit = self.ended()?;
        if exit.is_some() {
            sys::wait(self.pid.pid, true)?;
            self.reaped = true;
        }
        Ok(exit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        if !self.over {
            let _ = signal_group(self.pid.pid, Signal::SIGKILL);
        }
        // SIGKILL can't be blocked: this waits for the kernel, not for the job. Not for ever: for one on a disk that is gone, or
        // one whose tracer does not let it go, an orphan is left, which is reaped one day.
        let until = Instant::now() + DEATH_TIMEOUT;
        while matches!(sys::wait(self.pid.pid, true), Ok(None)) && Instant::now() < until {
            self.kill_tracer();
            let timeout = PollTimeout::from(DEATH_POLL_MS);
            match self.pidfd().filter(|_| !self.is_held_by_tracer()) {
                Some(fd) => drop(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout)),
                None => drop(poll(&mut [], timeout)),
            }
        }
    }
}

/// Signals a group; it is no error if it is gone or consists of zombies.
pub(super) fn signal_group(leader: i32, signal: Signal) -> io::Result<()> {
    match killpg(UnixPid::from_raw(leader), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        // EPERM: every member runs as another user by now (a set-user-id program).
        Err(errno) => Err(errno.into()),
    }
}
