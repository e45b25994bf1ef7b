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

pub(in crate::triggers) mod address;

#[cfg(feature = "s3")]
mod client;
#[cfg(feature = "s3")]
pub(in crate::triggers) mod http;
#[cfg(feature = "s3")]
pub(in crate::triggers) mod listing;
#[cfg(feature = "s3")]
mod poll;
#[cfg(feature = "s3")]
pub(in crate::triggers) mod session;
#[cfg(feature = "s3")]
mod source;
#[cfg(feature = "s3")]
pub(in crate::triggers) mod trouble;
#[cfg(feature = "s3")]
mod whole;

use std::fmt;
use std::time::Duration;

use crate::model::format_duration;

pub use super::watch::NameFilter;
pub use address::{Address, Mistake, check_endpoint};

/// What the first scan of a bucket does with the objects that it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They are taken as seen.
    #[default]
    Skip,
    /// Each makes an event.
    Process,
}

/// A job's place in the stable jitter: which share of the jitter it gets, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread(f64);

impl Spread {
    /// From a stable offset below one second.
    #[must_use]
    pub fn from_offset(offset: Duration) -> Spread {
        Spread(offset.as_secs_f64().clamp(0.0, 1.0))
    }

    /// The wait with its jitter: up to a tenth longer.
    #[must_use]
    pub fn stretch(self, wait: Duration) -> Duration {
        wait + wait.mul_f64(self.0 / 10.0)
    }
}

/// An access key, given outright.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Keypair {
    /// The access key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({}, secret)", self.id)
    }
}

/// How to reach a server. What is absent comes from the usual AWS variables and profile. Watches with equal settings
/// share one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientSettings {
    /// A URL, for servers other than AWS.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// True: `endpoint/bucket`; false: `bucket.endpoint`. Absent: the first for servers other than AWS.
    pub path_style: Option<bool>,
    /// True: requests are not signed.
    pub anonymous: bool,
    /// How long the server may be silent before a request is given up. Absent: 20 s.
    pub timeout: Option<Duration>,
    /// Instead of the usual search for credentials. No configuration can set it, for secrets don't belong there.
    pub keypair: Option<Keypair>,
}

/// One watch of a bucket, as configured.
#[derive(Clone, Debug, PartialEq)]
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
        let client = &self.client;
        for (word, value) in [("endpoint", &client.endpoint), ("region", &client.region), ("profile", &client.profile)] {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        if let Some(path_style) = client.path_style {
            write!(f, " path_style {path_style}")?;
        }
        if client.anonymous {
            f.write_str(" anonymous")?;
        }
        if let Some(timeout) = client.timeout {
            write!(f, " timeout {}", format_duration(timeout))?;
        }
        Ok(())
    }
}

/// Whether an answer is a whole listing.
#[cfg(feature = "s3")]
pub(super) fn is_whole(body: &[u8]) -> bool {
    whole::check(body).is_ok()
}
