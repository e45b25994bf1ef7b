//! Requests of people: trigger, repeat, cancel, pause, stop.

use std::collections::HashSet;

use super::event::{Change, Effect, Notice, Request, StopSignal};
use super::flow::Cause;
use super::run::{RunRecord, StopCause};
use super::timers::Timer;
use super::{Engine, Mode};
use crate::model::{JobId, Now, RunId, TriggerWord};

impl Engine {
    pub(super) fn request(&mut self, now: Now, request: Request) {
        match request {
            Request::Trigger { job, force, with_deps, ticket } => {
                let run =
                    if with_deps { self.trigger_with_deps(now, job) } else { self.trigger_manually(now, job, force, false) };
                self.out.push(Effect::Triggered { ticket, run });
            }
            Request::Repeat { job, trigger, event, scheduled_at, force, ticket } => {
                let run = self.trigger(now, job, Cause { trigger, event, scheduled_at, forced: force, waits_its_turn: true });
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
                for run in self.queues.running() {
                    self.set_stop_cause(run, StopCause::Shutdown);
                    self.out.push(Effect::Signal { run, signal: StopSignal::Kill });
                }
            }
        }
    }

    fn pause(&mut self, now: Now, job: Option<JobId>, paused: bool) {
        let mut jobs: Vec<JobId> = job.map_or_else(|| self.job_ids().collect(), |job| vec![job]);
        jobs.retain(|job| self.memory(*job).paused != paused);
        if !jobs.is_empty() {
            self.notify(Notice::Paused { job, paused });
        }
        jobs.into_iter().for_each(|job| self.set_paused(now, job, paused));
    }

    fn set_paused(&mut self, now: Now, job: JobId, paused: bool) {
        self.memory(job).paused = paused;
        self.record(Change::Paused { job, paused });
        if paused {
            self.unclaim_all(job);
        } else {
            self.consider(now, job);
        }
    }

    /// Runs that wait for a slot for their first attempt wait for their turn again: they must not start while the job is paused.
    fn unclaim_all(&mut self, job: JobId) {
        // The youngest first, as each goes to the head of the queue.
        for run in self.queues.claimed(job).to_vec().into_iter().rev() {
            if self.queues.get(run).is_some_and(RunRecord::holds_credits) {
                self.queues.unclaim(run);
            }
        }
    }

    fn trigger_manually(&mut self, now: Now, job: JobId, forced: bool, waits_its_turn: bool) -> RunId {
        let cause = Cause { trigger: TriggerWord::Manual, event: None, scheduled_at: now.wall, forced, waits_its_turn };
        self.trigger(now, job, cause)
    }

    /// Triggers a job after all of its upstream jobs, in order; credits from before are discarded.
    pub(super) fn trigger_with_deps(&mut self, now: Now, job: JobId) -> RunId {
        // Dependencies before their dependents: the order in which a depth-first walk leaves them.
        let mut order: Vec<JobId> = Vec::new();
        let mut depth: Vec<(JobId, usize)> = vec![(job, 0)];
        let mut done: HashSet<JobId> = HashSet::new();
        while let Some((next, slot)) = depth.pop() {
            match self.rules_of(next).depends_on.get(slot).copied() {
                Some(dep) => {
                    depth.push((next, slot + 1));
                    if !done.contains(&dep) {
                        depth.push((dep, 0));
                    }
                }
                None if done.insert(next) => order.push(next),
                None => {}
            }
        }
        for job in &order {
            self.consume_credits(*job);
        }
        let mut run = RunId(0);
        for job in order {
            run = self.trigger_manually(now, job, false, true);
        }
        run
    }
}
