//! The variables by which processes know their run, and by which they are found again.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::config::Job;
use crate::engine::Spawn;
use crate::exec::{self, PLUGIN};
use crate::model::{Attempt, Pid, RunId, TriggerWord, WallTime};
use crate::store::StoredRun;

/// Tells the runs of one daemon from those of another, whose numbers are the same.
const STATE_DIR: &str = "FIRELINK_STATE_DIR";

/// What all processes of one daemon have in common.
#[derive(Debug)]
pub(in crate::reactor) struct Environment {
    pub state_dir: PathBuf,
    /// The directory in which the daemon was started.
    pub start_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
}

/// The attempt that a process is of, or follows.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub run: RunId,
    pub attempt: Attempt,
    pub trigger: TriggerWord,
    pub scheduled_at: WallTime,
    pub event: Option<&'a str>,
}

impl<'a> About<'a> {
    pub fn of_spawn(spawn: &'a Spawn) -> About<'a> {
        About {
            run: spawn.run,
            attempt: spawn.attempt,
            trigger: spawn.trigger,
            scheduled_at: spawn.scheduled_at,
            event: spawn.event.as_deref(),
        }
    }

    pub fn of_row(row: &'a StoredRun) -> About<'a> {
        About {
            run: row.id,
            attempt: row.attempt,
            trigger: row.trigger,
            scheduled_at: row.scheduled_at,
            event: row.event.as_deref(),
        }
    }
}

impl Environment {
    /// The variables of a run's process.
    pub(super) fn run_vars(&self, job: &Job, about: &About<'_>, event_file: Option<&Path>) -> Vec<(String, OsString)> {
        let mut vars = vec![
            (STATE_DIR.to_owned(), self.state_dir.clone().into()),
            ("FIRELINK_SOCKET".to_owned(), self.socket.clone().into()),
            ("FIRELINK_JOB".to_owned(), job.name.to_string().into()),
            ("FIRELINK_RUN_ID".to_owned(), about.run.to_string().into()),
            ("FIRELINK_ATTEMPT".to_owned(), about.attempt.to_string().into()),
            ("FIRELINK_TRIGGER".to_owned(), about.trigger.to_string().into()),
            ("FIRELINK_SCHEDULED_AT".to_owned(), job.zone.rfc3339(about.scheduled_at).into()),
        ];
        match event_file {
            Some(path) => vars.push(("FIRELINK_EVENT_FILE".to_owned(), path.into())),
            None => vars.push(("FIRELINK_EVENT".to_owned(), about.event.unwrap_or("null").into())),
        }
        if let Some(value) = about.event.and_then(|event| serde_json::from_str(event).ok()) {
            vars.extend(job.trigger.event_env(&value));
        }
        vars
    }

    /// The variables of a plugin's process.
    pub fn source_vars(&self, job: &str, trigger: TriggerWord) -> Vec<(String, String)> {
        vec![
            (STATE_DIR.to_owned(), self.state_dir.display().to_string()),
            ("FIRELINK_SOCKET".to_owned(), self.socket.display().to_string()),
            ("FIRELINK_JOB".to_owned(), job.to_owned()),
            ("FIRELINK_TRIGGER".to_owned(), trigger.to_string()),
            (PLUGIN.to_owned(), "1".to_owned()),
        ]
    }

    /// Entries of the environment of a job's plugin.
    pub fn source_marks(&self, job: &str) -> Vec<String> {
        vec![self.state_mark(), format!("FIRELINK_JOB={job}")]
    }

    /// The process of an attempt of which an earlier daemon did not record the process, running as this user; `None`: the
    /// daemon's own.
    pub(super) fn find(&self, run: RunId, attempt: Attempt, user: Option<&str>) -> Option<Pid> {
        exec::find_leader(&[self.state_mark(), format!("FIRELINK_RUN_ID={run}"), format!("FIRELINK_ATTEMPT={attempt}")], user)
    }

    /// An entry in the environment of each process of this state.
    pub(super) fn state_mark(&self) -> String {
        format!("{STATE_DIR}={}", self.state_dir.display())
    }
}

/// Variables as `exec` takes them.
pub(in crate::reactor) fn borrowed<V: AsRef<OsStr>>(vars: &[(String, V)]) -> Vec<(&str, Cow<'_, OsStr>)> {
    vars.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_ref()))).collect()
}
