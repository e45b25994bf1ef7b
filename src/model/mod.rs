//! The vocabulary shared by all rooms, as types: ids, instants, units, outcomes, the arithmetic of back-off.
//!
//! Wall-clock and elapsed time are different types without a conversion between them. Every room may import this one; it
//! imports none.

mod backoff;
mod ids;
mod run;
mod seen;
mod signal;
mod time;
mod units;

pub use backoff::{Backoff, Jitter, Spread};
pub use ids::{Attempt, JobId, Pid, RunId};
pub use run::{Exit, Outcome, RunView, StateWord, TriggerWord};
pub use seen::{Batch, ObjectKey, ObjectVersion, SeenObject, SeenSnapshot};
pub use signal::signal_name;
pub use time::{Elapsed, Now, WallTime};
pub use units::{UnitError, format_duration, format_size, parse_duration, parse_size};
