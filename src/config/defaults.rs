//! What holds where a key is absent. The reader and the tables of [`super::reference`] use these constants, so that no
//! document can name another default than the one in force; those of triggers are in [`crate::triggers::defaults`].

use std::time::Duration;

use crate::model::{Backoff, Jitter, StateWord};

pub(super) const MAX_PARALLEL: u32 = 32;
pub(super) const GRACE: Duration = Duration::from_secs(60);
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const COMMIT_EVERY: Duration = Duration::ZERO;
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(3_600);

pub(super) const ENABLED: bool = true;
pub(super) const KEEP_RUNS: u32 = 100;
pub(super) const KILL_GRACE: Duration = Duration::from_secs(10);
pub(super) const RETRY_BACKOFF: Backoff =
    Backoff { delay: Duration::from_secs(1), factor: 1, max: Duration::from_secs(300), jitter: Jitter::None };

pub(super) const METRICS_EVERY: Duration = Duration::from_secs(60);

pub(super) const PING_EVERY: Duration = Duration::from_secs(300);
pub(super) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const NOTIFY_ATTEMPTS: u32 = 5;
/// Fewer: the next ping comes soon.
pub(super) const PING_ATTEMPTS: u32 = 2;
pub(super) const NOTIFY_ON: [StateWord; 3] = [StateWord::Failed, StateWord::TimedOut, StateWord::Lost];
pub(super) const NOTIFY_BACKOFF: Backoff =
    Backoff { delay: Duration::from_secs(5), factor: 2, max: Duration::from_secs(300), jitter: Jitter::Random };

/// The names of the factors of a [`Backoff`].
pub(super) const BACKOFF_WORDS: &[(&str, u32)] = &[("fixed", 1), ("exponential", 2)];
