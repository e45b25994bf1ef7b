//! Where nobody has written down how system calls are made: everything is posix_spawn(3)'s.

use std::io;
use std::os::fd::BorrowedFd;

use super::plan::Program;
use crate::exec::processes::Child;

/// There is none.
#[derive(Debug)]
pub(in crate::exec) enum Starting {}

/// Refuses.
///
/// # Errors
/// Always.
pub(in crate::exec) fn start(
    program: Program,
    _: [Option<BorrowedFd<'_>>; 2],
    _: bool,
) -> Result<Starting, (io::Error, Program)> {
    Err((io::ErrorKind::Unsupported.into(), program))
}

impl Starting {
    /// Cannot be called.
    pub fn has_execed(&self) -> bool {
        match *self {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn wait_for_exec(self) -> io::Result<Child> {
        match self {}
    }
}
