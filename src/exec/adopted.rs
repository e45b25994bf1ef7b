//! The child of a daemon that died, which lives on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::child::{GroupSignal, signal_group};
use super::proc::{self, Mark};
use super::{output, strays, sys};
use crate::model::{Exit, Pid};

/// A process that an earlier daemon started. Its end can be seen; its exit status is its parent's alone, which is this
/// process only if the daemon has replaced itself by exec.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    exit: OwnedFd,
    /// By which the rest of its run is known after its end; `None` if it could not be read.
    mark: Option<Mark>,
}

impl Adopted {
    /// The process, if it is still the one that was started: the same pid and the same start time. One that has ended
    /// counts only if this process is its parent, and so can still learn how.
    #[must_use]
    pub fn open(pid: Pid) -> Option<Adopted> {
        let exit = sys::pidfd_open(pid.pid).ok()?;
        // Compared after the pidfd was opened: from then on the number can't come to mean another process unseen.
        let same = pid.start_ticks != 0 && proc::start_ticks(pid.pid) == Some(pid.start_ticks);
        let adopted = Adopted { pid, exit, mark: Mark::of(pid.pid) };
        // One's own child keeps its status until it is asked for it, dead or alive.
        (same && (adopted.is_alive() || proc::is_own_child(pid.pid))).then_some(adopted)
    }

    /// Its output, non-blocking, if it can be come by.
    #[must_use]
    pub fn open_output(&self) -> Option<OwnedFd> {
        output::reopen(self.pid.pid)
    }

    /// Its identity.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// After its end: how it ended, if this process is its parent. Reaps it then.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        sys::wait(self.pid.pid, true).ok().flatten()
    }

    /// False once it has ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.exit.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// After its end: sends SIGKILL to what is left of its run, in its group or not; returns to how many. They are known
    /// by their environment, which must name the same daemon, run, job and time as the process's own did: the number of
    /// the group may have been given to others since. To be called until it returns 0: one may have started another
    /// meanwhile, and those that were signalled are counted until the kernel is done with them. One that is in the
    /// middle of execve(2) has no environment to be known by; a second look some 10 ms later finds it.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn kill_rest(&self) -> io::Result<usize> {
        match &self.mark {
            Some(mark) if !self.is_alive() => strays::kill_marked(mark, self.pid.start_ticks),
            _ => Ok(0),
        }
    }

    /// Signals its whole group.
    ///
    /// # Errors
    /// What kill(2) said, but for a group that is gone.
    pub fn signal_group(&self, signal: GroupSignal) -> io::Result<()> {
        if self.is_alive() { signal_group(self.pid.pid, signal.signal()) } else { Ok(()) }
    }
}

impl AsFd for Adopted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }
}
