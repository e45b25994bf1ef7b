//! The vocabulary: ids, instants, units and run states that every room shares.
//!
//! Nothing here does anything; these are the words of the design as types. Wall-clock and elapsed time are
//! different types with no conversion between them, and a run's state carries exactly the data that the state has.
//! Every room may import this one; it imports none.

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
