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

/// A new pipe.
pub(in crate::exec) struct Pipe {
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
pub(in crate::exec) fn both_ways(writer: OwnedFd) -> OwnedFd {
    let name = format!("/proc/self/fd/{}", writer.as_raw_fd());
    open(&*name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap_or(writer)
}

/// A pipe of which the read end, the first, never blocks.
///
/// # Errors
/// What pipe(2) or the machine's limit on descriptors said.
pub(in crate::exec) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer.into()))
}
