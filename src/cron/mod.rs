//! Cron arithmetic: schedules, zones and the instants at which they meet. Pure, but for [`Zone::system`], which reads the system's rules
//! when a configuration is loaded.
//!
//! The rules are those of Debian's cron (crontab(5), cron(8)), with a sixth field for seconds:
//!
//! * [`Schedule::parse`] compiles a text into bit sets, 32 bytes in all, or says which token is wrong;
//! * [`Schedule::next_after`] jumps: first over the calendar in local time, then over the zone's offset changes;
//! * [`Zone`] has the rules of an IANA zone, or those of the system as they were when they were read.
//!
//! ```text
//!   instant --offset--> local second --bit sets--> next local match --offset--> instant
//!                              ^                                       |
//!                              '---- the offset changes before it -----'
//! ```
//!
//! This room imports `model` and `text`; `triggers`, `engine`, `config` and `cli` import it.

mod calendar;
mod error;
mod instant;
mod parse;
mod period;
mod posix;
mod schedule;
mod system;
mod tzif;
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
