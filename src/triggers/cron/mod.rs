//! Cron arithmetic (placeholder of the door; the room is being built).
use crate::model::WallTime;

/// A compiled schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule(u64);

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(u16);

impl Schedule {
    /// The first firing strictly after an instant.
    #[must_use]
    pub fn next_after(&self, after: WallTime, zone: Zone) -> Option<WallTime> {
        let _ = (after, zone);
        None
    }
}
