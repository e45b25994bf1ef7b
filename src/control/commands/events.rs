//! `events`: a stream of events, one JSON object per line.

use serde::{Deserialize, Serialize};

use crate::model::{Attempt, RunId, StateWord, TriggerWord};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// One event. Fields that do not apply to its kind are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// The time, RFC 3339.
    pub at: String,
    /// The kind of event.
    pub what: What,
    /// The job's name.
    pub job: Option<String>,
    /// The run's number.
    pub run: Option<RunId>,
    /// The trigger of the run.
    pub trigger: Option<TriggerWord>,
    /// The attempt's number.
    pub attempt: Option<Attempt>,
    /// The run's new state.
    pub state: Option<StateWord>,
    /// The reason, for a person.
    pub reason: Option<String>,
}

impl Happened {
    /// An event of this kind, its other fields null.
    #[must_use]
    pub fn new(at: String, what: What) -> Happened {
        Happened { at, what, job: None, run: None, trigger: None, attempt: None, state: None, reason: None }
    }
}

/// The kinds of events. Readers must ignore unknown kinds: later versions may add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A run was created.
    Triggered,
    /// An attempt started.
    Started,
    /// An attempt failed and will be retried.
    WillRetry,
    /// A run ended.
    Ended,
    /// Deadlines were missed.
    Missed,
    /// The wall clock was set.
    ClockSet,
    /// The wall clock is synchronized.
    ClockReady,
    /// A job was paused, or all jobs if none is named.
    Paused,
    /// A job was resumed, or all jobs if none is named.
    Resumed,
    /// The configuration was reloaded.
    Reloaded,
    /// The daemon is stopping. Only events of its running jobs follow.
    Stopping,
}
