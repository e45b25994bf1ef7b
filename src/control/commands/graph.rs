//! `graph`: the jobs and who waits for whom, in layers, as they stand.

use serde::{Deserialize, Serialize};

use super::status::JobWord;
use crate::model::{StateWord, TriggerWord};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {}

/// The answer.
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
    /// How many jobs the longest way from one without dependencies to this one has.
    pub layer: u32,
    /// `idle`, `pending` or `running`.
    pub state: JobWord,
    /// Held by a person.
    pub paused: bool,
    /// False if the configuration says so.
    pub enabled: bool,
    /// How its newest run stands, if it has one.
    pub last_state: Option<StateWord>,
}

/// One dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The upstream job.
    pub from: String,
    /// The job that waits.
    pub to: String,
    /// How what `to` waits for must end.
    pub condition: String,
}
