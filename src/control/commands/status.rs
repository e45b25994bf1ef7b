//! `status`: how the daemon and its jobs stand.

use std::fmt::Write as _;

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
    const fn as_str(self) -> &'static str {
        match self {
            JobWord::Idle => "idle",
            JobWord::Pending => "pending",
            JobWord::Running => "running",
        }
    }
}

/// The answer for a terminal of 80 columns: a line a job, then what is active, then what is wrong.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut text = format!("firelink {}  pid {}  since {}\n{}\n\n", status.version, status.pid, status.started_at, status.config);
    let width = status.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(3).clamp(3, 24);
    let _ = writeln!(text, "{:<width$}  {:<10}  {:<8}  {:<10}  NEXT / WAITING FOR", "JOB", "TRIGGER", "STATE", "LAST");
    for job in &status.jobs {
        let state = match (job.enabled, job.paused) {
            (false, _) => "disabled",
            (true, true) => "paused",
            (true, false) => job.state.as_str(),
        };
        let last = job.last_run.as_ref().map_or("-", |run| run.state.as_str());
        let next = match (&job.next_at, job.waiting_for.is_empty()) {
            (_, false) => job.waiting_for.join(", "),
            (Some(at), true) => at.clone(),
            (None, true) => "-".into(),
        };
        let _ = writeln!(text, "{:<width$}  {:<10}  {state:<8}  {last:<10}  {next}", job.name, job.trigger);
    }
    if !status.active.is_empty() {
        text.push_str("\nActive runs\n");
        for run in &status.active {
            let _ = writeln!(text, "{}", super::run_line(run));
        }
    }
    for warning in &status.warnings {
        let _ = write!(text, "\nwarning: {warning}\n");
    }
    text
}
