//! Supervision of a plugin: restarts with back-off, the warning about invalid lines, and a limit on its share of the log.

use std::time::Duration;

use super::{Plugin, Restart};
use crate::model::{Backoff, Elapsed, Exit, Jitter, format_duration};

/// The delay before the first restart; it doubles with each exit in a row.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The longest delay, jitter included.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(300);

/// A plugin that ran this long has started successfully: the back-off is reset.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How long the warning about invalid lines stays in `status` after the last of them.
const SHOWN_FOR: Duration = Duration::from_secs(3600);

/// The maximum of log lines about a plugin in a period.
const MAX_LINES: u32 = 50;
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Exits in a row without a stable run in between.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    failures: u32,
    /// The latest exit, as messages put it: `exited with code 3`.
    last: String,
}

/// What follows an exit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NextStart {
    /// The delay before the restart; `None`: it is not restarted.
    pub delay: Option<Duration>,
    /// For `status`, unless the exit was expected.
    pub warning: Option<String>,
}

impl Restarts {
    /// It has exited after running this long.
    pub fn exited(&mut self, plugin: &Plugin, exit: Exit, uptime: Duration) -> NextStart {
        let how = match exit {
            Exit::Code(code) => format!("exited with code {code}"),
            Exit::Signal(0) => "exited with an unknown status".to_owned(),
            Exit::Signal(signal) => format!("was killed by {}", crate::model::signal_name(signal)),
        };
        if uptime >= STABLE_AFTER {
            self.failures = 0;
        }
        self.count(plugin, how, exit == Exit::Code(0))
    }

    /// It could not be started.
    pub fn failed_to_start(&mut self, plugin: &Plugin, reason: &str) -> NextStart {
        self.count(plugin, format!("can't be started: {reason}"), false)
    }

    fn count(&mut self, plugin: &Plugin, how: String, is_success: bool) -> NextStart {
        self.failures = self.failures.saturating_add(1);
        self.last = how;
        let (exit, restart) = (&self.last, plugin.restart);
        if restart == Restart::Never || restart == Restart::OnFailure && is_success {
            let text = format!("the plugin {exit} and is not restarted (restart: {})", restart.word());
            return NextStart { delay: None, warning: (!is_success).then_some(text) };
        }
        let delay = self.delay(plugin);
        // In whole seconds: the digits of the jitter are noise.
        let shown = format_duration(Duration::from_secs(delay.as_secs().max(1)));
        let times = self.times();
        NextStart { delay: Some(delay), warning: Some(format!("the plugin {exit}{times}; next start in {shown}")) }
    }

    fn delay(&self, plugin: &Plugin) -> Duration {
        // Jitter adds up to a tenth.
        let max = MAX_RESTART_DELAY.mul_f64(1.0 / 1.1);
        let backoff = Backoff { delay: RESTART_DELAY, factor: 2, max, jitter: Jitter::Stable(plugin.spread) };
        // Stable jitter draws no number.
        backoff.delay_after(self.failures, || 0)
    }

    fn times(&self) -> String {
        if self.failures > 1 { format!(", {} times in a row", self.failures) } else { String::new() }
    }

    /// The warning while it runs again but is not stable yet.
    pub fn restart_warning(&self) -> Option<String> {
        (self.failures > 0).then(|| format!("the plugin {}{}; it has been restarted", self.last, self.times()))
    }

