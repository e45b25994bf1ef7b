//! A child of this daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid as UnixPid;

use super::proc;
use crate::exec::sys;
use crate::model::{Exit, Pid};

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

/// A started process that is not reaped yet: the leader of its own group. Dropped, its group is killed and it is reaped, so that
/// neither a process nor a zombie is left.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    exit: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// It has exited, and the rest of its group was sent SIGKILL.
    over: bool,
    reaped: bool,
}

impl Child {
    pub(in crate::exec) fn new(pid: i32, exit: Option<OwnedFd>, start_ticks: Option<u64>) -> Child {
        // ENOSYS before Linux 5.3, EMFILE when descriptors run out: SIGCHLD reports the exit then.
        let exit = exit.or_else(|| sys::pidfd_open(pid).ok());
        let pid = start_ticks.map_or_else(|| proc::identify(pid), |start_ticks| Pid { pid, start_ticks });
        Child { pid, exit, output: None, over: false, reaped: false }
    }

    pub(in crate::exec) fn set_output(&mut self, output: Option<OwnedFd>) {
        self.output = output;
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

    /// Signals its whole group.
    ///
    /// # Errors
    /// The error of kill(2), except for a group that is gone.
    pub fn signal_group(&self, signal: GroupSignal) -> io::Result<()> {
        if self.reaped {
            return Ok(());
        }
        signal_group(self.pid.pid, signal.signal())
    }

    /// Releases it: it goes on without this daemon.
    pub fn leave(mut self) {
        self.reaped = true;
    }

    /// If it has exited, kills the rest of its group and returns how. It is reaped on drop, so that the consequences of its exit
    /// do not wait for the kernel to release it.
    ///
    /// # Errors
    /// The error of waitid(2).
    pub fn ended(&mut self) -> io::Result<Option<Exit>> {
        // While the leader is a zombie, its pid, and so the group's id, is not reused.
        let exit = sys::wait(self.pid.pid, false)?;
        if exit.is_some() && !self.over {
            self.over = true;
            // EPERM (for set-user-id programs) must not cost the exit status.
            let _ = signal_group(self.pid.pid, Signal::SIGKILL);
        }
        Ok(exit)
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
        if !self.reaped {
            if !self.over {
                let _ = signal_group(self.pid.pid, Signal::SIGKILL);
            }
            // SIGKILL can't be blocked: this waits for the kernel, not for the job.
            let _ = sys::wait_for_death(self.pid.pid);
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
