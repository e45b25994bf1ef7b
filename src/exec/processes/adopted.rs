//! The child of a daemon that died, which lives on.
//!
//! Its exit is seen through a pidfd. Its exit status goes to its parent, by then init or a subreaper; until the parent has
//! reaped it, `/proc` shows the status to processes that may read it, and from Linux 6.15 on the pidfd keeps it. So the
//! status of a run that outlived its daemon is nearly always known, at no cost for other runs. The alternative, a wrapper
//! around each command that records its exit, would cost every run a process, a fork and a write, for the few whose daemon
//! dies. What remains are runs that end while no daemon is running, and on an old kernel those whose parent is faster: they
//! are `lost`, with a reason.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat};

use super::child::{GroupSignal, signal_group};
use super::leftovers;
use super::mark::Mark;
use super::proc::{self, Environ};
use crate::exec::marks::OUTPUT;
use crate::exec::spec::KillMode;
use crate::exec::sys;
use crate::model::{Exit, Pid};

/// A process that an earlier daemon started; this process is still its parent if the daemon has replaced itself by exec.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    exit: OwnedFd,
    /// Identifies the rest of its run after its exit; `None` if it could not be read.
    mark: Option<Mark>,
    kill_mode: KillMode,
}

impl Adopted {
    /// The process, if it is still the one that was started, by pid and start time. A zombie counts: its exit status can be read.
    #[must_use]
    pub fn open(pid: Pid) -> Option<Adopted> {
        let exit = sys::pidfd_open(pid.pid).ok()?;
        // After the pidfd was opened: it stays with this process, even if the pid is reused.
        let same = pid.start_ticks != 0 && proc::start_ticks(pid.pid) == Some(pid.start_ticks);
        same.then(|| Adopted { pid, exit, mark: Mark::of(pid.pid), kill_mode: KillMode::Run })
    }

    /// Sets whether it is killed alone.
    #[must_use]
    pub fn with_kill_mode(self, kill_mode: KillMode) -> Adopted {
        Adopted { kill_mode, ..self }
    }

    /// Whether it is killed alone.
    #[must_use]
    pub fn kill_mode(&self) -> KillMode {
        self.kill_mode
    }

    /// Its output, non-blocking, if it can be reopened.
    #[must_use]
    pub fn open_output(&self) -> Option<OwnedFd> {
        reopen_output(self.pid.pid)
    }

    /// Its identity.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// After its exit: its exit status, if that is known. Reaps it, if this process is its parent.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        // In this order: the pidfd has the status only after the parent has reaped it.
        let own = || sys::wait(self.pid.pid, true).ok().flatten();
        own().or_else(|| proc::exit_of_zombie(self.pid)).or_else(|| sys::pidfd_exit(self.exit.as_fd()))
    }

    /// False once it has exited.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.exit.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// After its exit: sends SIGKILL to the remaining processes of its run, inside its group or not, and returns their number;
    /// with [`KillMode::Main`] to none.
    /// They are identified by their environment, which must name the same daemon, run, job and time: the id of the group may
    /// have been reused. To be called until it returns 0: a process may have forked meanwhile, and signalled ones count until
    /// they are gone. A process in the middle of execve(2) has no environment; a call some 10 ms later finds it.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn kill_remaining(&self) -> io::Result<usize> {
        match &self.mark {
            Some(mark) if self.kill_mode == KillMode::Run && !self.is_alive() => {
                leftovers::kill_marked(mark, self.pid.start_ticks)
            }
            _ => Ok(0),
        }
    }

    /// Signals its whole group, with [`KillMode::Main`] it alone.
    ///
    /// # Errors
    /// The error of kill(2), except for a group that is gone.
    pub fn signal(&self, signal: GroupSignal) -> io::Result<()> {
        match self.kill_mode {
            _ if !self.is_alive() => Ok(()),
            KillMode::Run => signal_group(self.pid.pid, signal.signal()),
            KillMode::Main => sys::pidfd_send_signal(self.exit.as_fd(), signal.signal()),
        }
    }
}

impl AsFd for Adopted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }
}

/// The output pipe of a process that an earlier daemon started, non-blocking; `None` if it has closed it, or may not be
/// inspected.
fn reopen_output(pid: i32) -> Option<OwnedFd> {
    let environ = Environ::of(pid)?;
    let wanted = OsStr::from_bytes(environ.value(OUTPUT)?);
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let same = |path: &std::path::Path| std::fs::read_link(path).is_ok_and(|link| *link.as_os_str() == *wanted);
    let path = fds.filter_map(|entry| Some(entry.ok()?.path())).find(|path| same(path))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = open(&path, flags, Mode::empty()).ok()?;
    // The descriptor number may have been reused between readlink(2) and open(2).
    let name = format!("pipe:[{}]", fstat(fd.as_fd()).ok()?.st_ino);
    (wanted == OsStr::new(&name)).then_some(fd)
}
