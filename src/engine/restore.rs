//! The start on the state of an earlier daemon.

use super::event::{Change, Effect};
use super::run::{Process, RunRecord, RunState, Waiting};
use super::timers::Timer;
use super::wall::WallState;
use super::{CaughtUp, ClockMode, Engine, NextDue, Timeline};
use crate::model::{Elapsed, JobId, Now, Outcome, Pid, RunId, WallTime};

/// The stored state, with the job ids of the present configuration.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The number that the next run gets; 0 for a fresh state.
    pub next_run: u64,
    /// The spans of wall time that daemons have covered; `None` for a fresh state.
    pub timeline: Option<Timeline>,
    /// One entry a job, in the order of the rules; may be shorter.
    pub jobs: Vec<RestoredJob>,
    /// Runs that were running.
    pub running: Vec<(RunRecord, RestoredProcess)>,
}

/// The stored state of one job.
#[derive(Clone, Debug, Default)]
pub struct RestoredJob {
    /// All wall deadlines up to here were handled.
    pub cursor: Option<WallTime>,
    /// Wall deadlines that catch-ups ran.
    pub caught_up: CaughtUp,
    /// Nanoseconds since the interval's last grid point, on the elapsed clock within one boot, else on the wall clock;
    /// negative if it lies ahead.
    pub anchor_age: Option<i128>,
    /// It was paused.
    pub paused: bool,
    /// The ends of dependencies that no run has consumed.
    pub credits: Vec<(JobId, Outcome)>,
    /// Its pending runs, oldest first, at most [`super::MAX_IN_MEMORY`] that wait for their turn.
    pub pending: Vec<RunRecord>,
    /// How many more pending runs the store has.
    pub stored: u64,
}

/// The process of a run that an earlier daemon started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredProcess {
    /// It is alive and adopted.
    Alive(Pid),
    /// It is gone, or was never known to have started.
    Gone,
}

impl Engine {
    /// Takes over the restored state, arms every deadline, fires `startup` triggers.
    pub fn start(&mut self, now: Now, restored: Restored, out: &mut Vec<Effect>) {
        self.last = now;
        self.next_run = restored.next_run.max(1);
        self.timeline = restored.timeline.unwrap_or_else(|| Timeline::starting(now.wall));
        self.record(Change::Timeline(self.timeline.clone()));
        let mut jobs = restored.jobs.into_iter();
        for job in self.job_ids() {
            let known = jobs.next().unwrap_or_default();
            self.restore_job(now, job, known);
        }
        for (record, process) in restored.running {
            self.restore_running(now, record, process);
        }
        match self.rules.wait_for_clock {
            Some(limit) => {
                self.clock = ClockMode::Waiting { limit: now.elapsed + limit };
                self.arm(now.elapsed, Timer::ClockCheck);
                self.arm(now.elapsed + limit, Timer::ClockLimit);
            }
            None => self.arm_wall(now),
        }
        self.run_startup(now);
        self.run_due(now);
        for job in self.job_ids() {
            self.consider(now, job);
        }
        self.drain_queues(now);
        out.append(&mut self.out);
    }

    fn restore_job(&mut self, now: Now, job: JobId, known: RestoredJob) {
        let rules = &self.rules.jobs[job.index()];
        let memory = &mut self.jobs[job.index()];
        memory.paused = known.paused;
        let mut dropped = Vec::new();
        for (upstream, outcome) in known.credits {
            match rules.slot_of(upstream) {
                Some(slot) => memory.credits.set(slot, outcome),
                None => dropped.push(upstream),
            }
        }
        if matches!(rules.timing, super::timing::Timing::Wall(_)) {
            memory.due = known.cursor.map_or(NextDue::Never, |cursor| NextDue::Wall(WallState::new(cursor, known.caught_up)));
        }
        let enabled = rules.enabled;
        for upstream in dropped {
            // Should the job depend on it again one day, this end is too old to count.
            self.record(Change::Credit { job, upstream, outcome: None });
        }
        // Stored runs are younger than every waiting one that was handed over.
        let handed = known.pending.iter().filter(|run| !run.forced).map(|run| RunId(run.id.0 + 1)).max();
        self.queues.restore_stored(job, known.stored, handed.unwrap_or(RunId(0)));
        for record in known.pending {
            let id = record.id;
            self.next_run = self.next_run.max(id.0 + 1);
            let not_before = match record.state {
                RunState::Pending(Waiting::Retry { not_before, .. }) => Some(not_before),
                RunState::Pending(_) | RunState::Running(_) | RunState::Ended(_) => None,
            };
            self.queues.restore(record);
            if let Some(not_before) = not_before {
                self.retry_at(now, id, not_before.since(now.wall));
            }
        }
        if enabled {
            self.arm_interval(now, job, known.anchor_age);
        }
    }

    fn restore_running(&mut self, now: Now, mut record: RunRecord, process: RestoredProcess) {
        let (id, job, attempt) = (record.id, record.job, record.attempt);
        self.next_run = self.next_run.max(id.0 + 1);
        let since = record.started_at.unwrap_or(now.wall);
        let pid = match process {
            RestoredProcess::Alive(pid) => Some(pid),
            RestoredProcess::Gone => None,
        };
        let age = u64::try_from(now.wall.since(since).as_nanos()).unwrap_or(u64::MAX);
        let begun = Elapsed::from_nanos(now.elapsed.as_nanos().saturating_sub(age));
        record.state = RunState::Running(Process { pid, since, begun, stop: None, adopted: true });
        self.queues.restore(record);
        match process {
            RestoredProcess::Alive(_) => {
                if let Some(timeout) = self.rules_of(job).policy.timeout {
                    let left = timeout.saturating_sub(now.wall.since(since));
                    self.arm(now.elapsed + left, Timer::Timeout(id, attempt));
                }
            }
            RestoredProcess::Gone => self.lost(now, id),
        }
    }
}
