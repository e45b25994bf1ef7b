//! `job`: the details of one job.

use serde::{Deserialize, Serialize};

use super::status;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The job's name.
    pub job: String,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// As `status` shows it.
    pub job: status::Job,
    /// Its `description`.
    pub description: Option<String>,
    /// Its `tags`.
    pub tags: Vec<String>,
    /// Its trigger, in terms of the configuration.
    pub summary: String,
    /// Its schedule in English, if it can be expressed.
    pub schedule_words: Option<String>,
    /// The zone of its times.
    pub timezone: String,
    /// Its upstream jobs.
    pub depends_on: Vec<String>,
    /// Its `condition`.
    pub condition: String,
    /// Its downstream jobs.
    pub downstream: Vec<String>,
    /// Its next deadlines, RFC 3339.
    pub next: Vec<String>,
    /// What it runs, without variables, which may contain secrets; null for a milestone.
    pub command: Option<String>,
}
