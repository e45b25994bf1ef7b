//! Going on by other rules: what a reload of the configuration means to runs, timers and credits.
//!
//! A job is the same job if its name is. It keeps its runs, its pause and the credits of the dependencies that it still
//! has; its wall deadlines and its interval's grid only if their rules are the same, else they begin now, so that a new
//! schedule never makes up for instants at which it was not yet in force. A job that is gone ends what waits as skipped;
//! what runs of it is seen to its end by a [retired](JobRules::retired) job of the same name.

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
    /// The rules of a job that is no longer configured: what runs of it goes on as before, and nothing new begins.
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
    /// Ends what waits of these jobs, which the next rules no longer have.
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
        self.settle(now);
        out.append(&mut self.out);
    }

    /// The jobs that these rules no longer have and of which a process is alive. For [`Engine::reload`] they must stand
    /// at the end of the new rules, [retired](JobRules::retired).
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

    /// Goes on by these rules; what they no longer have was [retired](Engine::retire) before.
    ///
    /// Job ids mean the new list from here on, in all effects too.
    ///
    /// # Errors
    /// The cycles, if the dependencies have any, or nothing while the daemon stops; nothing has changed then.
    pub fn reload(&mut self, now: Now, rules: Rules, out: &mut Vec<Effect>) -> Result<(), Vec<Vec<JobId>>> {
        if self.mode != Mode::Open {
            return Err(Vec::new());
        }
        let next = Engine::new(rules, self.random.seed())?;
        let mut old = std::mem::replace(self, next);
        self.take_over(&mut old);
        let new_ids = ids_by_name(&self.rules);
        let new_id: Vec<Option<JobId>> = old.rules.jobs.iter().map(|rules| new_ids.get(&rules.name).copied()).collect();
        for (index, to) in new_id.iter().enumerate() {
            if let Some(to) = *to {
                self.take_over_job(&old, index, to, &new_id);
            }
        }
        self.queues.take_over(old.queues, &new_id);
        self.take_over_timers(now, old.timers, &new_id);
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
        self.settle(now);
        self.last = now;
        out.append(&mut self.out);
        Ok(())
    }

    /// What is of no job.
    fn take_over(&mut self, old: &mut Engine) {
        self.next_run = old.next_run;
        self.clock = old.clock;
        self.timeline = old.timeline.clone();
        self.last = old.last;
        self.out = std::mem::take(&mut old.out);
    }

    fn take_over_job(&mut self, old: &Engine, from: usize, to: JobId, new_id: &[Option<JobId>]) {
        let (was, rules) = (&old.rules.jobs[from], &self.rules.jobs[to.index()]);
        let memory = &old.jobs[from];
        let mut credits = Credits::new(rules.depends_on.len());
        let mut dropped = Vec::new();
        for (slot, upstream) in was.depends_on.iter().enumerate() {
            let (Some(outcome), Some(upstream)) = (memory.credits.get(slot), new_id[upstream.index()]) else { continue };
            match rules.slot_of(upstream) {
                Some(slot) => credits.note(slot, outcome),
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

    fn take_over_timers(&mut self, now: Now, old: Timers, new_id: &[Option<JobId>]) {
        for (at, timer) in old.drain() {
            match timer {
                Timer::Interval(job) => {
                    if let Some(job) = new_id[job.index()]
                        && self.jobs[job.index()].due.interval() == Some(at)
                    {
                        self.arm(at, Timer::Interval(job));
                    }
                }
                Timer::Kill(..) | Timer::Retry(_) | Timer::ClockCheck | Timer::ClockLimit | Timer::Shutdown => {
                    self.arm(at, timer)
                }
                // By the new rule, below.
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

    /// The timing of this job is new: it begins now.
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
