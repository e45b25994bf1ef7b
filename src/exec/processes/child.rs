//! A child of this daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid as UnixPid;

use super::proc;
use crate::exec::sys;
use crate::model::{Exit, Pid};

/// What a process group can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

impl GroupSignal {
    pub(super) const fn signal(self) -> Signal {
        match self {
            GroupSignal::Term => Signal::SIGTERM,
            GroupSignal::Kill => Signal::SIGKILL,
        }
    }
}

/// A process that was started and not yet reaped: the leader of its own group. Dropped early, its group is killed and
/// it is reaped, so that neither a process nor a zombie is left.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    exit: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// It has ended, and what was left of its group has been sent SIGKILL.
    over: bool,
    reaped: bool,
}

impl Child {
    pub(in crate::exec) fn new(pid: i32, exit: Option<OwnedFd>, start_ticks: Option<u64>) -> Child {
        // ENOSYS before Linux 5.3, and EMFILE when descriptors run out: SIGCHLD tells of the exit then.
        let exit = exit.or_else(|| sys::pidfd_open(pid).ok());
        let pid = start_ticks.map_or_else(|| proc::identify(pid), |start_ticks| Pid { pid, start_ticks });
        Child { pid, exit, output: None, over: false, reaped: false }
    }

    pub(in crate::exec) fn give_output(&mut self, output: Option<OwnedFd>) {
        self.output = output;
    }

    /// Its identity.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once it has ended; `None` where the kernel has no pidfd: then try [`Child::try_reap`] on SIGCHLD.
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
    /// What kill(2) said, but for a group that is gone.
    pub fn signal_group(&self, signal: GroupSignal) -> io::Result<()> {
        if self.reaped {
            return Ok(());
        }
        signal_group(self.pid.pid, signal.signal())
    }

    /// Lets go of it: it goes on without this daemon.
    pub fn leave(mut self) {
        self.reaped = true;
    }

    /// If it has ended, kills what is left of its group and tells how. It is reaped when it is dropped: what its end
    /// brings about need not wait until the kernel has taken it apart.
    ///
    /// # Errors
    /// What waitid(2) said.
    pub fn ended(&mut self) -> io::Result<Option<Exit>> {
        // While the leader is a zombie its number, and so the group's, can't be given to anyone else.
        let exit = sys::wait(self.pid.pid, false)?;
        if exit.is_some() && !self.over {
            self.over = true;
            // A refusal (a set-user-id program has made them somebody else's) must not cost the exit status.
            let _ = signal_group(self.pid.pid, Signal::SIGKILL);
        }
        Ok(exit)
    }

    /// As [`Child::ended`], and reaps it.
    ///
    /// # Errors
    /// What waitid(2) said.
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
            // SIGKILL can't be ignored: this waits for the kernel, not for the job.
            let _ = sys::wait_for_death(self.pid.pid);
        }
    }
}

/// Signals a group; one that is gone, or holds only zombies, is no error.
pub(super) fn signal_group(leader: i32, signal: Signal) -> io::Result<()> {
    match killpg(UnixPid::from_raw(leader), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        // Every member runs as somebody else by now (a set-user-id program): nothing of it is ours to end.
        Err(errno) => Err(errno.into()),
    }
}
