//! Where nobody has written down how system calls are made: everything is posix_spawn(3)'s.

use std::io;
use std::os::fd::BorrowedFd;

use super::child::Child;
use super::plan::Program;

/// There is none.
#[derive(Debug)]
pub(super) enum Starting {}

/// Refuses.
///
/// # Errors
/// Always.
pub(super) fn start(program: Program, _: [Option<BorrowedFd<'_>>; 2], _: bool) -> Result<Starting, (io::Error, Program)> {
    Err((io::ErrorKind::Unsupported.into(), program))
}

impl Starting {
    /// Cannot be called.
    pub fn is_up(&self) -> bool {
        match *self {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn settle(self) -> io::Result<Child> {
        match self {}
    }
}
