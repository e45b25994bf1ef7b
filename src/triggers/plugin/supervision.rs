//! What is remembered of a plugin's life: when it is started again, what a person is told, and how much of it.

use std::time::Duration;

use super::{Plugin, Restart};
use crate::model::{Elapsed, Exit, format_duration};

/// The first wait before a plugin is started again; doubled with each end.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest, jitter included.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Who lived this long has not failed at its start: the waits begin anew.
pub(super) const LIVED_WELL: Duration = Duration::from_secs(60);

/// How long a bad line shows in `status` after the last one.
const BAD_FOR: Duration = Duration::from_secs(3600);

/// Lines of the log that a plugin may fill in a period.
const LOGGED: u32 = 50;
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// How often it has ended without having lived well, and what becomes of it.
#[derive(Debug, Default)]
pub(super) struct Ends {
    in_a_row: u32,
    last: String,
}

/// What follows an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It is started again after this wait.
    pub again: Option<Duration>,
    /// What a person should know, if it is something wrong.
    pub warning: Option<String>,
}

impl Ends {
    /// It has ended after living this long.
    pub fn ended(&mut self, plugin: &Plugin, exit: Exit, lived: Duration) -> Verdict {
        let how = match exit {
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal(0) => "ended, nobody knows how".to_owned(),
            Exit::Signal(signal) => format!("was ended by {}", crate::model::signal_name(signal)),
        };
        if lived >= LIVED_WELL {
            self.in_a_row = 0;
        }
        self.count(plugin, how, exit == Exit::Code(0))
    }

    /// It could not even be started.
    pub fn not_started(&mut self, plugin: &Plugin, reason: &str) -> Verdict {
        self.count(plugin, format!("can't be started: {reason}"), false)
    }

    fn count(&mut self, plugin: &Plugin, how: String, is_success: bool) -> Verdict {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = how;
        let (how, restart) = (&self.last, plugin.restart);
        if restart == Restart::Never || restart == Restart::OnFailure && is_success {
            let text = format!("the plugin {how} and is not started again (restart: {})", restart.word());
            return Verdict { again: None, warning: (!is_success).then_some(text) };
        }
        let wait = self.wait(plugin);
        // Rounded, because the jitter's digits say nothing to a person.
        let shown = format_duration(Duration::from_secs(wait.as_secs().max(1)));
        let times = self.times();
        Verdict { again: Some(wait), warning: Some(format!("the plugin {how}{times}; next start in {shown}")) }
    }

    fn wait(&self, plugin: &Plugin) -> Duration {
        let doublings = self.in_a_row.saturating_sub(1).min(16);
        // The jitter makes it up to a tenth longer.
        let longest = LONGEST_WAIT.mul_f64(1.0 / 1.1);
        plugin.spread.stretch(FIRST_WAIT.saturating_mul(1 << doublings).min(longest))
    }

    fn times(&self) -> String {
        if self.in_a_row > 1 { format!(", {} times in a row", self.in_a_row) } else { String::new() }
    }

    /// What is told of one that lives again but has not lived well yet.
    pub fn probation(&self) -> Option<String> {
        (self.in_a_row > 0).then(|| format!("the plugin {}{}; it has been started again", self.last, self.times()))
    }

    /// It has lived well.
    pub fn forget(&mut self) {
        self.in_a_row = 0;
    }
}

/// Lines that made no run.
#[derive(Debug, Default)]
pub(super) struct BadLines {
    count: u64,
    shown: Option<String>,
    until: Option<Elapsed>,
}

impl BadLines {
    /// One more; what is shown changes only if the log has room for it.
    pub fn add(&mut self, now: Elapsed, number: u64, reason: &str, has_room: bool) {
        self.count += 1;
        self.until = Some(now + BAD_FOR);
        if has_room || self.shown.is_none() {
            let earlier = match self.count - 1 {
                0 => String::new(),
                earlier => format!("; {earlier} before it were dropped too"),
            };
            self.shown = Some(format!("line {number} of the plugin was dropped: {reason}{earlier}"));
        }
    }

    pub fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// When they are old news.
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }

    pub fn forget_old(&mut self, now: Elapsed) {
        if self.until.is_some_and(|until| until <= now) {
            *self = BadLines::default();
        }
    }
}

/// A plugin's share of the daemon's log.
#[derive(Debug, Default)]
pub(super) struct LogShare {
    since: Elapsed,
    used: u32,
    dropped: u64,
}

/// Whether a line may go into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes; this many before it did not.
    Yes(u64),
    /// No, and it is the first that may not.
    FirstRefused,
    No,
}

