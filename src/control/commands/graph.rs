//! `graph`: the jobs with their current states, and their dependencies.

use serde::{Deserialize, Serialize};

use super::status::JobWord;
use crate::model::{StateWord, TriggerWord};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Every job, in the order of the file.
    pub jobs: Vec<Node>,
    /// Every dependency.
    pub edges: Vec<Edge>,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The type of its trigger.
    pub trigger: TriggerWord,
    /// The number of jobs on the longest path from a job without dependencies to this one.
    pub layer: u32,
    /// `idle`, `pending` or `running`.
    pub state: JobWord,
    /// Paused by a person.
    pub paused: bool,
    /// `enabled` of the configuration.
    pub enabled: bool,
    /// The state of its latest run.
    pub last_state: Option<StateWord>,
}

/// One dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The upstream job.
    pub from: String,
    /// The downstream job.
    pub to: String,
    /// The `condition` of `to`.
    pub condition: String,
}
