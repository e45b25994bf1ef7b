//! When a job is due, as plain data: wall-clock schedules, the grid of elapsed time, the policies for missed deadlines and
//! for triggers while a run is active. `triggers` and `config` make these values, the engine arms deadlines from them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::cron::{Schedule, Zone};

/// What happens when a job is triggered while a run of it is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Concurrency {
    /// The new run is skipped.
    Forbid,
    /// The new run waits its turn.
    Queue,
    /// Both run.
    Allow,
    /// The active run is cancelled, then the new one starts.
    Replace,
}

/// What happens to wall deadlines that were missed by more than `grace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are recorded as missed.
    #[default]
    None,
    /// The latest one runs once; the others are recorded as missed.
    Last,
    /// Each runs, oldest first, up to [`CATCH_UP_LIMIT`].
    All,
}

/// How many missed deadlines `catch_up: all` runs at most: a year of hourly runs is 8,760, so a box that was off that long
/// catches up on six weeks; one record names the rest.
pub const CATCH_UP_LIMIT: usize = 1_000;

/// The wall-clock deadlines of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WallTiming {
    /// An instant of several schedules is one deadline.
    pub schedules: Box<[Schedule]>,
    /// The zone of the schedules.
    pub zone: Zone,
    /// The job's stable jitter on this machine, added to each instant.
    pub offset: Duration,
    /// The policy for missed deadlines.
    pub catch_up: CatchUp,
    /// True if `@reboot` is one of the schedules: fires once per daemon start too.
    pub at_startup: bool,
}

/// The deadlines of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// Nothing.
    #[default]
    None,
    /// One firing per daemon start.
    Startup,
    /// Wall-clock deadlines.
    Wall(Arc<WallTiming>),
    /// A fixed grid of elapsed time.
    Every(Arc<Grid>),
}

/// A grid of elapsed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Its step, at least a millisecond.
    pub period: Duration,
    /// The job's stable jitter on this machine, added to each instant.
    pub offset: Duration,
}

impl Timing {
    /// A fingerprint of the wall deadlines, kept in the state: deadlines of a schedule that has changed since are not caught
    /// up. 0 without wall deadlines.
    #[must_use]
    pub fn mark(&self) -> i64 {
        let Timing::Wall(timing) = self else { return 0 };
        let mut hasher = SipHasher13::new();
        timing.schedules.hash(&mut hasher);
        timing.zone.name().hash(&mut hasher);
        timing.offset.hash(&mut hasher);
        hasher.finish().cast_signed() | 1
    }
}
