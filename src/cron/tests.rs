//! What holds for schedules and zones together; each file here is one way of being sure of it.

mod dst;
mod laws;
mod messages;
mod oracles;
mod random;
mod reference;
mod shape;

use super::{Schedule, Upcoming, Zone, parse_rfc3339};

/// The first firings after an instant, as text in the zone.
fn firings(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedules = [Schedule::parse(schedule).unwrap_or_else(|error| panic!("{}", error.render(schedule)))];
    let zone = Zone::parse(zone).unwrap();
    Upcoming::new(&schedules, zone, parse_rfc3339(after).unwrap()).take(count).map(|at| zone.rfc3339(at)).collect()
}
