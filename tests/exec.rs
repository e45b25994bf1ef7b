//! Processes on the real kernel, through the public interface of `exec`, watched as by the reactor, by their descriptors.
//! Nothing sleeps as synchronization; a wait that never ends is a panic after [`support::TEST_TIMEOUT`].

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test may panic like the tests themselves")]

#[path = "exec/accounts.rs"]
mod accounts;
#[path = "exec/adopted.rs"]
mod adopted;
#[path = "exec/ending.rs"]
mod ending;
#[path = "exec/orphans.rs"]
mod orphans;
#[path = "exec/output.rs"]
mod output;
#[path = "support/own_process.rs"]
mod own_process;
#[path = "support/skip.rs"]
mod skip;
#[path = "exec/starting.rs"]
mod starting;
#[path = "exec/support.rs"]
mod support;
#[path = "exec/together.rs"]
mod together;
