//! `logs`: the paths of a run's output. The client reads the file itself: it is the same user, or root.

use serde::{Deserialize, Serialize};

use crate::model::RunView;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// A run's number, or a job's name for its latest run.
    pub of: String,
    /// Reply only after the run has ended.
    #[serde(default)]
    pub wait: bool,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// The run; its `log` is null if there was no output.
    pub run: RunView,
    /// The path of its output, which exists only if there is output.
    pub path: String,
    /// The directory of what follows in numbered files, while the run is active and its output is past the head that is in `path`.
    /// Empty from daemons before there were any.
    #[serde(default)]
    pub segments: String,
}
