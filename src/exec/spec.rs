//! The process of a job as plain data: `config` reads it, and [`super::spawn()`] executes it.

use std::path::PathBuf;

/// What a run executes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: the run succeeds at once.
    Milestone,
    /// A program and its arguments, run directly; looked up in `PATH` if it has no slash. Never empty.
    Argv(Box<[Box<str>]>),
    /// A line for `/bin/sh -c`.
    Shell(Box<str>),
    /// A script run by an interpreter: `interpreter… script args…`.
    Script {
        /// For example `["bash"]` or `["python3", "-u"]`; looked up in `PATH`. Never empty.
        interpreter: Box<[Box<str>]>,
        /// A relative path starts from the job's `cwd`.
        script: PathBuf,
        /// Its arguments.
        args: Box<[Box<str>]>,
    },
}

/// Commands that follow an attempt or a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// After a run that succeeded.
    pub on_success: Option<Action>,
    /// After a run that failed, timed out or was lost; not after one that was cancelled or skipped.
    pub on_failure: Option<Action>,
    /// After an attempt that failed and will be followed by another.
    pub on_retry: Option<Action>,
}

/// Where the output of a run goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Capture {
    /// Into the run's log file, as it is written.
    #[default]
    All,
    /// Kept in memory and written only if the run does not succeed.
    OnFailure,
    /// To `/dev/null`.
    None,
}

/// The processes of a run that are ended with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KillMode {
    /// All of them.
    #[default]
    Run,
    /// The one that was started. What it leaves is left alone.
    Main,
}

/// Resource limits; `None` leaves the daemon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of memory of the whole run (`memory.max`), or of address space of each process (`RLIMIT_AS`).
    pub memory: Option<u64>,
    /// Processes and threads of the whole run (`pids.max`), or of the job's user (`RLIMIT_NPROC`).
    pub pids: Option<u64>,
    /// CPU seconds of each process (`RLIMIT_CPU`).
    pub cpu_secs: Option<u64>,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

impl Limits {
    /// True if one of them applies to the whole run, which only a control group enforces exactly.
    #[must_use]
    pub fn are_of_the_whole_run(&self) -> bool {
        self.memory.is_some() || self.pids.is_some()
    }
}

/// Which of the daemon's variables a job inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum InheritEnv {
    /// All of them for a job of the daemon's own user, `PATH`, `LANG` and `TZ` for one of another user.
    #[default]
    ByUser,
    /// All of them.
    All,
    /// `PATH`, `LANG` and `TZ`, and these.
    Only(Box<[Box<str>]>),
}

/// The execution settings of a job. Jobs with equal settings share one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExecSpec {
    /// Which of the daemon's variables are inherited.
    pub inherit_env: InheritEnv,
    /// Variables added to those.
    pub env: Vec<(String, String)>,
    /// A file of `KEY=value` lines, read at each start and never shown; relative to `cwd`.
    pub env_file: Option<PathBuf>,
    /// The working directory; `None`: that in which the daemon was started.
    pub cwd: Option<PathBuf>,
    /// Run as this user (a name or a number).
    pub user: Option<String>,
    /// Run as this group (a name or a number); default: the user's own.
    pub group: Option<String>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Added to the daemon's niceness.
    pub nice: Option<i32>,
    /// Resource limits.
    pub limits: Limits,
    /// What is ended with a run.
    pub kill_mode: KillMode,
    /// Where the output goes.
    pub capture: Capture,
    /// The size at which a log is cut; `None`: [`DEFAULT_LOG_SIZE`].
    pub max_size: Option<u64>,
}

/// A log's size limit where the job says nothing: 1 MiB is more than a person reads, and 100 kept runs of it fit a
/// small card.
pub const DEFAULT_LOG_SIZE: u64 = 1 << 20;
