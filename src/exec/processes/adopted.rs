//! The child of a daemon that died, which lives on.
//!
//! Its end is seen through a pidfd. How it ended is told to its parent, which is init by then, or a subreaper; but until
//! the parent has asked, `/proc` shows it to whoever may read the process, and from Linux 6.15 on the pidfd keeps it for
//! good. So how a run ended that outlived its daemon is nearly always known, and the runs of every day pay nothing for
//! it. A wrapper around each command, which could leave a record of its end, would cost every run a process, a fork and a
//! write, for the few whose daemon dies. What is left is the run that ends while no daemon is there, and on an old kernel
//! the one whose parent is faster: they are `lost`, and the reason says so.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat};

use super::child::{GroupSignal, signal_group};
use super::escaped;
use super::proc::{self, Mark};
use crate::exec::marks::OUTPUT;
use crate::exec::sys;
use crate::model::{Exit, Pid};

/// A process that an earlier daemon started, which is still its parent if it has replaced itself by exec.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    exit: OwnedFd,
    /// By which the rest of its run is known after its end; `None` if it could not be read.
    mark: Option<Mark>,
}

impl Adopted {
    /// The process, if it is still the one that was started: the same pid and the same start time. One that has ended
    /// counts as long as nobody has reaped it: until then, how it ended can be learnt.
    #[must_use]
    pub fn open(pid: Pid) -> Option<Adopted> {
        let exit = sys::pidfd_open(pid.pid).ok()?;
        // Compared after the pidfd was opened: from then on the number can't come to mean another process unseen.
        let same = pid.start_ticks != 0 && proc::start_ticks(pid.pid) == Some(pid.start_ticks);
        same.then(|| Adopted { pid, exit, mark: Mark::of(pid.pid) })
    }

    /// Its output, non-blocking, if it can be come by.
    #[must_use]
    pub fn open_output(&self) -> Option<OwnedFd> {
        reopen_output(self.pid.pid)
    }

    /// Its identity.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// After its end: how it ended, if that can be known. Reaps it, if this process is its parent.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        // Its parent may reap it between the second look and the third, whose answer only comes after that.
        let own = || sys::wait(self.pid.pid, true).ok().flatten();
        own().or_else(|| proc::exit_of_zombie(self.pid)).or_else(|| sys::pidfd_exit(self.exit.as_fd()))
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
    pub fn kill_remaining(&self) -> io::Result<usize> {
        match &self.mark {
            Some(mark) if !self.is_alive() => escaped::kill_marked(mark, self.pid.start_ticks),
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

/// The pipe into which a process that an earlier daemon started writes its output, non-blocking; `None` if it has none
/// any more, or may not be looked into.
fn reopen_output(pid: i32) -> Option<OwnedFd> {
    let wanted = proc::variable(pid, OUTPUT)?;
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let same = |path: &std::path::Path| std::fs::read_link(path).is_ok_and(|link| *link.as_os_str() == *wanted);
    let path = fds.filter_map(|entry| Some(entry.ok()?.path())).find(|path| same(path))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = open(&path, flags, Mode::empty()).ok()?;
    // Between the look and the opening the number may have come to mean another file.
    let name = format!("pipe:[{}]", fstat(fd.as_fd()).ok()?.st_ino);
    (*wanted == *std::ffi::OsStr::new(&name)).then_some(fd)
}
