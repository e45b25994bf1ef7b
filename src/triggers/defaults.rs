//! The defaults of keys, for the triggers and for the reference of the configuration.

use std::time::Duration;

/// `poll_interval` of a bucket.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// `timeout` of a bucket or queue: to the first byte of an answer.
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(20);
