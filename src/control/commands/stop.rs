//! `stop`: the daemon's end. The daemon answers once nothing runs any more, just before it goes.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Running jobs get SIGKILL at once.
    #[serde(default)]
    pub now: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The daemon that is gone.
    pub pid: u32,
}
