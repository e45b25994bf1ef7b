//! A reload of the configuration: what becomes of runs, timers and credits.
//!
//! Jobs are identified by name. A job keeps its runs, its pause and the credits of the dependencies that it still has; its
//! wall deadlines and its interval's grid only if their rules are equal, else they begin now, so that a new schedule never
//! catches up on instants at which it was not yet in force. The pending runs of a removed job are skipped; its running ones
//! end under a [retired](JobRules::retired) job of the same name.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{Change, Effect};
use super::rules::{JobRules, Policy, Rules};
use super::run::RunState;
use super::timers::{Timer, Timers};
use super::timing::Timing;
use super::wall::WallState;
use super::{CaughtUp, ClockMode, Engine, JobMemory, Mode, NextDue};
use crate::dag::Credits;
use crate::model::{JobId, Now, Outcome, RunId, TriggerWord};

impl JobRules {
    /// The rules of a job that is no longer configured: running attempts go on as before, and nothing new starts.
    #[must_use]
    pub fn retired(&self) -> JobRules {
        JobRules {
            enabled: false,
            trigger: TriggerWord::Manual,
            timing: Timing::None,
            depends_on: Box::new([]),
            policy: Arc::new(Policy { retry: None, ..(*self.policy).clone() }),
            ..self.clone()
        }
    }
}

impl Engine {
    /// Skips the pending runs of these jobs, which the next rules no longer have.
    pub fn retire(&mut self, now: Now, jobs: &[JobId], out: &mut Vec<Effect>) {
        let reason: Arc<str> = "its job was removed from the configuration".into();
        for job in jobs {
            let runs: Vec<RunId> = self.queues.waiting(*job).iter().chain(self.queues.claimed(*job)).copied().collect();
            self.skip_stored(now, *job, &reason);
            for run in runs {
                if matches!(self.queues.get(run).map(|record| &record.state), Some(RunState::Pending(_))) {
                    self.close(now, run, Outcome::Skipped, None, Some(reason.clone()));
                }
            }
        }
        self.drain_queues(now);
        out.append(&mut self.out);
    }

    /// The jobs that these rules no longer have and of which a process is alive. For [`Engine::reload`] they must be
    /// appended to the new rules, [retired](JobRules::retired).
    #[must_use]
    pub fn to_retire(&self, rules: &Rules) -> Vec<JobId> {
        let kept = ids_by_name(rules);
        let running = self.queues.records().filter(|record| matches!(record.state, RunState::Running(_)));
        let mut jobs: Vec<JobId> = running.map(|record| record.job).collect();
        jobs.retain(|job| !kept.contains_key(&self.rules_of(*job).name));
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }

    /// Replaces the rules; jobs that they no longer have must have been [retired](Engine::retire).
    ///
    /// From here on job ids are indexes into the new rules, in effects too.
    ///
    /// # Errors
    /// The cycles of the dependency graph, or none if the daemon is stopping; nothing has changed then.
    pub fn reload(&mut self, now: Now, rules: Rules, out: &mut Vec<Effect>) -> Result<(), Vec<Vec<JobId>>> {
        if self.mode != Mode::Open {
            return Err(Vec::new());
        }
        let next = Engine::new(rules, self.random.seed())?;
        let mut old = std::mem::replace(self, next);
        self.take_over(&mut old);
        let new_ids = ids_by_name(&self.rules);
        let new_ids: Vec<Option<JobId>> = old.rules.jobs.iter().map(|rules| new_ids.get(&rules.name).copied()).collect();
        for (index, to) in new_ids.iter().enumerate() {
            if let Some(to) = *to {
                self.take_over_job(&old, index, to, &new_ids);
            }
        }
        self.queues.take_over(old.queues, &new_ids);
        self.take_over_timers(now, old.timers, &new_ids);
        let known: HashMap<&Arc<str>, usize> = old.rules.jobs.iter().enumerate().map(|(i, rules)| (&rules.name, i)).collect();
        for job in self.job_ids() {
            let same = known.get(&self.rules_of(job).name).is_some_and(|index| {
                let (was, is) = (&old.rules.jobs[*index], self.rules_of(job));
                was.timing == is.timing && was.enabled == is.enabled
            });
            if !same {
                self.begin_timing(now, job);
            }
        }
        if self.clock == ClockMode::Trusted {
            self.rebuild_wall(now.wall);
        }
        for job in self.job_ids() {
            self.consider(now, job);
        }
        self.run_due(now);
        self.drain_queues(now);
        self.last = now;
        out.append(&mut self.out);
        Ok(())
    }

