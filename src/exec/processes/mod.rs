//! Processes that exist: watched, found, identified by their environment, adopted and killed.
//!
//! | file | subject |
//! | --- | --- |
//! | `proc` | what `/proc` says of a process: its status line, its parents, its environment |
//! | `mark` | the run that a process names in its environment |
//! | `child` | a child of this daemon |
//! | `find` | the process of an attempt whose pid was not recorded |
//! | `adopted` | a process that a previous daemon started, watched to its end |
//! | `orphans` | children that the daemon did not start |
//! | `leftovers` | processes of daemons that died, and of plugins |

mod adopted;
mod child;
mod find;
mod leftovers;
mod mark;
mod orphans;
pub(super) mod proc;

pub use adopted::Adopted;
pub use child::{Child, GroupSignal};
pub use find::find_leader;
pub use leftovers::{kill_leftovers, kill_plugins};
pub use orphans::{EscapedProcess, Known, Orphans, Swept};
