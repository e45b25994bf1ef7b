//! The S3 watch: polls a bucket, tells new and changed objects from those seen, and hands them over as batches.
//!
//! ```text
//!  reactor thread                                S3 thread (tokio, one for all watches)
//!  source.rs: wake_at ── Timer ───── Poll ────▶  poll.rs: list a page ─▶ compare with seen.rs
//!             emit ◀──────────────── Found ────            │ wait
//!             Recorded / NotRecorded ────────▶             ▼ next page; at the end: keys that left
//!             wake_at, warn ◀─────── Done ─────  client.rs, http.rs: connections closed until the next poll
//! ```
//!
//! What it promises:
//!
//! * an object makes an event when its key is unseen or its etag or size differ from those seen, and it becomes seen
//!   only when the host says that its batch is in the store; a batch that was not stored is found again;
//! * a listing is streamed page by page; the memory of a watch is its seen-set, 24 bytes an object plus a tail of at
//!   most a thirty-second part;
//! * a key leaves the seen-set only after a listing that was read to its end did not contain it;
//! * the filter decides which objects make events, not which are seen: a changed filter neither repeats old objects
//!   nor forgets them;
//! * with `ordered` a poll lists from the last key on and costs one request while nothing comes; the first poll after a
//!   start and every hundredth list everything, so that what breaks the promise of growing keys (a late writer, a
//!   changed or deleted object) is found late, but found;
//! * between polls there is no connection, no timer and no wakeup in the S3 thread.
//!
//! A bucket that can't be listed is tried again after `poll_interval`, then twice that, up to ten minutes.

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
#[derive(Clone, Debug)]
pub struct S3Watch {
    /// The bucket's name.
    pub bucket: String,
    /// What the keys start with; may be empty. Taken as it is: `in` takes in `input/x` too.
    pub prefix: String,
    /// Which objects make events.
    pub filter: Option<NameFilter>,
    /// From the end of a poll to the next.
    pub poll_interval: Duration,
    /// What the first scan does.
    pub existing: Existing,
    /// True: one event for all that one scan found, at most 1,000 objects each.
    pub batch: bool,
    /// True: keys only grow, so a poll lists from the last key on, and everything only now and then.
    pub ordered: bool,
    /// The job's share of the jitter.
    pub spread: Spread,
    /// How to reach the server.
    pub client: ClientSettings,
}

impl S3Watch {
    /// What is watched, for the store: it changes exactly when objects seen before mean nothing any more. An endpoint
    /// from the environment counts too, because the same bucket name on another server is another bucket.
    #[must_use]
    pub fn identity(&self) -> String {
        let from_env = || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
        let endpoint = self.client.endpoint.clone().or_else(from_env).unwrap_or_default();
        format!("{}|{}|{}", endpoint.trim_end_matches('/'), self.bucket, self.prefix)
    }

    /// What watches it.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn source(&self) -> Box<dyn super::Source> {
        Box::new(source::S3Source::new(self.clone()))
    }
}

impl fmt::Display for S3Watch {
    /// The bucket and everything that was set, so that two watches with the same text are the same.
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

/// Whether an answer is a whole listing.
#[cfg(feature = "s3")]
pub(super) fn is_whole(body: &[u8]) -> bool {
    whole::check(body).is_ok()
}
