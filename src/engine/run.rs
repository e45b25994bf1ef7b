//! Runs and their states: an enum whose variants carry exactly the data of the state.

use std::sync::Arc;

use crate::model::{Attempt, Elapsed, Exit, JobId, Outcome, Pid, RunId, StateWord, TriggerWord, WallTime};

/// An event's payload: JSON text, shared by a run, its record and its process.
pub type Payload = Arc<str>;

/// A run, in the engine's memory and in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub struct RunRecord {
    pub id: RunId,
    pub job: JobId,
    pub trigger: TriggerWord,
    pub event: Option<Payload>,
    /// Its deadline, or when its event arrived.
    pub scheduled_at: WallTime,
    /// Starts without its dependencies and in spite of a pause.
    pub forced: bool,
    /// Attempts so far; 0 before the first.
    pub attempt: Attempt,
    /// The start of the first attempt.
    pub started_at: Option<WallTime>,
    pub state: RunState,
}

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Triggered, not running.
    Pending(Waiting),
    /// A process is alive, or about to start.
    Running(Process),
    /// Final.
    Ended(End),
}

/// The reason why a run is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its dependencies, or its turn among the runs of its job.
    Turn,
    /// One of the `max_parallel` slots.
    Slot,
    /// The next attempt's time, on both clocks. `due` decides.
    Retry {
        /// For people, and after a restart.
        not_before: WallTime,
        /// Valid for this boot.
        due: Elapsed,
    },
}

/// A running attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Known once it has started.
    pub pid: Option<Pid>,
    /// The start of this attempt.
    pub since: WallTime,
    /// The same on the clock of the timeout; 0 if that was in an earlier boot.
    pub begun: Elapsed,
    /// Set once it is to end; the first cause counts.
    pub stop: Option<StopCause>,
    /// True if an earlier daemon started it: its exit status may not be available.
    pub adopted: bool,
}

/// Why a running attempt is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// It ran past its `timeout`.
    Timeout,
    /// A person cancelled it.
    Cancel,
    /// `concurrency: replace`: this run takes its place.
    Replaced(RunId),
    /// The daemon stops.
    Shutdown,
}

impl StopCause {
    /// The reason of a run that was cancelled for it.
    pub(super) fn reason(self) -> Arc<str> {
        match self {
            StopCause::Timeout => "ran past its timeout".into(),
            StopCause::Cancel => "cancelled by request".into(),
            StopCause::Replaced(by) => format!("replaced by run {by}").into(),
            StopCause::Shutdown => "the daemon was stopped".into(),
        }
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub struct End {
    pub outcome: Outcome,
    pub at: WallTime,
    /// That of the last process, if there was one and it is known.
    pub exit: Option<Exit>,
    /// Present where the outcome alone does not explain the end.
    pub reason: Option<Arc<str>>,
}

impl RunRecord {
    /// True if the run was claimed because of its job's credits, which its start will consume.
    pub(super) fn holds_credits(&self) -> bool {
        !self.forced && self.attempt == Attempt::default() && self.state == RunState::Pending(Waiting::Slot)
    }

    /// The state's name in JSON and in the store.
    #[must_use]
    pub fn word(&self) -> StateWord {
        match &self.state {
            RunState::Pending(_) => StateWord::Pending,
            RunState::Running(_) => StateWord::Running,
            RunState::Ended(end) => end.outcome.word(),
        }
    }
}
