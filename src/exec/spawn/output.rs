//! The pipe of a run's output.
//!
//! Both outputs go into one pipe, which keeps their order. The process holds it open for reading as well as for writing
//! (Linux allows that for FIFOs, fifo(7), through `/proc/self/fd`; the child reopens it before execve(2)). So
//! when the daemon dies the process gets no SIGPIPE and the buffered output is not lost: the process goes on, blocks at most
//! when the pipe is full, and the next daemon opens the pipe through `/proc/PID/fd` and reads on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;

/// A new pipe.
pub(in crate::exec) struct Pipe {
    /// The daemon's end, non-blocking.
    pub reader: OwnedFd,
    /// The process's end.
    pub writer: OwnedFd,
    /// Its name in `/proc/PID/fd`.
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

/// A pipe: the read end, which is non-blocking, and the write end.
///
/// # Errors
/// What pipe(2) or the machine's limit on descriptors said.
pub(in crate::exec) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer.into()))
}