    /// It has run for [`STABLE_AFTER`].
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Invalid lines, which make no run.
#[derive(Debug, Default)]
pub(super) struct BadLines {
    count: u64,
    shown: Option<String>,
    until: Option<Elapsed>,
}

impl BadLines {
    /// Counts a line. The warning changes only if it may be logged.
    pub fn add(&mut self, now: Elapsed, number: u64, reason: &str, may_log: bool) {
        self.count += 1;
        self.until = Some(now + SHOWN_FOR);
        if may_log || self.shown.is_none() {
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

    /// When the warning expires.
    pub fn until(&self) -> Option<Elapsed> {
        self.until
    }

    pub fn expire(&mut self, now: Elapsed) {
        if self.until.is_some_and(|until| until <= now) {
            *self = BadLines::default();
        }
    }
}

/// The rate limit on log lines about a plugin.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    since: Elapsed,
    used: u32,
    suppressed: u64,
}

/// Whether a line may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes, after this number of suppressed lines.
    Yes(u64),
    /// No, and it is the first suppressed line.
    FirstSuppressed,
    No,
}

impl LogThrottle {
    pub fn admit(&mut self, now: Elapsed) -> Admission {
        if now.since(self.since) >= LOG_PERIOD {
            self.since = now;
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        if self.used <= MAX_LINES {
            return Admission::Yes(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        if self.used == MAX_LINES + 1 { Admission::FirstSuppressed } else { Admission::No }
    }

    /// The number of suppressed lines that was not reported yet.
    pub fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
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

    const SHORT_UPTIME: Duration = Duration::from_millis(10);

    #[test]
    fn the_delay_doubles_from_a_second_to_five_minutes_and_is_reset_by_a_stable_run() {
        let plain = plugin(Restart::Always, 0);
        let mut restarts = Restarts::default();
        let waits: Vec<u64> =
            (0..8).map(|_| restarts.exited(&plain, Exit::Code(1), SHORT_UPTIME).delay.unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(restarts.exited(&plain, Exit::Code(1), STABLE_AFTER).delay, Some(RESTART_DELAY));
        let mut latest = Duration::ZERO;
        for _ in 0..40 {
            latest = restarts.exited(&plugin(Restart::Always, 1000), Exit::Code(1), SHORT_UPTIME).delay.unwrap();
            assert!(latest <= MAX_RESTART_DELAY, "{latest:?}");
        }
        assert!(latest > Duration::from_secs(299));
        let first =
            |spread| Restarts::default().exited(&plugin(Restart::Always, spread), Exit::Code(1), SHORT_UPTIME).delay.unwrap();
        assert_eq!((first(0), first(500), first(1000)), (RESTART_DELAY, RESTART_DELAY.mul_f64(1.05), RESTART_DELAY.mul_f64(1.1)));
    }

    #[test]
    fn the_policy_decides_on_restarts_and_only_failures_are_warnings() {
        let verdict = |restart, exit| Restarts::default().exited(&plugin(restart, 0), exit, SHORT_UPTIME);
        let (done, broken, killed) = (Exit::Code(0), Exit::Code(3), Exit::Signal(9));
        assert!([done, broken, killed].iter().all(|exit| verdict(Restart::Always, *exit).delay.is_some()));
        assert_eq!(verdict(Restart::OnFailure, done), NextStart { delay: None, warning: None });
        assert!(verdict(Restart::OnFailure, broken).delay.is_some());
        assert!(verdict(Restart::OnFailure, killed).warning.unwrap().contains("was killed by SIGKILL"));
        assert_eq!(verdict(Restart::Never, done), NextStart { delay: None, warning: None });
        let exited = verdict(Restart::Never, broken);
        assert_eq!(exited.delay, None);
        assert_eq!(exited.warning.unwrap(), "the plugin exited with code 3 and is not restarted (restart: never)");
    }

    #[test]
    fn warnings_count_the_exits_until_the_plugin_is_stable() {
        let plain = plugin(Restart::Always, 0);
        let mut restarts = Restarts::default();
        assert_eq!(restarts.restart_warning(), None);
        restarts.exited(&plain, Exit::Code(1), SHORT_UPTIME);
        let second = restarts.failed_to_start(&plain, "`x` was not found");
        assert_eq!(second.warning.unwrap(), "the plugin can't be started: `x` was not found, 2 times in a row; next start in 2s");
        assert!(restarts.restart_warning().unwrap().ends_with("2 times in a row; it has been restarted"));
        restarts.reset();
        assert_eq!(restarts.restart_warning(), None);
    }

    #[test]
    fn log_lines_are_limited_and_suppressed_lines_counted() {
        let mut share = LogThrottle::default();
        let at = |secs: u64| Elapsed::from_nanos(secs * 1_000_000_000);
        for _ in 0..MAX_LINES {
            assert_eq!(share.admit(at(100)), Admission::Yes(0));
        }
        assert_eq!(share.admit(at(101)), Admission::FirstSuppressed);
        assert_eq!(share.admit(at(109)), Admission::No);
        assert_eq!(share.admit(at(110)), Admission::Yes(2));
        assert_eq!(share.admit(at(110)), Admission::Yes(0));
    }

    #[test]
    fn invalid_lines_are_shown_for_an_hour_with_their_number() {
        let mut bad = BadLines::default();
        let at = |secs: u64| Elapsed::from_nanos(secs * 1_000_000_000);
        bad.add(at(0), 7, "it is not JSON", true);
        assert_eq!(bad.shown(), Some("line 7 of the plugin was dropped: it is not JSON"));
        bad.add(at(10), 8, "it is too long", false);
        assert_eq!(bad.shown(), Some("line 7 of the plugin was dropped: it is not JSON"));
        bad.add(at(20), 9, "it is too long", true);
        assert_eq!(bad.shown(), Some("line 9 of the plugin was dropped: it is too long; 2 before it were dropped too"));
        bad.expire(at(3619));
        assert!(bad.shown().is_some());
        bad.expire(at(3620));
        assert_eq!((bad.shown(), bad.until()), (None, None));
    }
}