impl LogShare {
    pub fn admit(&mut self, now: Elapsed) -> Admission {
        if now.since(self.since) >= LOG_PERIOD {
            self.since = now;
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        if self.used <= LOGGED {
            return Admission::Yes(std::mem::take(&mut self.dropped));
        }
        self.dropped += 1;
        if self.used == LOGGED + 1 { Admission::FirstRefused } else { Admission::No }
    }

    /// Lines that were refused and not told yet.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::spec::Action;
    use crate::triggers::Spread;

    fn plugin(restart: Restart, spread: u64) -> Plugin {
        let spread = Spread::from_offset(Duration::from_millis(spread));
        Plugin { job: "a".into(), action: Action::Shell("x".into()), restart, spread }
    }

    const MOMENT: Duration = Duration::from_millis(10);

    #[test]
    fn the_wait_doubles_from_a_second_to_five_minutes_with_stable_jitter_and_begins_anew_after_a_good_life() {
        let plain = plugin(Restart::Always, 0);
        let mut ends = Ends::default();
        let waits: Vec<u64> = (0..8).map(|_| ends.ended(&plain, Exit::Code(1), MOMENT).again.unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(ends.ended(&plain, Exit::Code(1), LIVED_WELL).again, Some(FIRST_WAIT));
        let mut latest = Duration::ZERO;
        for _ in 0..40 {
            latest = ends.ended(&plugin(Restart::Always, 1000), Exit::Code(1), MOMENT).again.unwrap();
            assert!(latest <= LONGEST_WAIT, "{latest:?}");
        }
        assert!(latest > Duration::from_secs(299));
        let first = |spread| Ends::default().ended(&plugin(Restart::Always, spread), Exit::Code(1), MOMENT).again.unwrap();
        assert_eq!((first(0), first(500), first(1000)), (FIRST_WAIT, FIRST_WAIT.mul_f64(1.05), FIRST_WAIT.mul_f64(1.1)));
    }

    #[test]
    fn the_policy_says_who_is_started_again_and_only_what_is_wrong_is_a_warning() {
        let verdict = |restart, exit| Ends::default().ended(&plugin(restart, 0), exit, MOMENT);
        let (done, broken, killed) = (Exit::Code(0), Exit::Code(3), Exit::Signal(9));
        assert!([done, broken, killed].iter().all(|exit| verdict(Restart::Always, *exit).again.is_some()));
        assert_eq!(verdict(Restart::OnFailure, done), Verdict { again: None, warning: None });
        assert!(verdict(Restart::OnFailure, broken).again.is_some());
        assert!(verdict(Restart::OnFailure, killed).warning.unwrap().contains("was ended by SIGKILL"));
        assert_eq!(verdict(Restart::Never, done), Verdict { again: None, warning: None });
        let ended = verdict(Restart::Never, broken);
        assert_eq!(ended.again, None);
        assert_eq!(ended.warning.unwrap(), "the plugin ended with exit code 3 and is not started again (restart: never)");
    }

    #[test]
    fn what_a_person_reads_counts_the_ends_until_the_plugin_has_lived_well() {
        let plain = plugin(Restart::Always, 0);
        let mut ends = Ends::default();
        assert_eq!(ends.probation(), None);
        ends.ended(&plain, Exit::Code(1), MOMENT);
        let second = ends.not_started(&plain, "`x` was not found");
        assert_eq!(second.warning.unwrap(), "the plugin can't be started: `x` was not found, 2 times in a row; next start in 2s");
        assert!(ends.probation().unwrap().ends_with("2 times in a row; it has been started again"));
        ends.forget();
        assert_eq!(ends.probation(), None);
    }

    #[test]
    fn a_flood_of_lines_fills_the_log_only_so_far_and_says_how_many_are_missing() {
        let mut share = LogShare::default();
        let at = |secs: u64| Elapsed::from_nanos(secs * 1_000_000_000);
        for _ in 0..LOGGED {
            assert_eq!(share.admit(at(100)), Admission::Yes(0));
        }
        assert_eq!(share.admit(at(101)), Admission::FirstRefused);
        assert_eq!(share.admit(at(109)), Admission::No);
        assert_eq!(share.admit(at(110)), Admission::Yes(2));
        assert_eq!(share.admit(at(110)), Admission::Yes(0));
    }

    #[test]
    fn bad_lines_show_for_an_hour_with_their_number() {
        let mut bad = BadLines::default();
        let at = |secs: u64| Elapsed::from_nanos(secs * 1_000_000_000);
        bad.add(at(0), 7, "it is not JSON", true);
        assert_eq!(bad.shown(), Some("line 7 of the plugin was dropped: it is not JSON"));
        bad.add(at(10), 8, "it is too long", false);
        assert_eq!(bad.shown(), Some("line 7 of the plugin was dropped: it is not JSON"));
        bad.add(at(20), 9, "it is too long", true);
        assert_eq!(bad.shown(), Some("line 9 of the plugin was dropped: it is too long; 2 before it were dropped too"));
        bad.forget_old(at(3619));
        assert!(bad.shown().is_some());
        bad.forget_old(at(3620));
        assert_eq!((bad.shown(), bad.until()), (None, None));
    }
}
