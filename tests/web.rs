//! The web UI, through real sockets: `cargo test --test web`.

#![cfg(feature = "web")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is a test")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/http.rs"]
mod http;

#[path = "web/api.rs"]
mod api;
#[path = "web/live.rs"]
mod live;
#[path = "web/refused.rs"]
mod refused;
