//! A stored run as it is shown.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::history::{AttemptRow, MissedRow};
use super::row::StoredRun;
use crate::cron::Zone;
use crate::model::signal_name;
use crate::model::{Attempt, Exit, RunId, RunView, StateWord, TriggerWord};

/// Where the output of a run is, or would be.
#[must_use]
pub fn log_path(state_dir: &Path, job: &str, run: RunId) -> PathBuf {
    state_dir.join("logs").join(job).join(format!("{run}.log"))
}

/// The two columns of an exit: code and signal's name.
#[must_use]
pub fn split_exit(exit: Option<Exit>) -> (Option<i32>, Option<String>) {
    match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal_name(signal))),
        None => (None, None),
    }
}

impl StoredRun {
    /// The stable shape; `zone` is the one in which instants are told.
    #[must_use]
    pub fn view(&self, job: &str, zone: Zone, state_dir: &Path) -> RunView {
        let log = log_path(state_dir, job, self.id);
        let (exit_code, signal) = split_exit(self.exit);
        RunView {
            id: Some(self.id),
            job: job.into(),
            state: self.state,
            trigger: self.trigger,
            // Payloads were JSON when they came in; one that is not any more is shown as the text it is.
            event: self.event.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into())),
            scheduled_at: zone.rfc3339(self.scheduled_at),
            started_at: self.started_at.map(|at| zone.rfc3339(at)),
            ended_at: self.ended_at.map(|at| zone.rfc3339(at)),
            attempt: self.attempt,
            exit_code,
            signal,
            reason: self.reason.clone(),
            log: log.exists().then(|| log.display().to_string()),
        }
    }
}

/// An attempt as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Which.
    pub attempt: Attempt,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended; not yet for one that goes on.
    pub ended_at: Option<String>,
    /// How its process ended, if it exited.
    pub exit_code: Option<i32>,
    /// The signal by which its process ended.
    pub signal: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl AttemptRow {
    /// The stable shape; `zone` is the one in which instants are told.
    #[must_use]
    pub fn view(self, zone: Zone) -> AttemptView {
        let (exit_code, signal) = split_exit(self.exit);
        AttemptView {
            attempt: self.attempt,
            started_at: self.started_at.map(|at| zone.rfc3339(at)),
            ended_at: Some(zone.rfc3339(self.ended_at)),
            exit_code,
            signal,
            reason: Some(self.reason),
        }
    }
}

impl MissedRow {
    /// The stable shape, with no run to name.
    #[must_use]
    pub fn view(&self, job: &str, zone: Zone) -> RunView {
        RunView {
            id: None,
            job: job.into(),
            state: StateWord::Missed,
            trigger: TriggerWord::Cron,
            event: None,
            scheduled_at: zone.rfc3339(self.at),
            started_at: None,
            ended_at: None,
            attempt: Attempt(0),
            exit_code: None,
            signal: None,
            reason: Some(self.reason.clone()),
            log: None,
        }
    }
}
