//! `health`: whether the daemon does its work. A reply at all shows that its event loop runs.

use serde::{Deserialize, Serialize};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// True if deadlines are armed, the state can be written, and the daemon is not stopping.
    pub ready: bool,
    /// Why it is not ready, for a person.
    pub problems: Vec<String>,
}
