//! The list of mounts, which says when it has changed: a path that led over local file systems may lead elsewhere then.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use mio::Interest;

use super::io::{Io, What};

/// `/proc/self/mountinfo`, which poll(2) reports with `POLLPRI` after each change (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(super) struct Mounts {
    _file: File,
}

impl Mounts {
    /// Watches it.
    ///
    /// # Errors
    /// When there is no `/proc`, and that of epoll_ctl(2).
    pub fn open(io: &mut Io) -> io::Result<Mounts> {
        let file = File::open("/proc/self/mountinfo")?;
        io.watch(file.as_raw_fd(), What::Mounts, Interest::PRIORITY)?;
        Ok(Mounts { _file: file })
    }
}
