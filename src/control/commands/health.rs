//! `health`: whether the daemon does what it is there for. That it answers says that its loop turns.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Deadlines are armed, the state can be written, and no stop was asked for.
    pub ready: bool,
    /// What is not so, for a person.
    pub problems: Vec<String>,
}
