//! A run in the engine's memory: an enum whose variants carry exactly what the state has.

use std::sync::Arc;

use crate::model::{Attempt, Elapsed, Exit, JobId, Outcome, Pid, RunId, StateWord, TriggerWord, WallTime};

/// An event's payload: JSON text, shared because a run, its record and its process all need it.
pub type Payload = Arc<str>;

/// A run, as the engine holds it and the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// Its job.
    pub job: JobId,
    /// What made it.
    pub trigger: TriggerWord,
    /// The event's payload.
    pub event: Option<Payload>,
    /// When it was due, or its event came.
    pub scheduled_at: WallTime,
    /// Neither dependencies nor a pause hold it.
    pub forced: bool,
    /// Processes so far.
    pub attempt: Attempt,
    /// When the first one started.
    pub started_at: Option<WallTime>,
    /// Where it stands.
    pub state: RunState,
}

/// The states of the design's section 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Triggered, not running.
    Pending(Waiting),
    /// A process is alive, or about to be.
    Running(Process),
    /// Nothing more happens.
    Ended(End),
}

/// What a pending run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its dependencies, or its turn among the runs of its job.
    Turn,
    /// One of the `max_parallel` slots.
    Slot,
    /// The next attempt's time. The wall instant is for people and for the store; the elapsed one decides.
    Retry {
        /// Shown, and used after a restart.
        not_before: WallTime,
        /// When it is due.
        due: Elapsed,
    },
}

/// A running attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Known once it has started.
    pub pid: Option<Pid>,
    /// When this attempt began.
    pub since: WallTime,
    /// The same on the clock by which its timeout is counted; 0 for a boot that is over.
    pub begun: Elapsed,
    /// Set once it has been asked to end.
    pub stop: Option<StopCause>,
    /// True if an earlier daemon started it: how it ends may not be known.
    pub adopted: bool,
}

/// Why a running attempt was asked to end.
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

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The outcome.
    pub outcome: Outcome,
    /// When.
    pub at: WallTime,
    /// The last process's end, if there was one and it is known.
    pub exit: Option<Exit>,
    /// Why, where the outcome alone does not say.
    pub reason: Option<Arc<str>>,
}

impl RunRecord {
    /// True if the run was claimed because of its job's credits, which its start will consume.
    pub(super) fn holds_credits(&self) -> bool {
        !self.forced && self.attempt == Attempt::default() && self.state == RunState::Pending(Waiting::Slot)
    }

    /// The state's word.
    #[must_use]
    pub fn word(&self) -> StateWord {
        match &self.state {
            RunState::Pending(_) => StateWord::Pending,
            RunState::Running(_) => StateWord::Running,
            RunState::Ended(end) => end.outcome.word(),
        }
    }
}
