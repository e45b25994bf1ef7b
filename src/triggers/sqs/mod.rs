//! The watch of a queue: a run for each message of an SQS queue, for example of a bucket's notifications.
//!
//! Many machines may receive from one queue: SQS delivers each message to one of them.
//!
//! ```text
//!  reactor thread                                   S3 thread (tokio)
//!  source.rs: the state of each message             link.rs: one task that receives (long polling), one that
//!    emit ──▶ Recorded ──▶ delete, or keep hidden      deletes messages and extends their visibility timeouts
//!    RunEnded ──▶ delete, or let it reappear        message.rs: parses messages
//! ```
//!
//! Guarantees:
//!
//! * a message is deleted only after its run is in the store, in one transaction with the message's id; a message that is
//!   delivered again (after a crash, a lost answer, or because the queue delivers at least once) is recognised by its id and
//!   makes no second run;
//! * with `ack: after_success` a message stays hidden while its run lasts, and is deleted once it has succeeded; otherwise
//!   its visibility timeout is not extended any more, so that within [`VISIBILITY_TIMEOUT`] it is delivered again, to this
//!   machine or another, or moved by the queue's redrive policy;
//! * a machine has no more than [`MAX_IN_FLIGHT`] messages whose runs have not ended, and leaves the others to other machines;
//! * waiting costs one request in 20 s, the longest poll of SQS.

mod address;
pub(super) mod keys;

#[cfg(feature = "sqs")]
mod dedup;
#[cfg(feature = "sqs")]
mod errors;
#[cfg(feature = "sqs")]
mod link;
#[cfg(feature = "sqs")]
mod message;
#[cfg(feature = "sqs")]
mod source;

use std::fmt;
use std::time::Duration;

use super::Spread;
use super::aws::ClientSettings;
use super::watch::NameFilter;

pub use address::QueueUrl;

/// The visibility timeout of messages, with `ack: after_success`.
pub const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(180);

/// The maximum of messages of one watch whose runs have not ended.
pub const MAX_IN_FLIGHT: usize = 32;

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
    /// The URL of the queue.
    pub queue: QueueUrl,
    /// Which objects make events, for messages about objects.
    pub filter: Option<NameFilter>,
    /// When a message is deleted.
    pub ack: Ack,
    /// The job's share of the jitter.
    pub spread: Spread,
    /// How to reach the server; the default endpoint is the host of the queue's URL.
    pub client: ClientSettings,
}

impl SqsWatch {
    /// The source that watches it.
    #[cfg(feature = "sqs")]
    #[must_use]
    pub fn source(&self) -> Box<dyn super::Source> {
        Box::new(source::SqsSource::new(self.clone()))
    }
}

impl fmt::Display for SqsWatch {
    /// The queue and all settings: watches with equal text are equal.
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
