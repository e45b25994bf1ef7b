//! firelink end to end: the real binary, real children, real signals.

#![allow(clippy::expect_used, clippy::print_stderr, clippy::unwrap_used, reason = "a test may panic, and prints its seed")]

#[path = "support/hung_mount.rs"]
mod hung_mount;
#[path = "support/own_process.rs"]
mod own_process;
#[path = "support/pty.rs"]
mod pty;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/daemon.rs"]
mod support;

#[path = "daemon/calendar.rs"]
mod calendar;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/files.rs"]
mod files;
#[path = "daemon/graph.rs"]
mod graph;
#[path = "daemon/groups.rs"]
mod groups;
#[path = "daemon/hung.rs"]
mod hung;
#[path = "daemon/hung_paths.rs"]
mod hung_paths;
#[path = "daemon/load.rs"]
mod load;
#[path = "daemon/logs.rs"]
mod logs;
#[path = "daemon/orphans.rs"]
mod orphans;
#[path = "daemon/plugins.rs"]
mod plugins;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/runs.rs"]
mod runs;
#[path = "daemon/service.rs"]
mod service;
#[path = "daemon/signals.rs"]
mod signals;
#[path = "daemon/socket.rs"]
mod socket;
#[path = "daemon/state.rs"]
mod state;
#[path = "daemon/terminal.rs"]
mod terminal;
#[path = "daemon/users.rs"]
mod users;
