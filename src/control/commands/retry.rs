//! `retry`: a run that did not succeed, once more.

use serde::{Deserialize, Serialize};

use crate::model::RunId;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which run.
    pub run: RunId,
    /// Also what was skipped because of it.
    #[serde(default)]
    pub downstream: bool,
    /// Answer when the new run has ended.
    #[serde(default)]
    pub wait: bool,
}

/// The answer is that of `trigger`: the new run.
pub use super::trigger::Triggered;

/// The answer for a terminal.
#[must_use]
pub fn render(answer: &Triggered) -> String {
    let mut line = super::run_line(&answer.run);
    line.push('\n');
    line
}
