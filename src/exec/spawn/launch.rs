//! What is started, and why it could not be.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::exec::spec::{Action, ExecSpec, Limits};

/// A process to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The command.
    pub action: &'a Action,
    /// The execution settings.
    pub exec: &'a ExecSpec,
    /// The directory in which the daemon was started: the `cwd` of jobs that set none.
    pub start_dir: &'a Path,
    /// The run's own variables, which override all others.
    pub vars: &'a [(&'a str, Cow<'a, OsStr>)],
    /// The directory of the control group to enter, and the limits that it does not enforce.
    pub cgroup: Option<(BorrowedFd<'a>, &'a Limits)>,
}

/// Why a process could not be started, as a sentence with the operation, its object, the error of the OS and a fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// A program that does not exist, or is not in `PATH`.
    NotFound(String),
    /// A script that does not exist.
    NoScript(PathBuf),
    /// A file that is not executable.
    NotExecutable(String),
    /// A directory where a program should be.
    IsDirectory(String),
    /// A program that this user may not execute.
    Forbidden(String, String),
    /// A working directory that can't be entered.
    Directory(PathBuf, String),
    /// A user or group that does not exist, or can't be switched to.
    Account(String),
    /// A variable or argument that can't be passed, or an `env_file` that can't be read.
    Environment(String),
    /// A child that did not get to its program in time, and what it was doing.
    Hung(String, String),
    /// Any other error of the OS.
    Os(String, String),
    /// A milestone has nothing to start.
    Nothing,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotFound(program) if program.contains('/') => write!(f, "`{program}` does not exist"),
            SpawnError::NotFound(program) => write!(f, "`{program}` was not found in PATH; install it or name its full path"),
            SpawnError::NoScript(path) => write!(f, "the script {} does not exist", path.display()),
            SpawnError::NotExecutable(program) => write!(f, "`{program}` is not executable; chmod +x, or name its interpreter"),
            SpawnError::IsDirectory(program) => write!(f, "`{program}` is a directory, not a program"),
            SpawnError::Forbidden(program, user) => write!(f, "`{program}` may not be executed by the user `{user}`"),
            SpawnError::Directory(path, reason) => write!(f, "the working directory {} can't be used: {reason}", path.display()),
            SpawnError::Account(reason) | SpawnError::Environment(reason) => f.write_str(reason),
            SpawnError::Hung(program, what) => {
                write!(f, "`{program}` was not started in time: {what} did not finish; does its file system answer?")
            }
            SpawnError::Os(program, reason) => write!(f, "`{program}` can't be started: {reason}"),
            SpawnError::Nothing => f.write_str("there is no command to start"),
        }
    }
}

impl std::error::Error for SpawnError {}
