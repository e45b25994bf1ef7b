//! Numbers for Prometheus, from a real daemon, and with a real Prometheus: `cargo test --test metrics`.
//!
//! `prometheus` and `promtool` are of Debian's package `prometheus`; `.ci/run` installs it. Where they are missing the test
//! says so, and passes.

#![cfg(all(feature = "web", feature = "metrics"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "this is a test, and says what it skips")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/http.rs"]
mod http;

#[path = "metrics/prometheus.rs"]
mod prometheus;
#[path = "metrics/scrape.rs"]
mod scrape;
#[path = "metrics/textfile.rs"]
mod textfile;
#[path = "metrics/words.rs"]
mod words;
