//! The variables that identify a process later: to this daemon, if it left its group, or to the next one, if it outlived this
//! one. They are in the environment of each child, and `/proc/PID/environ` shows them to processes that may read it.

/// The pid of the daemon that started the process.
pub(super) const DAEMON_PID: &str = "FIRELINK_DAEMON_PID";

/// The pipe of the run's output, as `/proc/PID/fd` shows it: distinguishes it from other pipes of the process.
pub(super) const OUTPUT: &str = "FIRELINK_OUTPUT";

/// Set to `1` for the processes of a plugin, which belong to no run.
pub const PLUGIN: &str = "FIRELINK_PLUGIN";

/// The run.
pub(super) const RUN_ID: &str = "FIRELINK_RUN_ID";

/// Set for the processes of a job with `kill_mode: main`, to a word that only these get: no orphan with it is killed.
pub const LEAVE: &str = "FIRELINK_LEAVE";

/// Handed on by a daemon that replaces itself: what it knows of orphans.
pub(super) const ORPHANS: &str = "FIRELINK_ORPHANS";
