//! The life of a run: triggered, waiting, ready, running, ended.

use std::sync::Arc;

use super::event::{Effect, Notice, Spawn};
use super::retry::Failure;
use super::run::{End, Payload, RunRecord, RunState, StopCause, Waiting};
use super::timers::Timer;
use super::timing::Concurrency;
use super::{Engine, Mode};
use crate::dag::Verdict;
use crate::model::{Attempt, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime, format_duration};

/// Why a run is made.
#[derive(Debug)]
pub(super) struct Cause {
    pub trigger: TriggerWord,
    pub event: Option<Payload>,
    pub scheduled_at: WallTime,
    /// Starts without its dependencies, in spite of a pause, before its turn.
    pub forced: bool,
    /// Waits even where `concurrency: forbid` would skip it: a deadline that is caught up, or `--with-deps`.
    pub waits_its_turn: bool,
}

impl Cause {
    /// Its dependencies are satisfied, or can no longer be.
    pub fn by_dependencies(now: Now) -> Cause {
        Cause { trigger: TriggerWord::AfterDeps, event: None, scheduled_at: now.wall, forced: false, waits_its_turn: false }
    }
}

impl Engine {
    pub(super) fn fired(&mut self, now: Now, job: JobId, events: Vec<Payload>) {
        let trigger = self.rules_of(job).trigger;
        for event in events {
            let cause = Cause { trigger, event: Some(event), scheduled_at: now.wall, forced: false, waits_its_turn: false };
            self.trigger(now, job, cause);
        }
    }

    /// Makes a run, which the caller must place.
    pub(super) fn new_run(&mut self, job: JobId, cause: &Cause) -> RunId {
        let id = RunId(self.next_run);
        self.next_run += 1;
        let record = RunRecord {
            id,
            job,
            trigger: cause.trigger,
            event: cause.event.clone(),
            scheduled_at: cause.scheduled_at,
            forced: cause.forced,
            attempt: Attempt::default(),
            started_at: None,
            state: RunState::Pending(Waiting::Turn),
        };
        self.notify(Notice::Triggered { run: id, job, trigger: cause.trigger, scheduled_at: cause.scheduled_at });
        self.queues.add(record);
        id
    }

    /// Makes a run and applies `concurrency` to it.
    pub(super) fn trigger(&mut self, now: Now, job: JobId, cause: Cause) -> RunId {
        let (forced, waits_its_turn) = (cause.forced, cause.waits_its_turn);
        let id = self.new_run(job, &cause);
        let rules = self.rules_of(job);
        let (concurrency, limit) = (rules.policy.concurrency, rules.limit());
        if forced {
            self.queues.claim(id);
            return id;
        }
        if self.queues.active(job) >= limit {
            match concurrency {
                Concurrency::Forbid if !waits_its_turn => {
                    let active = self.queues.first_active(job);
                    let reason = active.map_or("a run is still active".into(), |run| format!("run {run} is still active"));
                    self.end(now, id, Outcome::Skipped, None, Some(reason.into()));
                    return id;
                }
                Concurrency::Replace => self.replace_active(now, job, id),
                Concurrency::Forbid | Concurrency::Queue | Concurrency::Allow => {}
            }
        }
        if let Some(change) = self.queues.enqueue(id) {
            // The store has it once this turn is committed; memory need not.
            self.record(change);
        }
        self.to_advance.push_back(job);
        id
    }

    fn replace_active(&mut self, now: Now, job: JobId, by: RunId) {
        let active: Vec<RunId> = self.queues.waiting(job).iter().chain(self.queues.claimed(job)).copied().collect();
        for run in active {
            self.cancel(now, run, StopCause::Replaced(by));
        }
    }

    /// Claims waiting runs of a job, as far as its limit, dependencies and pauses allow.
    pub(super) fn advance(&mut self, now: Now, job: JobId) {
        if self.queues.trim_job(job) {
            return;
        }
        loop {
            if let Some((from, limit)) = self.queues.start_loading(job) {
                self.out.push(Effect::Load { job, from, limit });
            }
            let (rules, memory) = (self.rules_of(job), &self.jobs[job.index()]);
            let (limit, milestone) = (rules.limit(), rules.milestone);
            if memory.paused || self.queues.claimed(job).len() >= limit || self.queues.waiting(job).is_empty() {
                return;
            }
            if !rules.depends_on.is_empty() {
                // A start consumes the credits, so only one run at a time may be claimed because of them.
                let held = self.queues.credit_holder(job).is_some();
                if held || memory.credits.verdict(rules.policy.condition) != Verdict::Satisfied {
                    return;
                }
            }
            let Some(run) = self.queues.claim_next(job, limit) else { return };
            if milestone {
                self.begin(now, run);
            }
        }
    }

    /// Starts ready runs while slots are free; true if any was started.
    pub(super) fn start_ready(&mut self, now: Now) -> bool {
        if self.mode != Mode::Open {
            return false;
        }
        let mut any = false;
        while self.queues.alive() < self.slots() {
            let Some(run) = self.queues.first_ready() else { break };
            self.begin(now, run);
            any = true;
            if !self.to_propagate.is_empty() {
                // A milestone ends as it begins, and its end must reach the next run's credits before that run starts.
                break;
            }
        }
        any
    }

    /// How many attempts may be alive at once.
    fn slots(&self) -> u32 {
        self.rules.max_parallel
    }

