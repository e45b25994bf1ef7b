//! Processes that exist: watched, found, identified by their environment, adopted and killed.
//!
//! | file | subject |
//! | --- | --- |
//! | `proc` | what `/proc` says of a process: its status line, its parents, its environment |
//! | `child` | a child of this daemon |
//! | `find` | the process of an attempt whose pid was not recorded |
//! | `adopted` | a process that a previous daemon started, watched to its end |
//! | `escaped` | processes that left the group of their run |
//! | `leftovers` | plugins that outlived their daemon |

mod adopted;
mod child;
mod escaped;
mod find;
mod leftovers;
pub(super) mod proc;

pub use adopted::Adopted;
pub use child::{Child, GroupSignal};
pub use escaped::{EscapedProcess, Known, Swept, sweep};
pub use find::find_leader;
pub use leftovers::{Daemon, kill_plugins};
