//! `stop`: stops the daemon. It replies after the last job has ended, just before it exits.

use serde::{Deserialize, Serialize};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Running jobs get SIGKILL at once.
    #[serde(default)]
    pub now: bool,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The pid of the daemon that exits.
    pub pid: u32,
}
