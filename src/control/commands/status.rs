//! `status`: how the daemon and its jobs stand.

use serde::{Deserialize, Serialize};

use crate::model::{RunView, TriggerWord};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// This job alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// The answer: the stable shape of `ctl status --format json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of firelink.
    pub version: String,
    /// Of the daemon.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: String,
    /// The configuration's file.
    pub config: String,
    /// Every job, in the order of the file.
    pub jobs: Vec<Job>,
    /// Runs that are pending or running.
    pub active: Vec<RunView>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Why the state can't be written, while that is so; jobs go on in memory.
    #[serde(default)]
    pub state_error: Option<String>,
    /// Whom the daemon calls; not there if it calls nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyTarget>,
}

/// One that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTarget {
    /// Its scheme and host; the rest of an address is a secret.
    pub to: String,
    /// `webhook` or `ping`.
    pub kind: String,
    /// When it last took a call.
    pub last_ok_at: Option<String>,
    /// Why the last call failed, until one succeeds.
    pub last_error: Option<String>,
    /// Calls that were taken since the daemon's start.
    #[serde(default)]
    pub delivered: u64,
    /// Deliveries that wait, with the one that is under way.
    pub queued: usize,
    /// Deliveries that were given up since the daemon's start.
    pub dropped: u64,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The type of its trigger.
    pub trigger: TriggerWord,
    /// False if the configuration says so.
    pub enabled: bool,
    /// Held by a person.
    pub paused: bool,
    /// `idle`, `pending` or `running`.
    pub state: JobWord,
    /// Its next deadline.
    pub next_at: Option<String>,
    /// Its newest run.
    pub last_run: Option<RunView>,
    /// What keeps it from running.
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
