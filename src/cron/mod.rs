//! Cron arithmetic: schedules, zones and the instants at which they meet. Pure, but for [`Zone::system`].
//!
//! The rules are those of Debian's cron (crontab(5), cron(8)), with a sixth field for seconds:
//!
//! * [`Schedule::parse`] compiles a text into bit sets, four machine words in all, or says which token is wrong;
//! * [`Schedule::next_after`] jumps: first over the calendar in local time, then over the zone's offset changes;
//! * [`Zone`] knows the rules of every IANA zone, or follows the system's own.
//!
//! ```text
//!   instant --offset--> local second --bit sets--> next local match --offset--> instant
//!                              ^                                       |
//!                              '---- the offset changes before it -----'
//! ```
//!
//! This room imports `model`; `triggers`, `engine`, `config` and `cli` import it.

mod calendar;
mod error;
mod instant;
mod local_rules;

mod parse;
mod schedule;
mod upcoming;
mod words;
mod zone;

pub use error::ScheduleError;
pub use instant::{InstantError, parse_rfc3339};

pub use parse::{REBOOT, is_reboot};
pub use schedule::Schedule;
pub use upcoming::{Upcoming, next_of};
pub use zone::{Zone, ZoneError};

#[cfg(test)]
mod tests;
