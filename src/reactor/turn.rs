//! One turn of the loop, for any [`Host`]: events go into the engine, its changes into the state, and then its effects are
//! carried out, in one place and always in this order:
//!
//! 1. the changes of the whole turn, in one transaction (or one append to the journal, see `ledger`);
//! 2. the sources whose batches were in it are answered;
//! 3. observers are notified;
//! 4. what follows attempts and runs that ended: hooks, replies to those that wait;
//! 5. processes are started and signalled.
//!
//! A death between any two of them leaves a state from which the next daemon goes on; `tests/simulation` runs this code
//! under a host that dies there.

use std::time::Duration;

use super::core::Core;
use super::host::{EndedRun, FollowUp, FoundBatch, Host};
use super::ledger::{Acts, TurnChanges, Written};
use crate::engine::{Change, Deadlines, Effect, Event, Restored, RestoredProcess, RunState};
use crate::model::{Elapsed, Exit, RunId};
use crate::store::{StoredRun, WatchRecord};

/// A failed attempt that another one follows.
struct Retried {
    run: RunId,
    exit: Option<Exit>,
    reason: String,
}

impl Core {
    /// Goes on where an earlier daemon ended: its processes are watched, every deadline is armed, every source is started.
    ///
    /// # Errors
    /// The host's reason to halt.
    pub fn start<H: Host>(&mut self, host: &mut H, mut restored: Restored, same_boot: bool) -> Result<(), H::Halt> {
        for (record, process) in &mut restored.running {
            if let Some(pid) = host.adopt(&self.config, record, same_boot) {
                *process = RestoredProcess::Alive(pid);
            }
        }
        host.adopted_all(self)?;
        let mut effects = Vec::new();
        host.drive_start(&mut self.engine, self.now, restored, &mut effects)?;
        host.configured(self)?;
        self.apply(host, effects, Vec::new())?;
        self.ledger.look_for_gone_jobs();
        host.start_sources(self)
    }

    /// Everything that is to be handled at this instant.
    ///
    /// # Errors
    /// The host's reason to halt.
    pub fn turn<H: Host>(&mut self, host: &mut H) -> Result<(), H::Halt> {
        host.begin_turn(self)?;
        let mut effects: Vec<Effect> = Vec::new();
        self.drain_inbox(host, &mut effects)?;
        let batches = self.take_batches(host, &mut effects)?;
        host.drive(&mut self.engine, self.now, Event::Tick, &mut effects)?;
        self.apply(host, effects, batches)?;
        host.after_acts(self)?;
        self.prune(host);
        self.reload_if_asked(host)?;
        if let Some(copy) = self.ledger.copy_if_due(self.now.elapsed, &self.config) {
            host.copy_state(self, copy)?;
        }
        host.end_turn(self)?;
        self.idle(host)
    }

    /// When the next turn has to be at the latest, but for [pruning](super::ledger::Ledger::next_prune), which can wait.
    pub fn next_deadlines<H: Host>(&mut self, host: &H) -> Deadlines {
        let mut deadlines = self.engine.next_deadlines();
        let others = [self.ledger.next_wake(), host.next_wake()];
        deadlines.elapsed = others.into_iter().flatten().chain(deadlines.elapsed).min();
        deadlines
    }

    /// Writes everything that is held back, in the journal or waiting in memory.
    pub(super) fn commit_all<H: Host>(&mut self, host: &mut H) -> Result<(), H::Halt> {
        match self.ledger.commit_all() {
            Some(written) => host.written(self, written),
            None => Ok(()),
        }
    }

    pub(super) fn drain_inbox<H: Host>(&mut self, host: &mut H, effects: &mut Vec<Effect>) -> Result<(), H::Halt> {
        for event in self.take_events() {
            host.drive(&mut self.engine, self.now, event, effects)?;
        }
        Ok(())
    }

    /// Batches become runs. While writes fail they are refused, because an object that is not recorded as seen would be
    /// found again.
    fn take_batches<H: Host>(&mut self, host: &mut H, effects: &mut Vec<Effect>) -> Result<Vec<(u32, WatchRecord)>, H::Halt> {
        let mut taken = Vec::new();
        for FoundBatch { source, job, batch } in host.take_batches(self)? {
            // Nothing else may come that would have the store try again.
            if self.ledger.trouble().is_some() {
                let written = self.ledger.retry();
                host.written(self, written)?;
                if matches!(written, Written::Failed { .. }) {
                    host.answer_source(self, source, false)?;
                    continue;
                }
            }
            if batch.baseline_done {
                let name = &self.config.jobs[job.index()].name;
                log::info!("{name}: the first scan is done; new and changed objects make runs from now on");
            }
            let events = batch.events.iter().map(|event| event.to_string().into()).collect();
            host.drive(&mut self.engine, self.now, Event::Fired { job, events }, effects)?;
            taken.push((source, WatchRecord { job, batch }));
        }
        Ok(taken)
    }

