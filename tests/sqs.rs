//! The watch of a queue, against a fake SQS server and moto: the source with a manual clock, and the real daemon.

#![cfg(feature = "sqs")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/host.rs"]
mod host;
#[path = "support/moto.rs"]
mod moto_server;
#[path = "support/sqs.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

#[path = "sqs/boxes.rs"]
mod boxes;
#[path = "sqs/messages.rs"]
mod messages;
#[path = "sqs/real.rs"]
mod real;
