//! Retries of failed attempts.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::event::{Change, Notice};
use super::rules::Retry;
use super::run::Process;
use super::timers::Timer;
use crate::model::{Exit, Now, Outcome, RunId};

/// How an attempt failed.
pub(super) struct Failure {
    pub outcome: Outcome,
    pub exit: Option<Exit>,
    pub reason: Option<Arc<str>>,
}

impl Engine {
    /// An attempt failed: another follows if `retry` says so, else the run has ended.
    pub(super) fn fail(&mut self, now: Now, run: RunId, process: Process, failure: Failure) {
        let Failure { outcome, exit, reason } = failure;
        let Some(record) = self.queues.get(run) else { return };
        let (job, attempt) = (record.job, record.attempt);
        let retry = self.rules_of(job).policy.retry.clone();
        let Some(retry) = retry.filter(|retry| attempt.0 < retry.attempts && retry.applies_to(exit)) else {
            return self.end(now, run, outcome, exit, reason);
        };
        let delay = retry.backoff.delay_after(attempt.0, || self.random.next());
        let reason: String = reason.map_or_else(|| describe_exit(exit), |reason| reason.to_string());
        let started_at = Some(process.since);
        self.record(Change::AttemptFailed { run, attempt, started_at, ended_at: now.wall, exit, reason: reason.clone() });
        self.notify(Notice::WillRetry { run, job, attempt, delay, exit, reason });
        self.retry_at(now, run, delay);
    }

    /// The run waits for its next attempt; it keeps its turn, not its slot.
    pub(super) fn retry_at(&mut self, now: Now, run: RunId, delay: Duration) {
        let due = now.elapsed + delay;
        self.queues.retry(run, now.wall + delay, due);
        self.arm(due, Timer::Retry(run));
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
