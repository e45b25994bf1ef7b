//! Looking at paths that may hang: a FUSE or NFS mount that does not answer puts its caller into D state, where not even
//! SIGKILL ends it, and a thread in that state would keep its whole process from ending. So another process makes the calls:
//! this program executed again ([`start`]), which answers requests over a socket until it has had none for [`IDLE`].
//!
//! | file | subject |
//! | --- | --- |
//! | `protocol` | requests and answers, as types and as bytes |
//! | `file_stat` | what is known of a file |
//! | `local` | what needs no other process |
//! | `work` | how a request is carried out, with plain std code |
//! | `process` | the process: its start, and its loop |
//! | `client` | a caller that waits, with a deadline |
//!
//! A request is answered by any number of parts and then by [`Answer::Done`] or [`Answer::Failed`]; one that takes long sends
//! [`Answer::Working`], so that silence means a hang. The daemon's side, which does not wait, is
//! `reactor/helper.rs`; a helper that hangs is killed, not waited for, and another one started.

mod client;
mod file_stat;
mod local;
mod process;
mod protocol;
mod work;

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::model::{Backoff, Jitter, format_duration};

pub use client::{Client, Failure};
pub use file_stat::{FileStat, is_local};
pub use local::{open_local, path_of};
pub use process::{ARGUMENT, Process, run, start};
pub use protocol::{Answer, Entry, EntryKind, MAX_PATHS_BYTES, Request};

/// Without a request for this long, the process ends.
pub const IDLE: Duration = Duration::from_secs(10);

/// Silence for this long is a hang. A disk that has to spin up takes less, and a mount that answers after more is no place for
/// what is asked here.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// What a hang is called: `did not answer within 5s`.
#[must_use]
pub fn no_answer() -> String {
    format!("did not answer within {}", format_duration(TIMEOUT))
}

/// The delay before a path that hung is looked at again.
pub const AFTER_HANG: Backoff =
    Backoff { delay: Duration::from_secs(30), factor: 2, max: Duration::from_secs(600), jitter: Jitter::None };

/// What becomes of a request, for those who do not wait for it.
#[derive(Debug)]
pub enum Response {
    /// A part of the answer, or its end.
    Answer(Answer, Option<OwnedFd>),
    /// The path does not answer; the process that looked at it was killed.
    Hung,
    /// The process can't be started, or ended: a sentence.
    Unavailable(String),
    /// A process that had hung in this request has ended: the path answers again, or is unmounted.
    Recovered,
}
