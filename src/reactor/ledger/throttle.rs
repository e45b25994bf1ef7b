//! How closely turns follow each other, and so whether what they decide goes into the database at once or is jotted down
//! first. Pure.
//!
//! A calm box commits each turn: that is one place to write to, and nothing to do later. Where turns come in dozens a second,
//! each of them waits for SQLite before it starts what is due, and writes the pages that the one before it wrote.

use std::time::Duration;

use crate::model::Elapsed;

/// Between two commits of a daemon that is busy for long.
const EVERY: Duration = Duration::from_millis(50);

/// Commits that may follow each other at once after a rest: a few runs from their beginnings to their ends.
const AT_ONCE: u32 = 12;

/// For how long what was jotted down stays out of the database.
const WAIT: Duration = Duration::from_millis(250);

/// With so many bytes it is brought there at the next rest: a hundred runs or two, which take SQLite a millisecond or two.
const MUCH: u64 = 64 << 10;

/// What was committed lately, and when what was not has to be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all commits so far would be over at one each [`EVERY`].
    paid: Elapsed,
    until: Option<Elapsed>,
}

impl Pace {
    /// True if this turn may be committed at once, which counts.
    pub fn allows(&mut self, now: Elapsed) -> bool {
        let paid = self.paid.max(now) + EVERY;
        let allows = paid <= now + EVERY * AT_ONCE;
        if allows {
            self.paid = paid;
        }
        allows
    }

    /// This turn was jotted down.
    pub fn jotted(&mut self, now: Elapsed) {
        self.until.get_or_insert(now + WAIT);
    }

    /// The database has all of it.
    pub fn caught_up(&mut self) {
        self.until = None;
    }

    /// When the database has to have it.
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }

    /// Whether a rest is to be used for that: its time has come, it is much, or it is over with what made it.
    pub fn is_due(&self, now: Elapsed, bytes: u64, alive: u32) -> bool {
        self.until.is_some_and(|until| until <= now || bytes >= MUCH || alive == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Elapsed {
        Elapsed::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    #[test]
    fn a_calm_daemon_commits_and_a_busy_one_mostly_does_not() {
        let mut pace = Pace::default();
        assert!((0..100).all(|turn| pace.allows(at(turn * 60))), "one each 60 ms");
        let mut busy = Pace::default();
        let allowed = (0..1_000).filter(|turn| busy.allows(at(turn + 10))).count();
        assert_eq!(allowed, 12 + 999 / 50, "a thousand in a second");
        assert!(busy.allows(at(2_000)), "and again when that is over");
    }

    #[test]
    fn what_is_jotted_down_is_brought_in_when_its_time_has_come_it_is_much_or_over() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(at(0), 0, 0), "nothing is");
        pace.jotted(at(0));
        pace.jotted(at(200));
        assert_eq!(pace.until(), Some(at(250)), "the first of them counts");
        assert!(!pace.is_due(at(249), MUCH - 1, 1));
        assert!(pace.is_due(at(250), 1, 1) && pace.is_due(at(1), MUCH, 1) && pace.is_due(at(1), 1, 0));
        pace.caught_up();
        assert_eq!(pace.until(), None);
    }
}
