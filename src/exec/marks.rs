//! The variables by which a process is recognised later as one of a daemon's: by this daemon, for processes that left
//! their group, or by the next one, for processes that outlived this one. They are in the environment of each child, and
//! `/proc/PID/environ` shows them for as long as it lives, to whoever may read the process.

/// The pid of the daemon that started the process.
pub(super) const DAEMON_PID: &str = "FIRELINK_DAEMON_PID";

/// The pipe of the run's output, as `/proc/PID/fd` shows it: distinguishes it from other pipes of the process.
pub(super) const OUTPUT: &str = "FIRELINK_OUTPUT";

/// Set to `1` for the processes of a plugin, which belong to no run.
pub const PLUGIN: &str = "FIRELINK_PLUGIN";
