//! Rules of jobs, as the engine sees them: when and beside what a job runs, nothing of its process.

use std::sync::Arc;
use std::time::Duration;

use super::timing::{Concurrency, Timing};
use crate::dag::Condition;
use crate::model::{Backoff, JobId, TriggerWord};

/// Whether and when a failed attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// The delay between two attempts.
    pub backoff: Backoff,
    /// The exit codes that are retried; empty: any failure.
    pub on_exit_codes: Box<[u8]>,
}

/// Execution rules of a job. Most jobs of a configuration have equal ones and share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How the dependencies must have ended.
    pub condition: Condition,
    /// What happens when the job is triggered while active.
    pub concurrency: Concurrency,
    /// How many runs of it may be alive at once; `None`: 1, or no limit of its own with `allow`.
    pub max_parallel: Option<u32>,
    /// The longest time that an attempt may run.
    pub timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL.
    pub kill_grace: Duration,
    /// Retries; `None`: a failure is final.
    pub retry: Option<Box<Retry>>,
    /// Exit codes that count as success; empty: 0 alone.
    pub success_exit_codes: Box<[u8]>,
}

/// The rules of one job. A box may have ten thousand jobs, so they share their policies and timings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRules {
    /// The job's name; deadlines of one instant fire in the order of names.
    pub name: Arc<str>,
    /// False: never triggered by itself, and `ctl trigger` needs `--force`.
    pub enabled: bool,
    /// The type of its trigger.
    pub trigger: TriggerWord,
    /// Its deadlines.
    pub timing: Timing,
    /// Its dependencies, in the order of the file, each once.
    pub depends_on: Box<[JobId]>,
    /// True if there is no command: a run succeeds at once.
    pub milestone: bool,
    /// Its execution rules.
    pub policy: Arc<Policy>,
}

impl JobRules {
    /// The index of `upstream` in `depends_on`.
    #[must_use]
    pub fn slot_of(&self, upstream: JobId) -> Option<usize> {
        // Most lists are in the order of the file, hence sorted, and each end of each dependency is looked up here.
        self.depends_on.binary_search(&upstream).ok().or_else(|| self.depends_on.iter().position(|dep| *dep == upstream))
    }

    /// True if satisfied dependencies alone trigger the job (design, section 5).
    #[must_use]
    pub fn is_triggered_by_dependencies(&self) -> bool {
        !self.depends_on.is_empty() && matches!(self.trigger, TriggerWord::Manual | TriggerWord::AfterDeps)
    }
}

/// The rules of the whole engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The jobs; a [`JobId`] is an index into this list.
    pub jobs: Vec<JobRules>,
    /// Attempts running at once, all jobs together; at least 1.
    pub max_parallel: u32,
    /// How late a wall deadline may still run as if on time.
    pub grace: Duration,
    /// How long wall deadlines wait for the kernel to report that the clock is synchronized; `None`: not at all.
    pub wait_for_clock: Option<Duration>,
}
