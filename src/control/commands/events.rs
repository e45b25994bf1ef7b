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

/// The kinds of events.
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
}
