//! The watch of a bucket over real HTTP: an S3 server that checks signatures, and a hostile one.

#![cfg(feature = "s3")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout, reason = "tests, and what they measure")]

#[path = "support/host.rs"]
mod host;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/moto.rs"]
mod moto_server;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/tunnel.rs"]
mod tunnel;

#[path = "s3_source/environment.rs"]
mod environment;
#[path = "s3_source/errors.rs"]
mod errors;
#[path = "s3_source/moto.rs"]
mod moto;
#[path = "s3_source/objects.rs"]
mod objects;

use std::time::Duration;

use firelink::triggers::Spread;
use firelink::triggers::aws::{ClientSettings, Keypair};
use firelink::triggers::s3::S3Watch;
use firelink::triggers::watch::Existing;

const BUCKET: &str = "box";

/// A watch of the whole test bucket at this endpoint, with the right key.
fn watch_at(endpoint: String, existing: Existing) -> S3Watch {
    let keypair = Keypair { id: s3::ACCESS_KEY.to_owned(), secret: s3::SECRET_KEY.to_owned() };
    S3Watch {
        bucket: BUCKET.to_owned(),
        prefix: String::new(),
        filter: None,
        poll_interval: Duration::from_secs(30),
        existing,
        batch: false,
        ordered: false,
        spread: Spread::default(),
        client: ClientSettings { endpoint: Some(endpoint), keypair: Some(keypair), ..ClientSettings::default() },
    }
}
