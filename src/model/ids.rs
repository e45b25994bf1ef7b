//! Identities. Each is a newtype, so that a run's number can't be passed as a job's index.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job's place in the loaded configuration: an index, valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u32);

impl JobId {
    /// The index into the configuration's list of jobs.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run's number: counts up from 1 over the life of a state directory, and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an attempt: 1 for the first, one more for each retry; 0 before the first has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The attempt that follows this one.
    #[must_use]
    pub const fn next(self) -> Attempt {
        Attempt(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process id together with the start time of its process in clock ticks since boot (field 22 of
/// `/proc/PID/stat`, proc(5)): the pair that survives the reuse of a pid. A start time of 0 means that it could not
/// be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pid {
    /// The process id, always above 1.
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
}
