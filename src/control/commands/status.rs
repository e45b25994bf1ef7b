//! `status`: the state of the daemon and its jobs.

use serde::{Deserialize, Serialize};

use crate::model::{RunView, TriggerWord};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// This job only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// The reply: the stable format of `ctl status --format json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of firelink.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: String,
    /// The path of the configuration.
    pub config: String,
    /// Every job, in the order of the file.
    pub jobs: Vec<Job>,
    /// Runs that are pending or running.
    pub active: Vec<RunView>,
    /// Problems that need a person.
    pub warnings: Vec<String>,
    /// Why the state can't be written, while it can't; jobs continue in memory.
    #[serde(default)]
    pub state_error: Option<String>,
    /// The targets of `notify`; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyTarget>,
}

/// A target of `notify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTarget {
    /// Its scheme and host; the rest of an address is a secret.
    pub to: String,
    /// `webhook` or `ping`.
    pub kind: String,
    /// The time of the last accepted request.
    pub last_ok_at: Option<String>,
    /// Why the last request failed; null after a success.
    pub last_error: Option<String>,
    /// Requests accepted since the daemon's start.
    #[serde(default)]
    pub delivered: u64,
    /// Deliveries in the queue, with the one in progress.
    pub queued: usize,
    /// Deliveries dropped since the daemon's start.
    pub dropped: u64,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The type of its trigger.
    pub trigger: TriggerWord,
    /// `enabled` of the configuration.
    pub enabled: bool,
    /// Paused by a person.
    pub paused: bool,
    /// `idle`, `pending` or `running`.
    pub state: JobWord,
    /// Its next deadline.
    pub next_at: Option<String>,
    /// Its latest run.
    pub last_run: Option<RunView>,
    /// What its pending run waits for.
    pub waiting_for: Vec<String>,
}

/// A job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobWord {
    /// No run is active.
    Idle,
    /// A run waits.
    Pending,
    /// A process is alive.
    Running,
}

impl JobWord {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobWord::Idle => "idle",
            JobWord::Pending => "pending",
            JobWord::Running => "running",
        }
    }
}
