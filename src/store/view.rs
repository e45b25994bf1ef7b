//! Runs, attempts and missed deadlines as JSON output shows them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::history::{AttemptRow, MissedRow};
use super::row::StoredRun;
use crate::cron::Zone;
use crate::logs::LogPaths;
use crate::model::signal_name;
use crate::model::{Attempt, Exit, RunId, RunView, StateWord, TriggerWord};

/// The path of a run's log, whether it exists or not.
#[must_use]
pub fn log_path(state_dir: &Path, job: &str, run: RunId) -> PathBuf {
    LogPaths::within(state_dir, job, run).log
}

/// The exit code or the signal's name.
#[must_use]
pub fn split_exit(exit: Option<Exit>) -> (Option<i32>, Option<String>) {
    match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal_name(signal))),
        None => (None, None),
    }
}

impl StoredRun {
    /// The stable JSON form; `zone` is that of its instants.
    #[must_use]
    pub fn view(&self, job: &str, zone: Zone, state_dir: &Path) -> RunView {
        let log = log_path(state_dir, job, self.id);
        let (exit_code, signal) = split_exit(self.exit);
        RunView {
            id: Some(self.id),
            job: job.into(),
            state: self.state,
            trigger: self.trigger,
            // Payloads are checked to be JSON when they arrive; a damaged one is shown as a string.
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

/// An attempt in JSON output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: Attempt,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended; `None` while it is running.
    pub ended_at: Option<String>,
    /// The process's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the process.
    pub signal: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl AttemptRow {
    /// The stable JSON form; `zone` is that of its instants.
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
    /// The stable JSON form, without a run id.
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
