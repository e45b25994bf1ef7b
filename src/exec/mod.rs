//! Processes: started, watched, asked to end, and never leaked.
//!
//! [`begin`] makes a child, which comes up while the caller goes on: in its own process group, with stdin from `/dev/null`
//! and both outputs in one pipe, so that their order is kept, which the next daemon can read on. A [`Child`] is seen to end
//! through a pidfd; reaping it first ends what is left of its group.
//! [`OutputSink`] is its log: bounded, lazily made, head and tail kept. [`spec`] says in plain data what is to be made.
//!
//! What left its group is found by [`sweep`], for which the daemon is a child subreaper: orphans come to it. Plugins,
//! which are of no run, are started by [`spawn_apart`], and what is left of them is ended by [`kill_plugins`].
//!
//! Nothing here waits, but for a child that executes its program ([`PendingSpawn::wait_for_exec`]): descriptors become readable and the
//! reactor calls. `reactor` is the only caller; `config` reads into [`spec`]. Unsafe code lives in `clone`, `detach`,
//! `posix` and `sys` alone.

mod cgroup;
mod child;
mod detach;
mod event;
mod log;
mod output;
mod processes;
mod spawn;
pub mod spec;
mod sys;

pub use cgroup::{Cgroup, Cgroups, NotDelegated};
pub use child::{Child, GroupSignal};
pub use detach::{Detached, Readiness, detach};
pub use event::{EventDelivery, deliver_event, event_path};
pub use log::{DRAIN_AT_ONCE, Drained, OutputSink, drain};
pub use processes::{Adopted, Daemon, EscapedProcess, Known, PLUGIN, Swept, find_leader, kill_plugins, sweep};
pub use spawn::{Apart, Launch, PendingSpawn, SpawnError, begin, spawn, spawn_apart};
pub use sys::{become_subreaper, has_pidfd, terminal_size};
