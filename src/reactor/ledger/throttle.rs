//! Whether a turn is committed to the database at once or appended to the journal first, by how closely turns follow each
//! other. Pure.
//!
//! A calm daemon commits each turn: one file to write, and nothing left to do later. Where turns come in dozens a second,
//! each of them would wait for SQLite before it starts what is due, and write the pages that the one before it wrote.

use std::time::Duration;

use crate::model::Elapsed;

/// The throttle's limits; tests take smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitLimits {
    /// Between two commits of a daemon that stays busy.
    pub interval: Duration,
    /// Commits that may follow each other at once after a quiet time: a few runs from start to end.
    pub burst: u32,
    /// How long a journal entry stays out of the database.
    pub max_wait: Duration,
    /// Bytes in the journal with which the next idle moment is used for a commit: a hundred runs or two, which take SQLite
    /// a millisecond or two.
    pub max_bytes: u64,
}

impl Default for CommitLimits {
    fn default() -> CommitLimits {
        CommitLimits { interval: Duration::from_millis(50), burst: 12, max_wait: Duration::from_millis(250), max_bytes: 64 << 10 }
    }
}

/// A token bucket of commits, and the deadline of the journal's entries.
#[derive(Debug)]
pub(super) struct CommitThrottle {
    limits: CommitLimits,
    /// When all commits so far would be over at one each [`CommitLimits::interval`].
    paid: Elapsed,
    until: Option<Elapsed>,
}

impl CommitThrottle {
    pub fn new(limits: CommitLimits) -> CommitThrottle {
        CommitThrottle { limits, paid: Elapsed::default(), until: None }
    }

    /// True if this turn may be committed at once, which counts.
    pub fn allows(&mut self, now: Elapsed) -> bool {
        let paid = self.paid.max(now) + self.limits.interval;
        let allows = paid <= now + self.limits.interval * self.limits.burst;
        if allows {
            self.paid = paid;
        }
        allows
    }

    /// This turn was appended to the journal.
    pub fn appended(&mut self, now: Elapsed) {
        self.until.get_or_insert(now + self.limits.max_wait);
    }

    /// The database has every entry of the journal.
    pub fn committed(&mut self) {
        self.until = None;
    }

    /// When the database has to have the journal's entries.
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }

    /// Whether an idle moment is to be used for a commit: the deadline is reached, the journal is long, or nothing runs
    /// any more.
    pub fn is_due(&self, now: Elapsed, bytes: u64, alive: u32) -> bool {
        self.until.is_some_and(|until| until <= now || bytes >= self.limits.max_bytes || alive == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Elapsed {
        Elapsed::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    fn throttle() -> CommitThrottle {
        CommitThrottle::new(CommitLimits::default())
    }

    #[test]
    fn a_calm_daemon_commits_and_a_busy_one_mostly_does_not() {
        let mut calm = throttle();
        assert!((0..100).all(|turn| calm.allows(at(turn * 60))), "one each 60 ms");
        let mut busy = throttle();
        let allowed = (0..1_000).filter(|turn| busy.allows(at(turn + 10))).count();
        assert_eq!(allowed, 12 + 999 / 50, "a thousand in a second");
        assert!(busy.allows(at(2_000)), "and again when that is over");
    }

    #[test]
    fn journal_entries_are_committed_at_their_deadline_when_they_are_many_or_when_nothing_runs() {
        let mut throttle = throttle();
        let many = CommitLimits::default().max_bytes;
        assert!(!throttle.is_due(at(0), 0, 0), "there are none");
        throttle.appended(at(0));
        throttle.appended(at(200));
        assert_eq!(throttle.until(), Some(at(250)), "the first of them counts");
        assert!(!throttle.is_due(at(249), many - 1, 1));
        assert!(throttle.is_due(at(250), 1, 1) && throttle.is_due(at(1), many, 1) && throttle.is_due(at(1), 1, 0));
        throttle.committed();
        assert_eq!(throttle.until(), None);
    }
}
