//! Metrics of a real daemon, and a real Prometheus: `cargo test --test metrics`.
//!
//! `prometheus` and `promtool` are of Debian's package `prometheus`; `tests/setup all` installs it. Where they are missing
//! the tests are skipped.

#![cfg(all(feature = "web", feature = "metrics"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is a test")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/http.rs"]
mod http;
#[path = "support/skip.rs"]
mod skip;

#[path = "metrics/prometheus.rs"]
mod prometheus;
#[path = "metrics/scrape.rs"]
mod scrape;
#[path = "metrics/textfile.rs"]
mod textfile;
#[path = "metrics/words.rs"]
mod words;
