//! `trigger`: a run of a job, now or as soon as its dependencies allow.

use serde::{Deserialize, Serialize};

use crate::model::RunView;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The job's name.
    pub job: String,
    /// Reply only after the run has ended.
    #[serde(default)]
    pub wait: bool,
    /// Ignore dependencies and pauses.
    #[serde(default)]
    pub force: bool,
    /// Run all upstream jobs first, in order.
    #[serde(default)]
    pub with_deps: bool,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    /// The run in its current state.
    pub run: RunView,
}

/// The reply as text.
#[must_use]
pub fn render(answer: &Triggered) -> String {
    let mut line = super::run_line(&answer.run);
    line.push('\n');
    line
}
