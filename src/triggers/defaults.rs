//! What holds where a key of a trigger is absent: used by the triggers, and by the reference of the configuration.

use std::time::Duration;

/// `poll_interval` of a bucket.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// `timeout` of a bucket's or queue's server: how long it may be silent.
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(20);
