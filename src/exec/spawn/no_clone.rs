//! Other architectures: posix_spawn(3) starts everything.

use std::io;
use std::os::fd::BorrowedFd;

use super::plan::Program;
use crate::exec::processes::Child;

/// Never constructed.
#[derive(Debug)]
pub(in crate::exec) enum Starting {}

/// Returns an error.
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
