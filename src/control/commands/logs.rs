//! `logs`: where the output of a run is. The asker reads the file itself: it is the same user, or root.

use serde::{Deserialize, Serialize};

use crate::model::RunView;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// A run's number, or a job's name for its newest run.
    pub of: String,
    /// Answer only once the run has ended.
    #[serde(default)]
    pub wait: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// The run; its `log` is null if there was no output.
    pub run: RunView,
    /// Where its output is, or would be.
    pub path: String,
}
