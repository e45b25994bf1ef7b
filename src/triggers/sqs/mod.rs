//! The watch of a queue: a run for each message of an SQS queue, which a bucket's notifications may fill.
//!
//! Many boxes may take from one queue: SQS gives each message to one of them.
//!
//! ```text
//!  reactor thread                                 S3 thread (tokio)
//!  source.rs: what to do with each message        link.rs: one task that receives (long polling), one that
//!    emit ──▶ Recorded ──▶ delete, or keep             deletes messages and keeps them hidden
//!    RunEnded ──▶ delete, or let go               message.rs: what a message tells
//! ```
//!
//! What it promises:
//!
//! * a message is deleted only after its run is in the store, in one transaction with the message's id; whatever comes
//!   again (a crash, a lost answer, a queue that delivers twice) is known by its id and makes no second run;
//! * with `ack: after_success` a message stays hidden from others while its run lasts, and is deleted once it has
//!   succeeded; otherwise nothing more is done about it, so that it comes back to the queue within [`HIDDEN`], to this
//!   box or another, or goes where the queue's redrive policy says;
//! * a box takes no more than [`MOST_AT_WORK`] messages whose runs have not ended: what it can't work off is for others;
//! * waiting costs one request in 20 s, which is as long as SQS lets one wait.

mod address;
pub(super) mod keys;

#[cfg(feature = "sqs")]
mod errors;
#[cfg(feature = "sqs")]
mod link;
#[cfg(feature = "sqs")]
mod message;
#[cfg(feature = "sqs")]
mod source;
#[cfg(feature = "sqs")]
mod taken;

use std::fmt;
use std::time::Duration;

use super::Spread;
use super::aws::ClientSettings;
use super::watch::NameFilter;

pub use address::QueueUrl;

/// How long a message stays hidden from others at a time, with `ack: after_success`.
pub const HIDDEN: Duration = Duration::from_secs(180);

/// Messages of one watch whose runs have not ended.
pub const MOST_AT_WORK: usize = 32;

/// When a message is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Once its run is in the store.
    #[default]
    Stored,
    /// Once its run has succeeded.
    AfterSuccess,
}

/// One watch of a queue, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct SqsWatch {
    /// Which queue.
    pub queue: QueueUrl,
    /// Which objects make events, of messages that tell of objects.
    pub filter: Option<NameFilter>,
    /// When a message is deleted.
    pub ack: Ack,
    /// The job's share of the jitter.
    pub spread: Spread,
    /// How to reach the server; its endpoint is the queue's server unless another is given.
    pub client: ClientSettings,
}

impl SqsWatch {
    /// What watches it.
    #[cfg(feature = "sqs")]
    #[must_use]
    pub fn source(&self) -> Box<dyn super::Source> {
        Box::new(source::SqsSource::new(self.clone()))
    }
}

impl fmt::Display for SqsWatch {
    /// The queue and everything that was set, so that two watches with the same text are the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.queue)?;
        if let Some(filter) = &self.filter {
            write!(f, " filter {}", filter.as_str())?;
        }
        if self.ack == Ack::AfterSuccess {
            f.write_str(" ack after_success")?;
        }
        write!(f, "{}", self.client)
    }
}
