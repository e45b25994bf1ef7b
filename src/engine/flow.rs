//! A run's way: triggered, waiting, ready, running, ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Change, Effect, Notice, Payload, Request, Spawn, StopSignal};
use super::rules::{Backoff, Retry};
use super::run::{End, Process, RunRecord, RunState, StopCause, Waiting};
use super::timers::Timer;
use super::timing::Concurrency;
use super::{Engine, MAX_IN_MEMORY, Mode, Tracked};
use crate::dag::Verdict;
use crate::model::{Attempt, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime, format_duration};
use crate::planted::{self, Bug};

/// How a run comes to be.
#[derive(Debug)]
pub(super) struct Cause {
    pub trigger: TriggerWord,
    pub event: Option<Payload>,
    pub scheduled_at: WallTime,
    /// Neither dependencies, a pause nor its turn hold it.
    pub forced: bool,
    /// It waits even where `concurrency: forbid` would skip it: a made-up deadline, or a person's `--with-deps`.
    pub patient: bool,
}

impl Cause {
    /// Its dependencies are satisfied, or will never be.
    pub fn by_dependencies(now: Now) -> Cause {
        Cause { trigger: TriggerWord::AfterDeps, event: None, scheduled_at: now.wall, forced: false, patient: false }
    }
}

impl Engine {
    pub(super) fn fired(&mut self, now: Now, job: JobId, events: Vec<Payload>) {
        let trigger = self.rules_of(job).trigger;
        for event in events {
            let cause = Cause { trigger, event: Some(event), scheduled_at: now.wall, forced: false, patient: false };
            self.trigger(now, job, cause);
        }
    }

