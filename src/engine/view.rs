//! Queries: they do not change the engine.

use crate::dag::{Graph, Verdict};
use crate::model::{JobId, Now, RunId, WallTime};

use super::rules::Rules;
use super::run::{RunRecord, RunState, Waiting};
use super::{ClockMode, Engine, Mode};

/// A job's state in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// No run of it is active.
    Idle,
    /// A run waits.
    Pending,
    /// A process is alive.
    Running,
}

/// A job as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Its state.
    pub state: JobState,
    /// Paused by a person.
    pub paused: bool,
    /// Its next deadline, if it has one; that of an interval is converted to wall time by the present reading of both clocks.
    pub next_at: Option<WallTime>,
    /// What keeps it from running, one phrase each; empty for an idle job without dependencies.
    pub waiting_for: Vec<String>,
}

impl Engine {
    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The dependency graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A run in memory: active, and not among those that only the store holds.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&RunRecord> {
        self.queues.get(run)
    }

    /// Every active run in memory, by number.
    #[must_use]
    pub fn active(&self) -> Vec<&RunRecord> {
        let mut runs: Vec<&RunRecord> = self.queues.records().collect();
        runs.sort_unstable_by_key(|record| record.id);
        runs
    }

    /// How many processes are alive.
    #[must_use]
    pub fn alive(&self) -> u32 {
        self.queues.alive()
    }

    /// True once a stop was requested.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.mode != Mode::Open
    }

    /// True while `wait_for_clock` holds all wall deadlines.
    #[must_use]
    pub fn is_waiting_for_clock(&self) -> bool {
        self.clock != ClockMode::Trusted
    }

    /// Runs of a job that wait in the store only.
    #[must_use]
    pub fn stored(&self, job: JobId) -> u64 {
        self.queues.stored(job)
    }

    /// Runs of a job that have not ended, wherever they are kept.
    #[must_use]
    pub fn unended(&self, job: JobId) -> usize {
        self.queues.active(job)
    }

    /// One job's state, for `status`.
    #[must_use]
    pub fn view(&self, now: Now, job: JobId) -> JobView {
        let memory = &self.jobs[job.index()];
        let running =
            self.queues.claimed(job).iter().any(|run| self.state_is(*run, |state| matches!(state, RunState::Running(_))));
        let state = match (running, self.queues.active(job)) {
            (true, _) => JobState::Running,
            (false, 0) => JobState::Idle,
            (false, _) => JobState::Pending,
        };
        let (paused, next_at) = (memory.paused, self.next_at(now, job));
        JobView { state, paused, next_at, waiting_for: self.waiting_for(job, state) }
    }

    /// A job's next deadline, if it has one; that of an interval is converted by the present reading of both clocks.
    #[must_use]
    pub fn next_at(&self, now: Now, job: JobId) -> Option<WallTime> {
        let memory = &self.jobs[job.index()];
        let wall = memory.due.wall().and_then(|wall| wall.next);
        wall.or_else(|| memory.due.interval().map(|at| now.wall + at.since(now.elapsed)))
    }

    /// True if the job is paused.
    #[must_use]
    pub fn is_paused(&self, job: JobId) -> bool {
        self.jobs[job.index()].paused
    }

    fn state_is(&self, run: RunId, test: impl FnOnce(&RunState) -> bool) -> bool {
        self.queues.get(run).is_some_and(|record| test(&record.state))
    }

    fn waiting_for(&self, job: JobId, state: JobState) -> Vec<String> {
        let rules = self.rules_of(job);
        let memory = &self.jobs[job.index()];
        let mut phrases = Vec::new();
        if memory.paused {
            phrases.push("resume (paused)".into());
        }
        for run in self.queues.claimed(job) {
            match self.queues.get(*run).map(|record| &record.state) {
                Some(RunState::Pending(Waiting::Slot)) => {
                    phrases.push(format!("a free slot (max_parallel {})", self.rules.max_parallel));
                }
                Some(RunState::Pending(Waiting::Retry { not_before, .. })) => phrases.push(format!("its retry at {not_before}")),
                Some(_) | None => {}
            }
        }
        let waits = !self.queues.waiting(job).is_empty() || rules.is_triggered_by_dependencies();
        if waits && memory.credits.verdict(rules.policy.condition) != Verdict::Satisfied {
            phrases.extend(memory.credits.missing(rules.policy.condition).map(|slot| {
                let upstream = self.rules_of(rules.depends_on[slot]);
                let ended = memory.credits.get(slot).map(|outcome| outcome.word().as_str());
                match (ended, upstream.enabled) {
                    (_, false) => format!("{} (disabled)", upstream.name),
                    (Some(word), true) => format!("{} ({word})", upstream.name),
                    (None, true) => upstream.name.to_string(),
                }
            }));
        } else if state == JobState::Running && !self.queues.waiting(job).is_empty() {
            phrases.push("its turn (a run is active)".into());
        }
        phrases
    }
}
