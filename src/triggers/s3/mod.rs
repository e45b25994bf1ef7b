//! The watch of a bucket: polls it, compares the listing with the objects seen, and hands over new and changed ones.
//!
//! ```text
//!  reactor thread                                S3 thread (tokio, one for all watches)
//!  source.rs: wake_at ── Timer ───── Poll ────▶  poll.rs: list a page ─▶ compare with watch/seen.rs
//!             emit ◀──────────────── Found ────            │ wait
//!             Recorded / NotRecorded ────────▶             ▼ next page; after the last: keys that left
//!             wake_at, warn ◀─────── Done ─────  client.rs, aws/http.rs: connections closed until the next poll
//! ```
//!
//! Guarantees:
//!
//! * an object makes an event when its key is unseen, or its ETag or size differ from those seen; it becomes seen only when
//!   the host says that its batch is in the store, and the objects of a batch that was not stored are found again;
//! * a listing is streamed page by page; the memory of a watch is its seen-set, 24 bytes per object plus a tail of at most a
//!   thirty-second of that;
//! * a key leaves the seen-set only after a complete listing that did not contain it;
//! * the filter applies to events, not to the seen-set: a changed filter neither repeats old objects nor forgets them;
//! * with `ordered`, a poll lists from the last key on and costs one request while nothing comes; the first poll after a
//!   start and each hundredth list everything, so that objects which break the promise of growing keys (from a late writer,
//!   changed or deleted) are found late, but found;
//! * between polls there is no connection, no timer and no wake-up on the S3 thread.
//!
//! After a failed listing the delay grows from `poll_interval`, doubling up to ten minutes.

mod address;
pub(super) mod keys;

#[cfg(feature = "s3")]
mod client;
#[cfg(feature = "s3")]
mod errors;
#[cfg(feature = "s3")]
mod listing;
#[cfg(feature = "s3")]
mod poll;
#[cfg(feature = "s3")]
mod source;
#[cfg(feature = "s3")]
mod whole;

use std::fmt;
use std::time::Duration;

use super::Spread;
use super::aws::ClientSettings;
use super::watch::{Existing, NameFilter};
use crate::model::format_duration;

pub use address::{Address, Mistake};

/// One watch of a bucket, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Watch {
    /// The bucket's name.
    pub bucket: String,
    /// The prefix of the keys; may be empty. Literal: `in` includes `input/x`.
    pub prefix: String,
    /// Which objects make events.
    pub filter: Option<NameFilter>,
    /// From the end of one poll to the next.
    pub poll_interval: Duration,
    /// What the first scan does with the objects that it finds.
    pub existing: Existing,
    /// One event for all objects that a scan finds, at most 1,000 each.
    pub batch: bool,
    /// Keys only grow, so most polls list from the last key on.
    pub ordered: bool,
    /// The job's share of the jitter.
    pub spread: Spread,
    /// How to reach the server.
    pub client: ClientSettings,
}

impl S3Watch {
    /// Identifies the watch in the store: it changes exactly when the objects seen become meaningless. An endpoint from the
    /// environment is part of it: the same bucket name on another server is another bucket.
    #[must_use]
    pub fn identity(&self) -> String {
        let from_env = || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
        let endpoint = self.client.endpoint.clone().or_else(from_env).unwrap_or_default();
        format!("{}|{}|{}", endpoint.trim_end_matches('/'), self.bucket, self.prefix)
    }

    /// The source that watches it.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn source(&self) -> Box<dyn super::Source> {
        Box::new(source::S3Source::new(self.clone()))
    }
}

impl fmt::Display for S3Watch {
    /// The bucket and all settings: watches with equal text are equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)?;
        if let Some(filter) = &self.filter {
            write!(f, " filter {}", filter.as_str())?;
        }
        write!(f, " every {}", format_duration(self.poll_interval))?;
        if self.existing == Existing::Process {
            f.write_str(" existing process")?;
        }
        if self.batch {
            f.write_str(" batch")?;
        }
        if self.ordered {
            f.write_str(" ordered")?;
        }
        write!(f, "{}", self.client)
    }
}

/// True if an answer is a complete listing.
#[cfg(feature = "s3")]
pub(super) fn is_whole(body: &[u8]) -> bool {
    whole::check(body).is_ok()
}