    /// Makes a run, and nothing yet decides what becomes of it.
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
        self.tell(Notice::Triggered { run: id, job, trigger: cause.trigger, scheduled_at: cause.scheduled_at });
        self.runs.insert(id, Tracked { record, new: true, dirty: false });
        self.touch(id);
        id
    }

    /// Makes a run and lets `concurrency` decide what becomes of it.
    pub(super) fn trigger(&mut self, now: Now, job: JobId, cause: Cause) -> RunId {
        let (forced, patient) = (cause.forced, cause.patient);
        let id = self.new_run(job, &cause);
        let rules = self.rules_of(job);
        let (concurrency, limit) = (rules.policy.concurrency, rules.limit());
        if forced {
            self.claim(job, id);
            return id;
        }
        if self.jobs[job.index()].active() >= limit {
            match concurrency {
                Concurrency::Forbid if !patient => {
                    let active = self.jobs[job.index()]
                        .queue()
                        .claimed
                        .first()
                        .or(self.jobs[job.index()].queue().waiting.front())
                        .copied();
                    let reason = active.map_or("a run is still active".into(), |run| format!("run {run} is still active"));
                    self.end(now, id, Outcome::Skipped, None, Some(reason.into()));
                    return id;
                }
                Concurrency::Replace => self.replace_active(now, job, id),
                Concurrency::Forbid | Concurrency::Queue | Concurrency::Allow => {}
            }
        }
        let memory = self.memory(job);
        if memory.queue().stored > 0 || memory.queue().waiting.len() >= MAX_IN_MEMORY {
            // The store has it once this turn is committed; memory need not.
            if memory.queue().stored == 0 {
                memory.queue_mut().stored_from = id;
            }
            memory.queue_mut().stored += 1;
            self.release_to_store(id);
        } else {
            memory.queue_mut().waiting.push_back(id);
        }
        self.moving.push_back(job);
        id
    }

    fn release_to_store(&mut self, id: RunId) {
        self.dirty.retain(|run| *run != id);
        if let Some(tracked) = self.runs.remove(&id) {
            self.record(Change::Run { new: tracked.new, record: Box::new(tracked.record) });
        }
    }

    fn replace_active(&mut self, now: Now, job: JobId, by: RunId) {
        for run in std::mem::take(&mut self.memory(job).queue_mut().waiting) {
            self.end(now, run, Outcome::Cancelled, None, Some(format!("replaced by run {by}").into()));
        }
        for run in self.memory(job).queue().claimed.clone() {
            self.cancel(now, run, StopCause::Replaced(by));
        }
    }

    /// Gives waiting runs of a job their turn, as far as turns, dependencies and pauses allow.
    pub(super) fn advance(&mut self, now: Now, job: JobId) {
        self.memory(job).rest();
        if self.jobs[job.index()].queue.is_none() {
            return;
        }
        loop {
            let rules = &self.rules.jobs[job.index()];
            let memory = &mut self.jobs[job.index()];
            if memory.queue().stored > 0 && !memory.queue().loading && memory.queue().waiting.len() <= MAX_IN_MEMORY / 2 {
                memory.queue_mut().loading = true;
                let (from, limit) = (memory.queue().stored_from, MAX_IN_MEMORY - memory.queue().waiting.len());
                self.out.push(Effect::Load { job, from, limit });
            }
            let memory = &mut self.jobs[job.index()];
            let Some(&run) = memory.queue().waiting.front() else { return };
            if memory.paused || memory.queue().claimed.len() >= rules.limit() {
                return;
            }
            if !rules.depends_on.is_empty() {
                // Starting takes the dependencies in, so only one run at a time may hold on to them.
                let held = memory.queue().claimed.iter().any(|run| holds_credits(&self.runs, *run));
                if held || memory.credits.verdict(rules.policy.condition) != Verdict::Satisfied {
                    return;
                }
            }
            memory.queue_mut().waiting.pop_front();
            self.claim(job, run);
            if self.rules_of(job).milestone {
                self.begin(now, run);
            }
        }
    }

    pub(super) fn claim(&mut self, job: JobId, run: RunId) {
        self.memory(job).queue_mut().claimed.push(run);
        let rank = self.rank[job.index()];
        if let Some(tracked) = self.runs.get_mut(&run) {
            tracked.record.state = RunState::Pending(Waiting::Slot);
            self.ready.insert((tracked.record.scheduled_at, rank, run));
        }
    }

    /// Starts what has a slot; true if anything was started.
    pub(super) fn start_ready(&mut self, now: Now) -> bool {
        if self.mode != Mode::Open {
            return false;
        }
        let mut any = false;
        let slots = self.rules.max_parallel + u32::from(planted::is(Bug::OneTooMany));
        while self.alive < slots {
            let Some((_, _, run)) = self.ready.first().copied() else { break };
            self.begin(now, run);
            any = true;
            if !self.ended.is_empty() {
                // A milestone is over as it begins, and what starts next takes its end in.
                break;
            }
        }
        any
    }

    /// A slot is free: the run begins, and takes in its dependencies.
    fn begin(&mut self, now: Now, run: RunId) {
        if self.mode != Mode::Open {
            return;
        }
        let Some(tracked) = self.runs.get_mut(&run) else { return };
        let record = &mut tracked.record;
        let job = record.job;
        self.ready.remove(&(record.scheduled_at, self.rank[job.index()], run));
        let first = record.attempt == Attempt::default();
        let forced = record.forced;
        record.started_at.get_or_insert(now.wall);
        let rules = &self.rules.jobs[job.index()];
        if first && !rules.depends_on.is_empty() {
            if !forced && self.jobs[job.index()].credits.verdict(rules.policy.condition) != Verdict::Satisfied {
                // A forced run of the same job took them in meanwhile: back to the head of the queue.
                record.started_at = None;
                record.state = RunState::Pending(Waiting::Turn);
                let memory = &mut self.jobs[job.index()];
                memory.queue_mut().claimed.retain(|claimed| *claimed != run);
                memory.queue_mut().waiting.push_front(run);
                return;
            }
            if !planted::is(Bug::CreditsKept) {
                self.take_in(job);
            }
        }
        self.touch(run);
        let rules = self.rules_of(job);
        if rules.milestone {
            self.end(now, run, Outcome::Succeeded, None, None);
            return;
        }
        let timeout = rules.policy.timeout;
        let Some(tracked) = self.runs.get_mut(&run) else { return };
        let record = &mut tracked.record;
        record.attempt = record.attempt.next();
        record.state = RunState::Running(Process { pid: None, since: now.wall, begun: now.elapsed, stop: None, adopted: false });
        let attempt = record.attempt;
        let spawn =
            Spawn { run, job, attempt, trigger: record.trigger, scheduled_at: record.scheduled_at, event: record.event.clone() };
        self.alive += 1;
        if let Some(timeout) = timeout {
            self.arm(now.elapsed + timeout, Timer::Timeout(run, attempt));
        }
        self.out.push(Effect::Spawn(Box::new(spawn)));
        self.tell(Notice::Started { run, job, attempt });
    }

    pub(super) fn started(&mut self, run: RunId, pid: Pid) {
        if let Some(Tracked { record: RunRecord { state: RunState::Running(process), .. }, .. }) = self.runs.get_mut(&run) {
            process.pid = Some(pid);
            self.touch(run);
        }
    }

    pub(super) fn not_started(&mut self, now: Now, run: RunId, reason: String) {
        if self.take_process(run).is_some() {
            self.fail(now, run, Outcome::Failed, None, Some(reason.into()));
        }
    }

    pub(super) fn exited(&mut self, now: Now, run: RunId, exit: Exit, reason: Option<String>) {
        let Some(process) = self.take_process(run) else { return };
        let Some(job) = self.runs.get(&run).map(|tracked| tracked.record.job) else { return };
        let rules = self.rules_of(job);
        match process.stop {
            None if succeeded(exit, &rules.policy.success_exit_codes) => self.end(now, run, Outcome::Succeeded, Some(exit), None),
            None => self.fail(now, run, Outcome::Failed, Some(exit), reason.map(Into::into)),
            Some(StopCause::Timeout) => {
                let limit = rules.policy.timeout.map(format_duration).unwrap_or_default();
                self.fail(now, run, Outcome::TimedOut, Some(exit), Some(format!("ran longer than {limit}").into()));
            }
            Some(cause) => self.end(now, run, Outcome::Cancelled, Some(exit), Some(stop_reason(cause))),
        }
    }

    pub(super) fn vanished(&mut self, now: Now, run: RunId) {
        if let Some(process) = self.take_process(run) {
            let (outcome, reason) = match process.stop {
                Some(StopCause::Timeout) => (Outcome::TimedOut, "ran past its timeout".into()),
                Some(cause) => (Outcome::Cancelled, stop_reason(cause)),
                None => (Outcome::Lost, "the daemon that started it died before it ended, and how could not be learnt".into()),
            };
            self.end(now, run, outcome, None, Some(reason));
        }
    }

    /// The process of a restored run is gone: it is tried again if `retry` allows, else lost.
    pub(super) fn lost(&mut self, now: Now, run: RunId) {
        if self.take_process(run).is_some() {
            let reason = "the daemon died while it ran, and its process is gone: its outcome can't be known";
            self.fail(now, run, Outcome::Lost, None, Some(reason.into()));
        }
    }

    /// The process of a running run is gone: frees its slot.
    fn take_process(&mut self, run: RunId) -> Option<Process> {
        match self.runs.get(&run)?.record.state {
            RunState::Running(process) => {
                self.alive -= 1;
                Some(process)
            }
            RunState::Pending(_) | RunState::Ended(_) => None,
        }
    }

    /// An attempt failed: another follows if `retry` says so, else the run has ended.
    fn fail(&mut self, now: Now, run: RunId, outcome: Outcome, exit: Option<Exit>, reason: Option<Arc<str>>) {
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
        let delay = retry.delay_after(attempt, || self.random());
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

    /// The run has ended, and its end travels down the graph.
    fn end(&mut self, now: Now, run: RunId, outcome: Outcome, exit: Option<Exit>, reason: Option<Arc<str>>) {
        if let Some(job) = self.close(now, run, outcome, exit, reason)
            // A run that its own job's concurrency skipped says nothing about the job.
            && outcome != Outcome::Skipped
        {
            self.ended.push_back((job, outcome));
        }
    }

    /// The run has ended; nobody downstream hears of it here.
    pub(super) fn close(
        &mut self,
        now: Now,
        run: RunId,
        outcome: Outcome,
        exit: Option<Exit>,
        reason: Option<Arc<str>>,
    ) -> Option<JobId> {
        let tracked = self.runs.get_mut(&run)?;
        let record = &mut tracked.record;
        let (job, attempt) = (record.job, record.attempt);
        self.ready.remove(&(record.scheduled_at, self.rank[job.index()], run));
        record.state = RunState::Ended(End { outcome, at: now.wall, exit, reason: reason.clone() });
        self.memory(job).queue_mut().claimed.retain(|claimed| *claimed != run);
        self.touch(run);
        self.tell(Notice::Ended { run, job, outcome, attempt, exit, reason });
        self.moving.push_back(job);
        Some(job)
    }

    pub(super) fn ask(&mut self, now: Now, request: Request) {
        match request {
            Request::Trigger { job, force, with_deps, ticket } => {
                let run = if with_deps { self.trigger_with_deps(now, job) } else { self.trigger_by_hand(now, job, force, false) };
                self.out.push(Effect::Triggered { ticket, run });
            }
            Request::Repeat { job, trigger, event, scheduled_at, force, ticket } => {
                let run = self.trigger(now, job, Cause { trigger, event, scheduled_at, forced: force, patient: true });
                self.out.extend(ticket.map(|ticket| Effect::Triggered { ticket, run }));
            }
            Request::Cancel(run) => self.cancel(now, run, StopCause::Cancel),
            Request::Pause(job) => self.pause(now, job, true),
            Request::Resume(job) => self.pause(now, job, false),
            Request::Stop { patience } => {
                if self.mode == Mode::Open {
                    let deadline = now.elapsed + patience;
                    self.mode = Mode::Stopping { deadline: Some(deadline) };
                    self.arm(deadline, Timer::Shutdown);
                }
            }
            Request::Leave => {
                self.mode = Mode::Stopped;
                self.out.push(Effect::Stopped);
            }
            Request::StopNow => {
                self.mode = Mode::Stopping { deadline: None };
                for run in self.running() {
                    self.mark_stopping(run, StopCause::Shutdown);
                    self.out.push(Effect::Signal { run, signal: StopSignal::Kill });
                }
            }
        }
    }

    fn pause(&mut self, now: Now, job: Option<JobId>, paused: bool) {
        let mut jobs: Vec<JobId> = job.map_or_else(|| self.job_ids().collect(), |job| vec![job]);
        jobs.retain(|job| self.memory(*job).paused != paused);
        if !jobs.is_empty() {
            self.tell(Notice::Paused { job, paused });
        }
        jobs.into_iter().for_each(|job| self.set_paused(now, job, paused));
    }

    fn set_paused(&mut self, now: Now, job: JobId, paused: bool) {
        self.memory(job).paused = paused;
        self.record(Change::Paused { job, paused });
        if paused {
            self.back_to_the_queue(job);
        } else {
            self.consider(now, job);
        }
    }

    /// What had its turn and waits for a slot for its first attempt waits for its turn again.
    fn back_to_the_queue(&mut self, job: JobId) {
        let rank = self.rank[job.index()];
        for run in self.jobs[job.index()].queue().claimed.clone().into_iter().rev() {
            let Some(record) = self.runs.get_mut(&run).map(|tracked| &mut tracked.record) else { continue };
            if record.state == RunState::Pending(Waiting::Slot) && !record.forced && record.attempt == Attempt::default() {
                record.state = RunState::Pending(Waiting::Turn);
                self.ready.remove(&(record.scheduled_at, rank, run));
                let memory = self.memory(job);
                memory.queue_mut().claimed.retain(|claimed| *claimed != run);
                memory.queue_mut().waiting.push_front(run);
            }
        }
    }

    pub(super) fn trigger_by_hand(&mut self, now: Now, job: JobId, forced: bool, patient: bool) -> RunId {
        let cause = Cause { trigger: TriggerWord::Manual, event: None, scheduled_at: now.wall, forced, patient };
        self.trigger(now, job, cause)
    }

    pub(super) fn running(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> =
            self.runs.iter().filter(|(_, t)| matches!(t.record.state, RunState::Running(_))).map(|(id, _)| *id).collect();
        runs.sort_unstable();
        runs
    }

    /// Notes why a running run is asked to end; false if it already was, or does not run.
    fn mark_stopping(&mut self, run: RunId, cause: StopCause) -> bool {
        match self.runs.get_mut(&run).map(|tracked| &mut tracked.record.state) {
            Some(RunState::Running(process)) => {
                let first = process.stop.is_none();
                process.stop.get_or_insert(cause);
                first
            }
            _ => false,
        }
    }

    /// Asks a running run to end: SIGTERM now, SIGKILL after its grace.
    pub(super) fn ask_to_end(&mut self, now: Now, run: RunId, cause: StopCause) {
        if !self.mark_stopping(run, cause) {
            return;
        }
        let Some(record) = self.runs.get(&run).map(|tracked| &tracked.record) else { return };
        let (job, attempt) = (record.job, record.attempt);
        let grace = self.rules_of(job).policy.kill_grace;
        self.out.push(Effect::Signal { run, signal: StopSignal::Term });
        self.arm(now.elapsed + grace, Timer::Kill(run, attempt));
    }

    fn cancel(&mut self, now: Now, run: RunId, cause: StopCause) {
        match self.runs.get(&run).map(|tracked| (&tracked.record.state, tracked.record.job)) {
            Some((RunState::Running(_), _)) => self.ask_to_end(now, run, cause),
            Some((RunState::Pending(_), job)) => {
                self.memory(job).queue_mut().waiting.retain(|waiting| *waiting != run || planted::is(Bug::CancelledStillWaits));
                self.end(now, run, Outcome::Cancelled, None, Some(stop_reason(cause)));
            }
            Some((RunState::Ended(_), _)) | None => {}
        }
    }

    /// Waiting runs came back from the store.
    pub(super) fn loaded(&mut self, job: JobId, runs: Vec<RunRecord>) {
        let memory = &mut self.jobs[job.index()];
        memory.queue_mut().loading = false;
        let count = u64::try_from(runs.len()).unwrap_or(u64::MAX);
        // An empty answer means that the store has none, whatever was counted.
        memory.queue_mut().stored = if runs.is_empty() { 0 } else { memory.queue().stored.saturating_sub(count) };
        for record in runs {
            let id = record.id;
            memory.queue_mut().stored_from = RunId(id.0 + 1);
            if let Entry::Vacant(place) = self.runs.entry(id) {
                place.insert(Tracked { record, new: false, dirty: false });
                memory.queue_mut().waiting.push_back(id);
            }
        }
        self.moving.push_back(job);
    }

    /// xorshift64*, for the jitter of retries: quality matters less than that a seed replays.
    fn random(&mut self) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// True if the run waits for a slot on the strength of its job's credits, which its start will take in.
pub(super) fn holds_credits(runs: &HashMap<RunId, Tracked>, run: RunId) -> bool {
    runs.get(&run).is_some_and(|tracked| {
        let record = &tracked.record;
        !record.forced && record.attempt == Attempt::default() && record.state == RunState::Pending(Waiting::Slot)
    })
}

fn succeeded(exit: Exit, codes: &[u8]) -> bool {
    match exit {
        Exit::Code(code) if codes.is_empty() => code == 0,
        Exit::Code(code) => codes.iter().any(|ok| i32::from(*ok) == code),
        Exit::Signal(_) => false,
    }
}

fn describe_exit(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("exit code {code}"),
        Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
        None => "not started".into(),
    }
}

fn stop_reason(cause: StopCause) -> Arc<str> {
    match cause {
        StopCause::Timeout => "ran past its timeout".into(),
        StopCause::Cancel => "cancelled by request".into(),
        StopCause::Replaced(by) => format!("replaced by run {by}").into(),
        StopCause::Shutdown => "the daemon was stopped".into(),
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

    /// The delay between this attempt and the next. `random` is drawn only when `jitter` asks for it.
    pub(super) fn delay_after(&self, attempt: Attempt, random: impl FnOnce() -> u64) -> Duration {
        let doublings = match self.backoff {
            Backoff::Fixed => 0,
            Backoff::Exponential => attempt.0.saturating_sub(1).min(31),
        };
        let delay = self.delay.saturating_mul(1 << doublings).min(self.max_delay.max(self.delay));
        if !self.jitter {
            return delay;
        }
        let half = delay / 2;
        let span = u128::from(u64::try_from((delay - half).as_nanos()).unwrap_or(u64::MAX));
        let drawn = (u128::from(random()) * (span + 1)) >> 64;
        half + Duration::from_nanos(u64::try_from(drawn).unwrap_or(0))
    }
}
