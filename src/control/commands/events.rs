//! `events`: what happens, a JSON object a line.

use serde::{Deserialize, Serialize};

use crate::model::{Attempt, RunId, StateWord, TriggerWord};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub what: What,
    /// To which job, if to one.
    pub job: Option<String>,
    /// Which run, if one.
    pub run: Option<RunId>,
    /// What made the run.
    pub trigger: Option<TriggerWord>,
    /// Which attempt.
    pub attempt: Option<Attempt>,
    /// The state that the run is in now.
    pub state: Option<StateWord>,
    /// Why, for a person.
    pub reason: Option<String>,
}

impl Happened {
    /// Something of this kind; more is for its keys.
    #[must_use]
    pub fn new(at: String, what: What) -> Happened {
        Happened { at, what, job: None, run: None, trigger: None, attempt: None, state: None, reason: None }
    }
}

/// The kinds of events. More may come: whoever reads them passes over those it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A run was made.
    Triggered,
    /// An attempt began.
    Started,
    /// An attempt failed, another follows.
    WillRetry,
    /// A run ended.
    Ended,
    /// Deadlines passed without a run.
    Missed,
    /// The wall clock was set.
    ClockSet,
    /// The wall clock can be trusted.
    ClockReady,
    /// A job is held, or all are if none is named.
    Paused,
    /// A job goes on, or all do if none is named.
    Resumed,
    /// The configuration is another now.
    Reloaded,
    /// The daemon ends; nothing is told after what still ends with it.
    Stopping,
}
