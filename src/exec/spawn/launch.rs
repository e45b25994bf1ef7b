//! What is started, and why it could not be.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::exec::spec::{Action, ExecSpec, Limits};

/// One attempt, ready to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What.
    pub action: &'a Action,
    /// In which surroundings.
    pub exec: &'a ExecSpec,
    /// Where the daemon was started: the `cwd` of jobs that name none.
    pub start_dir: &'a Path,
    /// The run's own variables; they win over all others.
    pub vars: &'a [(&'a str, Cow<'a, OsStr>)],
    /// The control group that it enters, and what of its limits that one does not keep.
    pub cgroup: Option<(BorrowedFd<'a>, &'a Limits)>,
}

/// Why nothing was started: a sentence with what was tried, on what, the OS's word and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// A program that is not there, or not in `PATH`.
    NotFound(String),
    /// A script that is not there.
    NoScript(PathBuf),
    /// A file that is not executable.
    NotExecutable(String),
    /// A directory where a program should be.
    IsDirectory(String),
    /// A program that this user may not execute.
    Forbidden(String, String),
    /// A working directory that can't be entered.
    Directory(PathBuf, String),
    /// A user or group that does not exist, or can't be become.
    Account(String),
    /// A variable or argument that can't be passed, or an `env_file` that can't be read.
    Environment(String),
    /// Anything else that the OS said.
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
            SpawnError::Directory(path, said) => write!(f, "the working directory {} can't be used: {said}", path.display()),
            SpawnError::Account(said) | SpawnError::Environment(said) => f.write_str(said),
            SpawnError::Os(program, said) => write!(f, "`{program}` can't be started: {said}"),
            SpawnError::Nothing => f.write_str("there is no command to start"),
        }
    }
}

impl std::error::Error for SpawnError {}
