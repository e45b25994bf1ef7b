//! Several schedules as one: the instants of a job whose `schedule` is a list.

use super::schedule::Schedule;
use super::zone::Zone;
use crate::model::WallTime;

/// The first instant strictly after `after` at which any of the schedules fires; instants that several of them name
/// are one. `None` if there is none, or no schedule.
#[must_use]
pub fn next_of(schedules: &[Schedule], zone: Zone, after: WallTime) -> Option<WallTime> {
    schedules.iter().filter_map(|schedule| schedule.next_after(after, zone)).min()
}

/// The instants at which any of the schedules fires, in order, each once.
#[derive(Clone, Debug)]
pub struct Upcoming<'a> {
    schedules: &'a [Schedule],
    zone: Zone,
    after: WallTime,
}

impl<'a> Upcoming<'a> {
    /// The instants strictly after `after`.
    #[must_use]
    pub const fn new(schedules: &'a [Schedule], zone: Zone, after: WallTime) -> Upcoming<'a> {
        Upcoming { schedules, zone, after }
    }
}

impl Iterator for Upcoming<'_> {
    type Item = WallTime;

    fn next(&mut self) -> Option<WallTime> {
        let next = next_of(self.schedules, self.zone, self.after)?;
        self.after = next;
        Some(next)
    }
}
