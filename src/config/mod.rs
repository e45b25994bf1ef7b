//! Configuration: one YAML file in, a checked [`Config`] or every [`Diagnostic`] out.
//!
//! Nothing here starts anything. What [`load`] returns is complete: names are resolved, the graph has no cycle,
//! schedules are compiled and can fire, durations are durations. Mistakes are collected, never only the first, and
//! each points at its place in the text.
//!
//! This room imports `model`, `triggers`, `dag`, `engine::rules` and `exec::spec`; `main` and `reactor` import it.

mod common;
mod defaults;
mod draft;
mod execution;
mod fields;
mod file;
mod findings;
mod graph;
mod job;
mod keys;
mod lints;
mod load;
mod metrics;
#[cfg(feature = "notify")]
mod notify;
pub mod reference;
mod render;
mod report;
mod retry;
mod source;
mod surroundings;
mod top;
mod trigger;
mod web;
mod yaml;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cron::Zone;
use crate::engine::rules::Rules;
use crate::exec::spec::{Action, ExecSpec, Hooks};
use crate::store::Durability;
use crate::triggers::Trigger;

pub use file::LARGEST_FILE;
pub use load::{check, check_text, load, load_text};
pub use report::{Entry, Report};
pub use surroundings::Surroundings;

/// What a job says of itself, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// A sentence.
    pub description: Option<Box<str>>,
    /// Words.
    pub tags: Box<[Box<str>]>,
}

/// One job's part that the engine does not need: how it is triggered, made and kept.
#[derive(Debug)]
pub struct Job {
    /// Its name, unique in the file: letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`.
    pub name: Arc<str>,
    /// What it says of itself, if anything.
    pub notes: Option<Box<Notes>>,
    /// What makes it want to run. Jobs that say the same share one, as far as it is only a matter of time.
    pub trigger: Arc<dyn Trigger>,
    /// What a run executes; shared likewise.
    pub action: Arc<Action>,
    /// In which surroundings.
    pub exec: Arc<ExecSpec>,
    /// What follows a run or an attempt, if anything does.
    pub hooks: Option<Box<Hooks>>,
    /// How many ended runs are kept; default 100.
    pub keep_runs: u32,
    /// How long ended runs are kept, besides.
    pub keep_for: Option<Duration>,
    /// The zone in which its instants are shown.
    pub zone: Zone,
}

// Not derived: the derive moves `trigger` out of its `Arc`.
impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        let Job { name, notes, trigger, action, exec, hooks, keep_runs, keep_for, zone } = self;
        *name == other.name
            && *notes == other.notes
            && **trigger == *other.trigger
            && *action == other.action
            && *exec == other.exec
            && *hooks == other.hooks
            && (*keep_runs, *keep_for, *zone) == (other.keep_runs, other.keep_for, other.zone)
    }
}

/// What becomes of running jobs when the daemon is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// They have `shutdown_timeout` to end.
    #[default]
    Wait,
    /// They go on, and the next daemon watches them: for upgrades.
    Leave,
}

/// Where and how often the state is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The directory of the copy.
    pub to: PathBuf,
    /// How long a change may be without a copy; the daemon's end makes one too.
    pub every: Duration,
}

/// Where the window listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket's file.
    Unix(PathBuf),
}

/// `web`: the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where it listens.
    pub listen: Listen,
    /// A file whose first line is the token of requests that change something; read at a start and at a reload.
    pub token_file: Option<PathBuf>,
    /// Names by which it may be called besides those of this machine, in lower case.
    pub allowed_hosts: Vec<String>,
}

/// `metrics`: a file for node_exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The file.
    pub textfile: PathBuf,
    /// How long a change may be without being in it.
    pub every: Duration,
}

/// One of `notify`: whom the daemon calls.
#[cfg(feature = "notify")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The whole address, which is a secret: only its scheme and host may be shown.
    pub url: Box<str>,
    /// When.
    pub calls: Calls,
    /// How long one call may take.
    pub timeout: Duration,
    /// When a call that failed is tried again.
    pub retry: crate::engine::rules::Retry,
}

/// When a hook is called.
#[cfg(feature = "notify")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// When something happens.
    Event {
        /// What.
        on: Box<[Tell]>,
        /// To jobs whose names match one of these; none: to any.
        jobs: Box<[globset::Glob]>,
        /// What deliveries are signed with.
        secret: Option<Secret>,
    },
    /// Every so often while all is well.
    Ping {
        /// How often.
        every: Duration,
    },
}

/// What a hook is told of.
#[cfg(feature = "notify")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// A run that ended so, or a deadline that was missed.
    State(crate::model::StateWord),
    /// The first success after a failure.
    Recovered,
}

/// A key that nobody may see.
#[cfg(feature = "notify")]
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

#[cfg(feature = "notify")]
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

/// The whole file, checked.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// The jobs, in the order of the file; indexed like `rules.jobs`.
    pub jobs: Vec<Job>,
    /// What the engine needs of it.
    pub rules: Rules,
    /// The zone of the file, else of the system.
    pub zone: Zone,
    /// How long running jobs get when the daemon is asked to stop.
    pub shutdown_timeout: Duration,
    /// What becomes of running jobs when the daemon is asked to stop.
    pub on_stop: OnStop,
    /// How many ended runs are kept of a job that is not in the file any more: as `defaults` says it.
    pub keep_runs: u32,
    /// How long, besides.
    pub keep_for: Option<Duration>,
    /// `state_dir`, if the file names one.
    pub state_dir: Option<PathBuf>,
    /// `state.durability`.
    pub durability: Durability,
    /// `state.commit_every`: zero commits once per turn of the loop.
    pub commit_every: Duration,
    /// `state.sync_to`: where the state is copied to, for one that is kept in memory.
    pub sync: Option<Sync>,
    /// The window, if there is one.
    pub web: Option<Web>,
    /// The file of numbers, if there is one.
    pub metrics: Option<Metrics>,
    /// Whom the daemon calls.
    #[cfg(feature = "notify")]
    pub notify: Vec<Hook>,
    /// Legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
}

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file loads.
    Warning,
}

/// One thing that is wrong with the file, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file as the person named it.
    pub file: PathBuf,
    /// Counted from 1; 0 if the file could not be read.
    pub line: usize,
    /// Counted from 1 in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// The message with the line and a caret, ready to print, without a final newline.
    pub rendered: String,
}

/// Every diagnostic of a file that was refused; at least one is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<Diagnostic>);
