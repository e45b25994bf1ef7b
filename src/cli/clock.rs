//! The wall clock, for commands that work without a daemon.

use crate::model::WallTime;

pub(super) fn now() -> WallTime {
    // A clock before 1970 was never set; the epoch is as good a guess.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_nanos(0) + since
}
