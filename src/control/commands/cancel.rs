//! `cancel`: the end of a run.

use serde::{Deserialize, Serialize};

use crate::model::{RunId, RunView};

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The run's number.
    pub run: RunId,
}

/// The reply. A running run is asked to end and still `running` here; its end follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The run, as it stands.
    pub run: RunView,
}

/// The answer for a terminal.
#[must_use]
pub fn render(answer: &Cancelled) -> String {
    let mut line = super::run_line(&answer.run);
    line.push('\n');
    line
}
