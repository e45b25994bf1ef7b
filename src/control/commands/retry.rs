//! `retry`: a new run for one that did not succeed.

use serde::{Deserialize, Serialize};

use crate::model::RunId;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The run's number.
    pub run: RunId,
    /// Also retry the runs that were skipped because of it.
    #[serde(default)]
    pub downstream: bool,
    /// Reply only after the new run has ended.
    #[serde(default)]
    pub wait: bool,
}

/// The reply is that of `trigger`: the new run.
pub use super::trigger::Triggered;

/// The reply as text.
#[must_use]
pub fn render(answer: &Triggered) -> String {
    let mut line = super::run_line(&answer.run);
    line.push('\n');
    line
}
