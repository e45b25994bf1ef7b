//! The pipe of a run's output, and how the next daemon comes by it.
//!
//! Both outputs go into one pipe, so that their order is kept. The process holds it open for reading as well as for
//! writing (fifo(7) of Linux allows that, through `/proc/self/fd`; mostly the child opens it so, before it executes its
//! program), so when the daemon dies the process is neither ended
//! by SIGPIPE nor are the last kilobytes lost: it goes on, waits at most when the pipe is full, and the next daemon opens
//! the pipe through `/proc/PID/fd` and reads on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, fstat};

use super::processes::proc;

/// The variable by which a run's pipe is told from others that its processes have.
pub(super) const OUTPUT: &str = "FIRELINK_OUTPUT";

/// A new pipe.
pub(super) struct Pipe {
    /// The daemon's end, which never blocks.
    pub reader: OwnedFd,
    /// The process's.
    pub writer: OwnedFd,
    /// As the kernel shows it in `/proc/PID/fd`.
    pub name: String,
}

impl Pipe {
    /// # Errors
    /// What pipe(2) or the machine's limit on descriptors said.
    pub fn new() -> io::Result<Pipe> {
        let (reader, writer) = pipe()?;
        let name = format!("pipe:[{}]", fstat(reader.as_fd())?.st_ino);
        Ok(Pipe { reader, writer, name })
    }
}

/// The write end of a pipe, opened again for both. Without /proc the run does not survive the daemon's end, and is none the
/// worse before that.
pub(super) fn both_ways(writer: OwnedFd) -> OwnedFd {
    let name = format!("/proc/self/fd/{}", writer.as_raw_fd());
    open(&*name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap_or(writer)
}

/// A pipe of which the read end, the first, never blocks.
///
/// # Errors
/// What pipe(2) or the machine's limit on descriptors said.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer.into()))
}

/// The pipe into which a process that an earlier daemon started writes its output, non-blocking; `None` if it has none
/// any more, or may not be looked into.
pub(super) fn reopen(pid: i32) -> Option<OwnedFd> {
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