    /// A slot is free: the run's next attempt begins, the first one consumes its job's credits.
    fn begin(&mut self, now: Now, run: RunId) {
        if self.mode != Mode::Open {
            return;
        }
        let Some(record) = self.queues.get(run) else { return };
        let (job, forced, first) = (record.job, record.forced, record.attempt == Attempt::default());
        let rules = &self.rules.jobs[job.index()];
        let (milestone, timeout) = (rules.milestone, rules.policy.timeout);
        if first && !rules.depends_on.is_empty() {
            if !forced && self.jobs[job.index()].credits.verdict(rules.policy.condition) != Verdict::Satisfied {
                // A forced run of the same job consumed them meanwhile.
                self.queues.unclaim(run);
                return;
            }
            self.consume_credits(job);
        }
        if milestone {
            self.queues.set_started_at(run, now.wall);
            self.end(now, run, Outcome::Succeeded, None, None);
            return;
        }
        let slots = self.slots();
        let Some(record) = self.queues.start(run, now, slots) else { return };
        let attempt = record.attempt;
        let spawn =
            Spawn { run, job, attempt, trigger: record.trigger, scheduled_at: record.scheduled_at, event: record.event.clone() };
        if let Some(timeout) = timeout {
            self.arm(now.elapsed + timeout, Timer::Timeout(run, attempt));
        }
        self.out.push(Effect::Spawn(Box::new(spawn)));
        self.notify(Notice::Started { run, job, attempt });
    }

    pub(super) fn started(&mut self, run: RunId, pid: Pid) {
        if let Some(process) = self.queues.process_mut(run) {
            process.pid = Some(pid);
            self.queues.mark_changed(run);
        }
    }

    pub(super) fn not_started(&mut self, now: Now, run: RunId, reason: String) {
        let Some(process) = self.queues.process(run) else { return };
        match process.stop {
            None => self.fail(now, run, process, Failure { outcome: Outcome::Failed, exit: None, reason: Some(reason.into()) }),
            Some(StopCause::Timeout) => {
                let failure = Failure { outcome: Outcome::TimedOut, exit: None, reason: Some(reason.into()) };
                self.fail(now, run, process, failure);
            }
            Some(cause) => self.end(now, run, Outcome::Cancelled, None, Some(cause.reason())),
        }
    }

    pub(super) fn exited(&mut self, now: Now, run: RunId, exit: Exit, reason: Option<String>) {
        let Some(process) = self.queues.process(run) else { return };
        let Some(job) = self.queues.get(run).map(|record| record.job) else { return };
        let rules = self.rules_of(job);
        match process.stop {
            None if succeeded(exit, &rules.policy.success_exit_codes) => self.end(now, run, Outcome::Succeeded, Some(exit), None),
            None => {
                let failure = Failure { outcome: Outcome::Failed, exit: Some(exit), reason: reason.map(Into::into) };
                self.fail(now, run, process, failure);
            }
            Some(StopCause::Timeout) => {
                let limit = rules.policy.timeout.map(format_duration).unwrap_or_default();
                let reason = Some(format!("ran longer than {limit}").into());
                self.fail(now, run, process, Failure { outcome: Outcome::TimedOut, exit: Some(exit), reason });
            }
            Some(cause) => self.end(now, run, Outcome::Cancelled, Some(exit), Some(cause.reason())),
        }
    }

    pub(super) fn exit_unknown(&mut self, now: Now, run: RunId) {
        if let Some(process) = self.queues.process(run) {
            let (outcome, reason) = match process.stop {
                Some(StopCause::Timeout) => (Outcome::TimedOut, "ran past its timeout".into()),
                Some(cause) => (Outcome::Cancelled, cause.reason()),
                None => (Outcome::Lost, "its exit status is unknown: the daemon that started it died before it ended".into()),
            };
            self.end(now, run, outcome, None, Some(reason));
        }
    }

    /// The process of a restored run is gone: the run is retried if `retry` allows, else lost.
    pub(super) fn lost(&mut self, now: Now, run: RunId) {
        if let Some(process) = self.queues.process(run) {
            let reason = "the daemon died while it ran, and its process is gone: its outcome can't be known";
            self.fail(now, run, process, Failure { outcome: Outcome::Lost, exit: None, reason: Some(reason.into()) });
        }
    }

    /// Ends a run and propagates its end down the graph.
    pub(super) fn end(&mut self, now: Now, run: RunId, outcome: Outcome, exit: Option<Exit>, reason: Option<Arc<str>>) {
        if let Some(job) = self.close(now, run, outcome, exit, reason)
            // Skipped by its own job's `concurrency`: downstream jobs must not see that as a failure.
            && outcome != Outcome::Skipped
        {
            self.to_propagate.push_back((job, outcome));
        }
    }

    /// Ends a run without propagation; returns its job.
    pub(super) fn close(
        &mut self,
        now: Now,
        run: RunId,
        outcome: Outcome,
        exit: Option<Exit>,
        reason: Option<Arc<str>>,
    ) -> Option<JobId> {
        let end = End { outcome, at: now.wall, exit, reason: reason.clone() };
        let record = self.queues.end(run, end)?;
        let (job, attempt) = (record.job, record.attempt);
        self.notify(Notice::Ended { run, job, outcome, attempt, exit, reason });
        self.to_advance.push_back(job);
        Some(job)
    }

    /// Stored runs were read.
    pub(super) fn loaded(&mut self, job: JobId, runs: Vec<RunRecord>) {
        self.queues.load(job, runs);
        self.to_advance.push_back(job);
    }
}

fn succeeded(exit: Exit, codes: &[u8]) -> bool {
    match exit {
        Exit::Code(code) if codes.is_empty() => code == 0,
        Exit::Code(code) => codes.iter().any(|ok| i32::from(*ok) == code),
        Exit::Signal(_) => false,
    }
}
