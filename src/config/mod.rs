//! Configuration: one YAML file in, a checked [`Config`] or every [`Diagnostic`] out.
//!
//! Nothing here starts anything. The result of [`load()`] is complete: names are resolved, the graph has no cycle, schedules
//! are compiled and can fire, durations are durations. Errors are collected, never only the first, and each points at its
//! place in the text.
//!
//! The way of a file: `file` (bytes that may be trusted) -> `yaml` (a tree with places) -> `top` and `job` (one reader a
//! subject, by `fields`) -> `graph` (names into edges) -> `lints` (legal but likely wrong). Everything on it reports to
//! `findings`, which `render` shows.
//!
//! This room imports `model`, `text`, `triggers`, `cron`, `dag`, `engine::rules`, `exec::spec` and `store::Durability`;
//! `cli` and `reactor` import it.

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
mod looks;
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
pub use looks::{Look, Looked, NotLooked, look_here};
pub use report::{Entry, Report};
pub use surroundings::Surroundings;

/// A job's description, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `description`.
    pub description: Option<Box<str>>,
    /// `tags`.
    pub tags: Box<[Box<str>]>,
}

/// The part of a job that the engine does not need: its trigger, its command and how long its runs are kept.
#[derive(Debug)]
pub struct Job {
    /// Its name, unique in the file: letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`.
    pub name: Arc<str>,
    /// None if the job has neither a description nor tags.
    pub notes: Option<Box<Notes>>,
    /// What makes it run. Jobs with equal triggers share one, unless the trigger has a source.
    pub trigger: Arc<dyn Trigger>,
    /// What a run executes; equal ones are shared.
    pub action: Arc<Action>,
    /// The environment of its processes; equal ones are shared.
    pub exec: Arc<ExecSpec>,
    /// `on_success`, `on_failure` and `on_retry`; none if the job has none of them.
    pub hooks: Option<Box<Hooks>>,
    /// How many ended runs are kept.
    pub keep_runs: u32,
    /// How long ended runs are kept, at most.
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

/// What happens to running jobs when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// They have `shutdown_timeout` to end.
    #[default]
    Wait,
    /// They continue, and the next daemon adopts them: for upgrades.
    Leave,
}

/// `state.sync_to`: where and how often the state is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The directory of the copy.
    pub to: PathBuf,
    /// The longest time a change may be without a copy. A copy is also made when the daemon stops.
    pub every: Duration,
}

/// Where the web UI listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// `web`: the web UI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// `listen`.
    pub listen: Listen,
    /// A file whose first line is the token of requests that change something; read at start and at reload.
    pub token_file: Option<PathBuf>,
    /// Accepted values of `Host` besides the names of this machine, in lower case.
    pub allowed_hosts: Vec<String>,
}

/// `metrics`: a file for node_exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `textfile`, absolute.
    pub textfile: PathBuf,
    /// The longest delay until a change is in the file.
    pub every: Duration,
}

/// An item of `notify`: a webhook or a dead man's switch.
#[cfg(feature = "notify")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyTarget {
    /// The whole address, which is a secret: only its scheme and host may be shown or logged.
    pub url: Box<str>,
    /// Webhook or ping.
    pub kind: NotifyKind,
    /// How long one request may take.
    pub timeout: Duration,
    /// When a failed request is retried.
    pub retry: crate::engine::rules::Retry,
}

/// What a target is sent, and when.
#[cfg(feature = "notify")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyKind {
    /// A webhook: events by POST.
    Event {
        /// The events that are sent.
        on: Box<[NotifyOn]>,
        /// Patterns of names of jobs; empty for all jobs.
        jobs: Box<[globset::Glob]>,
        /// The key that deliveries are signed with.
        secret: Option<Secret>,
    },
    /// A dead man's switch: a GET while the daemon is healthy.
    Ping {
        /// The interval.
        every: Duration,
    },
}

/// An event that a webhook subscribes to.
#[cfg(feature = "notify")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyOn {
    /// A run that ended in this state, or a missed deadline.
    State(crate::model::StateWord),
    /// The first success after a failure.
    Recovered,
}

/// A key that is never shown.
#[cfg(feature = "notify")]
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

#[cfg(feature = "notify")]
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// The whole file, checked.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// The jobs, in the order of the file; indexed like `rules.jobs`.
    pub jobs: Vec<Job>,
    /// The part that the engine needs.
    pub rules: Rules,
    /// The zone of the file, else the system's.
    pub zone: Zone,
    /// How long running jobs get to end when the daemon stops.
    pub shutdown_timeout: Duration,
    /// What happens to running jobs when the daemon stops.
    pub on_stop: OnStop,
    /// How many ended runs are kept of a job that has been removed from the file: the value of `defaults`.
    pub keep_runs: u32,
    /// How long ended runs of such a job are kept, at most.
    pub keep_for: Option<Duration>,
    /// `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `state.durability`.
    pub durability: Durability,
    /// `state.commit_every`: zero commits once per turn of the event loop.
    pub commit_every: Duration,
    /// `state.sync_to`: for a state that is kept in memory.
    pub sync: Option<Sync>,
    /// `web`.
    pub web: Option<Web>,
    /// `metrics`.
    pub metrics: Option<Metrics>,
    /// `notify`.
    #[cfg(feature = "notify")]
    pub notify: Vec<NotifyTarget>,
    /// Legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
}

/// The severity of a [`Diagnostic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file loads.
    Warning,
}

/// An error or a warning about the file, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The path as it was given.
    pub file: PathBuf,
    /// Counted from 1; 0 if the file could not be read.
    pub line: usize,
    /// Counted from 1 in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to fix it; may be empty.
    pub help: String,
    /// The message with the line and a caret, ready to print, without a final newline.
    pub rendered: String,
}

/// Every diagnostic of a refused file; at least one is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<Diagnostic>);
