//! `trigger`: a run of a job, now or as soon as its dependencies allow.

use serde::{Deserialize, Serialize};

use crate::model::RunView;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which job.
    pub job: String,
    /// Answer only once the run has ended.
    #[serde(default)]
    pub wait: bool,
    /// Neither dependencies nor a pause hold it.
    #[serde(default)]
    pub force: bool,
    /// All upstream jobs first, in order.
    #[serde(default)]
    pub with_deps: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    /// The run, as it stands.
    pub run: RunView,
}

/// The answer for a terminal.
#[must_use]
pub fn render(answer: &Triggered) -> String {
    let mut line = super::run_line(&answer.run);
    line.push('\n');
    line
}