    /// The state that belongs to no job.
    fn take_over(&mut self, old: &mut Engine) {
        self.next_run = old.next_run;
        self.clock = old.clock;
        self.timeline = old.timeline.clone();
        self.last = old.last;
        self.out = std::mem::take(&mut old.out);
    }

    fn take_over_job(&mut self, old: &Engine, from: usize, to: JobId, new_ids: &[Option<JobId>]) {
        let (was, rules) = (&old.rules.jobs[from], &self.rules.jobs[to.index()]);
        let memory = &old.jobs[from];
        let mut credits = Credits::new(rules.depends_on.len());
        let mut dropped = Vec::new();
        for (slot, upstream) in was.depends_on.iter().enumerate() {
            let (Some(outcome), Some(upstream)) = (memory.credits.get(slot), new_ids[upstream.index()]) else { continue };
            match rules.slot_of(upstream) {
                Some(slot) => credits.set(slot, outcome),
                None => dropped.push(upstream),
            }
        }
        let same_timing = was.timing == rules.timing && was.enabled == rules.enabled;
        self.jobs[to.index()] =
            JobMemory { credits, due: if same_timing { memory.due.clone() } else { NextDue::Never }, paused: memory.paused };
        for upstream in dropped {
            self.record(Change::Credit { job: to, upstream, outcome: None });
        }
    }

    fn take_over_timers(&mut self, now: Now, old: Timers, new_ids: &[Option<JobId>]) {
        for (at, timer) in old.drain() {
            match timer {
                Timer::Interval(job) => {
                    if let Some(job) = new_ids[job.index()]
                        && self.jobs[job.index()].due.interval() == Some(at)
                    {
                        self.arm(at, Timer::Interval(job));
                    }
                }
                Timer::Kill(..) | Timer::Retry(_) | Timer::ClockCheck | Timer::ClockLimit | Timer::Shutdown => {
                    self.arm(at, timer)
                }
                // Computed from the new timeout, below.
                Timer::Timeout(..) => {}
            }
        }
        for run in self.queues.running() {
            let Some(record) = self.queues.get(run) else { continue };
            if let (RunState::Running(process), Some(timeout)) = (&record.state, self.rules_of(record.job).policy.timeout) {
                let (at, attempt) = ((process.begun + timeout).max(now.elapsed), record.attempt);
                self.arm(at, Timer::Timeout(run, attempt));
            }
        }
    }

    /// Starts the timing of a job that is new or whose timing has changed.
    fn begin_timing(&mut self, now: Now, job: JobId) {
        let rules = self.rules_of(job);
        let enabled = rules.enabled;
        match rules.timing {
            Timing::Wall(_) => {
                if self.clock == ClockMode::Trusted {
                    self.memory(job).due = NextDue::Wall(WallState::new(now.wall, CaughtUp::default()));
                    self.record(Change::Cursor { job, at: now.wall });
                }
            }
            Timing::Every(_) if enabled => self.arm_interval(now, job, None),
            Timing::Every(_) | Timing::None | Timing::Startup => {}
        }
    }
}

fn ids_by_name(rules: &Rules) -> HashMap<Arc<str>, JobId> {
    rules.jobs.iter().zip(0..).map(|(rules, index)| (Arc::clone(&rules.name), JobId(index))).collect()
}
