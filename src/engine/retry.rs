//! Retries: whether a failed attempt is followed by another, and when.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::event::{Change, Notice};
use super::rules::Retry;
use super::run::{RunState, Waiting};
use super::timers::Timer;
use crate::model::{Exit, Now, Outcome, RunId};

impl Engine {
    /// An attempt failed: another follows if `retry` says so, else the run has ended.
    pub(super) fn fail(&mut self, now: Now, run: RunId, outcome: Outcome, exit: Option<Exit>, reason: Option<Arc<str>>) {
        let Some(tracked) = self.runs.get(&run) else { return };
        let record = &tracked.record;
        let (job, attempt) = (record.job, record.attempt);
        let retry = self.rules_of(job).policy.retry.clone();
        let Some(retry) = retry.filter(|retry| attempt.0 < retry.attempts && retry.applies_to(exit)) else {
            return self.end(now, run, outcome, exit, reason);
        };
        let since = match &record.state {
            RunState::Running(process) => Some(process.since),
            RunState::Pending(_) | RunState::Ended(_) => record.started_at,
        };
        let delay = retry.backoff.delay_after(attempt.0, || self.random.next());
        let reason: String = reason.map_or_else(|| describe_exit(exit), |reason| reason.to_string());
        self.record(Change::AttemptFailed { run, attempt, started_at: since, ended_at: now.wall, exit, reason: reason.clone() });
        self.tell(Notice::WillRetry { run, job, attempt, delay, exit, reason });
        self.retry_at(now, run, delay);
    }

    /// The run waits for its next attempt; it keeps its turn, not its slot.
    pub(super) fn retry_at(&mut self, now: Now, run: RunId, delay: Duration) {
        let due = now.elapsed + delay;
        if let Some(tracked) = self.runs.get_mut(&run) {
            tracked.record.state = RunState::Pending(Waiting::Retry { not_before: now.wall + delay, due });
        }
        self.arm(due, Timer::Retry(run));
        self.touch(run);
    }

    pub(super) fn retry_due(&mut self, run: RunId) {
        if let Some(tracked) = self.runs.get_mut(&run)
            && matches!(tracked.record.state, RunState::Pending(Waiting::Retry { .. }))
        {
            tracked.record.state = RunState::Pending(Waiting::Slot);
            let record = &tracked.record;
            self.ready.insert((record.scheduled_at, self.rank[record.job.index()], run));
        }
    }
}

impl Retry {
    fn applies_to(&self, exit: Option<Exit>) -> bool {
        match exit {
            _ if self.on_exit_codes.is_empty() => true,
            Some(Exit::Code(code)) => self.on_exit_codes.iter().any(|retried| i32::from(*retried) == code),
            Some(Exit::Signal(_)) | None => false,
        }
    }
}

fn describe_exit(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("exit code {code}"),
        Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
        None => "not started".into(),
    }
}
