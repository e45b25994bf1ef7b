//! `job`: all that is known of one job.

use serde::{Deserialize, Serialize};

use super::status;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which job.
    pub job: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// As `status` shows it.
    pub job: status::Job,
    /// What the configuration says of it to people.
    pub description: Option<String>,
    /// Words for people.
    pub tags: Vec<String>,
    /// Its trigger, in the words of the configuration.
    pub summary: String,
    /// The same in the words of a person, where there are any.
    pub schedule_words: Option<String>,
    /// The zone in which its instants are told.
    pub timezone: String,
    /// The jobs that it waits for.
    pub depends_on: Vec<String>,
    /// How they must end.
    pub condition: String,
    /// The jobs that wait for it.
    pub downstream: Vec<String>,
    /// Its next deadlines, RFC 3339.
    pub next: Vec<String>,
    /// What it runs, without variables, which may hold what is nobody's business; absent for a milestone.
    pub command: Option<String>,
}
