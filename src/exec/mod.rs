//! Processes: started, watched, signalled, reaped, and never leaked.
//!
//! | file | subject |
//! | --- | --- |
//! | [`spec`] | what a job's process is to be, as plain data; `config` reads into it |
//! | `spawn` | from a [`Launch`] to a child that has executed its program |
//! | `processes` | processes that exist: a child, one adopted from an earlier daemon, an orphan |
//! | `marks` | the variables by which `processes` recognises what `spawn` has started |
//! | `log` | a run's output in its file: bounded, head and tail kept |
//! | `event` | a payload too large for the environment |
//! | `cgroup` | control groups of runs with limits |
//! | `packet` | packets with descriptors between two processes of firelink |
//! | `detach` | the daemon's own way into the background |
//! | `sys` | system calls that neither std nor nix wraps |
//!
//! [`begin`] makes a child in a session of its own, with stdin from `/dev/null` and both outputs in one pipe, which keeps their
//! order and which the next daemon can go on reading; the caller goes on before the child has called execve(2). All that
//! touches a path of the job (working directory, `env_file`, script, program) happens in the child, as the job's user.
//! The exit of a [`Child`] is seen through a pidfd; what is left of its group is killed before the child is reaped.
//! Processes that left their group are found by [`Orphans`]; for that the daemon is a child subreaper, so that orphans are
//! reparented to it. Plugins, which belong to no run, are started by [`begin_apart`], and what is left of them is killed by
//! [`kill_plugins`].
//!
//! Nothing here blocks, except for [`spawn()`] and [`PendingSpawn::wait`], which the daemon does not call.
//! `spawn` imports `processes`, never the other way round. `reactor` is the caller. Unsafe code is in `spawn`, `packet`,
//! `detach` and `sys` alone.

mod cgroup;
mod detach;
mod event;
mod log;
mod marks;
mod packet;
mod processes;
mod spawn;
pub mod spec;
mod sys;

pub use cgroup::{Cgroup, Cgroups, NotDelegated};
pub use detach::{Detached, Readiness, detach};
pub use event::{EventDelivery, deliver_event, event_path};
pub use log::{DRAIN_AT_ONCE, Drained, OutputSink, drain};
pub use marks::{LEAVE, PLUGIN};
pub use packet::{MAX_PACKET, add_watch, packet_pair, receive_packet, send_packet};
pub use processes::{
    Adopted, Child, EscapedProcess, GroupSignal, Known, Orphans, Swept, find_leader, kill_leftovers, kill_plugins,
};
pub use spawn::{Abandoned, Launch, PendingSpawn, Progress, SpawnError, begin, begin_apart, spawn};
/// Releases memory that only a burst of starts needs.
pub fn trim() {
    spawn::trim();
}

pub use sys::{become_subreaper, has_pidfd, terminal_size};
