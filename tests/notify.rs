//! Webhooks and dead man's switches, with the real daemon and a server under the control of the test: `cargo test --test notify`.

#![cfg(feature = "notify")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is a test")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "notify/server.rs"]
mod server;
#[path = "support/tunnel.rs"]
mod tunnel;

#[path = "notify/delivery.rs"]
mod delivery;
#[path = "notify/pings.rs"]
mod pings;
#[path = "notify/ways.rs"]
mod ways;