    /// Carries out what the engine decided; see the module for the order.
    pub(super) fn apply<H: Host>(
        &mut self,
        host: &mut H,
        effects: Vec<Effect>,
        batches: Vec<(u32, WatchRecord)>,
    ) -> Result<(), H::Halt> {
        let Acts { changes, rest, needs_commit_before_acting, can_be_held } = host.review(self, Acts::sort(effects))?;
        let ended: Vec<EndedRun> = changes.iter().filter_map(ended_run).collect();
        let retried: Vec<Retried> = changes.iter().filter_map(retried_attempt).collect();
        let (sources, records): (Vec<u32>, Vec<WatchRecord>) = batches.into_iter().unzip();
        let changes = TurnChanges { changes, records, may_be_held: can_be_held && !needs_commit_before_acting };
        let written = self.ledger.write(self.now.elapsed, &self.config, changes);
        host.written(self, written)?;
        for source in sources {
            host.answer_source(self, source, true)?;
        }
        for effect in &rest {
            if let Effect::Notify(notice) = effect {
                host.notify(self, notice, &ended)?;
            }
        }
        for Retried { run, exit, reason } in &retried {
            if let Some((job, row)) = self.engine.run(*run).map(|record| (record.job, StoredRun::from(record))) {
                host.follow_up(self, FollowUp::Retry { job, row: &row, exit: *exit, reason })?;
            }
        }
        for run in &ended {
            host.follow_up(self, FollowUp::Ended(run))?;
        }
        for effect in rest {
            self.act(host, effect, &ended)?;
        }
        Ok(())
    }

    fn act<H: Host>(&mut self, host: &mut H, effect: Effect, ended: &[EndedRun]) -> Result<(), H::Halt> {
        match effect {
            Effect::Record(_) | Effect::Notify(_) => {}
            Effect::Spawn(spawn) => host.spawn(self, spawn)?,
            Effect::Signal { run, signal } => host.signal(self, run, signal)?,
            Effect::Load { job, from, limit } => {
                let runs = self.ledger.store().load_pending(job, from, limit).unwrap_or_else(|error| {
                    log::error!("waiting runs can't be read: {error}; they are read at the next start");
                    Vec::new()
                });
                self.push(Event::Loaded { job, runs });
            }
            Effect::CheckClock => {
                if host.is_clock_synchronized() {
                    self.push(Event::ClockSynced);
                }
            }
            Effect::Triggered { ticket, run } => host.triggered(self, ticket, run, ended)?,
            Effect::Stopped => {
                self.commit_all(host)?;
                self.stopped = true;
                host.stopped(self)?;
            }
        }
        Ok(())
    }

    /// Deletes a few old runs, if that is due.
    fn prune<H: Host>(&mut self, host: &H) {
        if self.ledger.next_prune().is_some_and(|at| at <= self.now.elapsed) {
            let quiet = self.quiet(host);
            self.ledger.prune(self.now, &self.config, quiet);
        }
    }

    /// Uses the time until the next deadline for the state, if there is nothing else to do.
    fn idle<H: Host>(&mut self, host: &mut H) -> Result<(), H::Halt> {
        if self.has_events() || host.is_busy() {
            return Ok(());
        }
        if let Some(written) = self.ledger.commit_journal_if_due(self.now.elapsed, self.engine.alive()) {
            host.written(self, written)?;
            // It may have waited for this.
            self.prune(host);
        }
        let quiet = self.quiet(host);
        self.ledger.idle_maintenance(quiet);
        Ok(())
    }

    /// For how long nothing is due.
    fn quiet<H: Host>(&mut self, host: &H) -> Duration {
        let deadlines = self.next_deadlines(host);
        let wall = deadlines.wall.map(|at| at.since(self.now.wall));
        let elapsed = deadlines.elapsed.map(|at: Elapsed| at.since(self.now.elapsed));
        wall.into_iter().chain(elapsed).min().unwrap_or(Duration::MAX)
    }
}

fn ended_run(change: &Change) -> Option<EndedRun> {
    match change {
        Change::Run { record, .. } if matches!(record.state, RunState::Ended(_)) => {
            Some(EndedRun { job: record.job, row: StoredRun::from(&**record) })
        }
        _ => None,
    }
}

fn retried_attempt(change: &Change) -> Option<Retried> {
    match change {
        Change::AttemptFailed { run, exit, reason, .. } => Some(Retried { run: *run, exit: *exit, reason: reason.clone() }),
        _ => None,
    }
}
