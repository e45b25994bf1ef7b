//! The store through its public API, on real files.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test may panic like the tests themselves")]

#[path = "store/blocks.rs"]
mod blocks;
#[path = "store/disk.rs"]
mod disk;
#[path = "store/history.rs"]
mod history;
#[path = "store/journal.rs"]
mod journal;
#[path = "store/maintenance.rs"]
mod maintenance;
#[path = "store/model.rs"]
mod model;
#[path = "support/own_process.rs"]
mod own_process;
#[path = "store/seen.rs"]
mod seen;
#[path = "store/support.rs"]
mod support;
#[path = "store/turns.rs"]
mod turns;
