//! Effects become acts, in one place: records, then sources, then processes, then words.

use super::children::About;
use super::clocks::Clocks;
use super::gather::{self, Acts};
use super::hooks::{How, Which};
use super::{Reactor, WaitFor, diary};
use crate::control::commands::events::{Happened, What};
use crate::control::commands::{logs, stop, trigger};
use crate::control::protocol::Reply;
use crate::engine::{Change, Effect, Event, Notice, RunState, Spawn};
use crate::model::{JobId, Outcome, RunId, RunView, StateWord};
use crate::store::{StoredRun, WatchRecord};
use crate::triggers::Readiness;

impl<C: Clocks> Reactor<C> {
    /// Batches become runs; while the disk refuses, they are handed back, because an object that is not recorded as
    /// seen would be found again.
    pub(super) fn take_batches(&mut self, effects: &mut Vec<Effect>) -> Vec<(u32, WatchRecord)> {
        let mut taken = Vec::new();
        for (watch, job, batch) in self.watches.take_batches() {
            // Nothing else may come that would have the store try again.
            if self.store.trouble().is_some() && !self.commit(Vec::new(), Vec::new()) {
                self.call_source(watch, Readiness::NotRecorded);
                continue;
            }
            if batch.baseline_done {
                let name = &self.config.jobs[job.index()].name;
                log::info!("{name}: the first scan is done; what is new or changed from now on makes runs");
            }
            let events = batch.events.iter().map(|event| event.to_string().into()).collect();
            self.engine.handle(self.now, Event::Fired { job, events }, effects);
            taken.push((watch, WatchRecord { job, batch }));
        }
        taken
    }

    pub(super) fn apply(&mut self, effects: Vec<Effect>, batches: Vec<(u32, WatchRecord)>) {
        if !effects.is_empty() {
            self.metrics.changed(self.now.elapsed);
        }
        let Acts { changes, rest, presses } = gather::sort(effects);
        let ended: Vec<StoredRun> = changes.iter().filter_map(ended_run).collect();
        let (watches, records): (Vec<u32>, Vec<WatchRecord>) = batches.into_iter().unzip();
        let presses = presses || !records.is_empty();
        if let Some(changes) = self.held.gather(self.now.elapsed, self.config.commit_every, changes, presses)
            && !(changes.is_empty() && records.is_empty())
        {
            self.write(changes, records);
        }
        for watch in watches {
            self.call_source(watch, Readiness::Recorded);
        }
        for effect in rest {
            self.act(effect, &ended);
        }
    }

    /// What was held back or jotted down is committed.
    pub(super) fn commit_held(&mut self) {
        if !self.held.is_empty() || self.store.journal_bytes() > 0 || self.store.trouble().is_some() {
            let held = self.held.take();
            self.commit(held, Vec::new());
        }
    }

    /// Makes a turn's changes safe; true if the disk takes them, and with them what it refused before.
    fn write(&mut self, changes: Vec<Change>, records: Vec<WatchRecord>) -> bool {
        if let Some(sync) = &self.config.sync {
            self.sync_at.get_or_insert(self.now.elapsed + sync.every);
        }
        let now = self.now.elapsed;
        if records.is_empty() && !self.pace.allows(now) && self.store.append(&changes) {
            self.pace.jotted(now);
            return true;
        }
        self.commit(changes, records)
    }

    /// Has the database take them. Each change of the disk's mind is told once.
    pub(super) fn commit(&mut self, changes: Vec<Change>, records: Vec<WatchRecord>) -> bool {
        self.pace.caught_up();
        let written = self.store.commit(changes, records);
        let works = written.is_ok();
        if !works {
            self.metrics.store_failed(self.now.elapsed);
        }
        match written {
            Ok(()) if self.trouble_told => {
                self.trouble_told = false;
                log::warn!("the state can be written again; nothing of it is missing");
                self.service.notify.status("the state can be written again");
            }
            Ok(()) => {}
            Err(error) if !self.trouble_told => {
                self.trouble_told = true;
                self.service.notify.status(&format!("jobs go on, but {error}"));
                log::error!("{error}; jobs go on in memory, and what was not written is tried again with each change");
            }
            Err(_) => {}
        }
        works
    }

    /// Copies a state that is kept in memory to where the configuration says.
    pub(super) fn copy_state(&mut self) {
        self.sync_at = None;
        let Some(sync) = &self.config.sync else { return };
        match self.store.copy_to(&sync.to) {
            Ok(()) => self.sync_trouble = None,
            Err(error) => {
                log::error!("{error}; it is tried again in {}", crate::model::format_duration(sync.every));
                self.sync_at = Some(self.now.elapsed + sync.every);
                self.sync_trouble = Some(error.to_string());
            }
        }
    }

    fn act(&mut self, effect: Effect, ended: &[StoredRun]) {
        match effect {
            Effect::Record(_) => {}
            Effect::Spawn(spawn) => self.spawn(*spawn),
            Effect::Signal { run, signal } => {
                // One that is ended as soon as it is started.
                if self.children.is_coming_up(run) {
                    self.settle(true);
                }
                self.children.signal(run, signal);
            }
            Effect::Load { job, from, limit } => match self.store.load_pending(job, from, limit) {
                Ok(runs) => self.inbox.push_back(Event::Loaded { job, runs }),
                Err(error) => {
                    log::error!("waiting runs can't be read: {error}; they are read at the next start");
                    self.inbox.push_back(Event::Loaded { job, runs: Vec::new() });
                }
            },
            Effect::CheckClock => {
                if self.clocks.is_synchronized() {
                    self.inbox.push_back(Event::ClockSynced);
                }
            }
            Effect::Triggered { ticket, run } => self.answer_trigger(ticket, run, ended),
            Effect::Notify(story) => self.tell(&story, ended),
            Effect::Stopped => {
                self.settle(true);
                self.commit_held();
                if self.engine.alive() > 0 {
                    self.children.leave();
                }
                self.hooks.hurry(self.now.elapsed);
                self.stopped = true;
            }
        }
    }

    /// The process comes up while the loop goes on, until it has nothing else to do.
    fn spawn(&mut self, spawn: Spawn) {
        if self.children.is_full() {
            self.settle(true);
        }
        match self.children.begin(&self.config.jobs[spawn.job.index()], &spawn) {
            Ok(()) => self.spawning.push(spawn),
            Err(reason) => self.inbox.push_back(Event::NotStarted { run: spawn.run, reason }),
        }
    }

    /// Tells the engine of the processes that have come up; waits for the others if that is asked for.
    pub(super) fn settle(&mut self, wait: bool) {
        for (run, started) in self.children.settle(&mut self.io, wait) {
            let spawn = self.spawning.iter().position(|spawn| spawn.run == run).map(|at| self.spawning.swap_remove(at));
            let event = match started {
                Ok(pid) => {
                    if let Some(spawn) = spawn {
                        self.count_start(&spawn);
                    }
                    Event::Started { run, pid }
                }
                Err(reason) => Event::NotStarted { run, reason },
            };
            self.inbox.push_back(event);
        }
    }

    fn tell(&mut self, story: &Notice, ended: &[StoredRun]) {
        diary::log_story(&self.config, story);
        self.tell_callers(story, ended);
        if self.is_followed() {
            self.announce(&diary::event_of(&self.config, self.now.wall, story));
        }
        match story {
            Notice::Ended { run, job, outcome, exit, reason, .. } => {
                let success = *outcome == Outcome::Succeeded;
                let row = ended.iter().find(|row| row.id == *run);
                self.count_story(story, row);
                let follows = Which::after(*outcome).zip(row).is_some_and(|(hook, row)| {
                    let reason = reason.as_deref().unwrap_or_default();
                    self.follow_up(*job, row, &How { hook, state: outcome.word(), exit: *exit, reason })
                });
                if !follows {
                    self.children.finish(*run, success);
                }
                self.pruning.note(*job, 1);
                self.answer_waiters(*run, ended);
                if let Some(watch) = self.watches.follower(*job) {
                    let event = row.and_then(|row| serde_json::from_str(row.event.as_deref()?).ok()).unwrap_or_default();
                    self.call_source(watch, Readiness::RunEnded { event, state: outcome.word() });
                }
            }
            Notice::WillRetry { run, job, exit, reason, .. } => {
                self.count_story(story, None);
                if let Some(record) = self.engine.run(*run) {
                    let row = StoredRun::from(record);
                    self.follow_up(*job, &row, &How { hook: Which::Retry, state: StateWord::Pending, exit: *exit, reason });
                }
            }
            Notice::Missed { job, count, .. } => {
                self.count_story(story, None);
                self.pruning.note(*job, *count);
            }
            _ => self.count_story(story, None),
        }
    }

    fn is_followed(&self) -> bool {
        self.peers.has_followers() || self.window.is_followed()
    }

    /// What the daemon itself does.
    pub(super) fn tell_of_itself(&mut self, what: What, reason: &str) {
        if self.is_followed() {
            let mut happened = Happened::new(self.config.zone.rfc3339(self.now.wall), what);
            happened.reason = Some(reason.into());
            self.announce(&happened);
        }
    }

    /// Tells everybody who follows.
    fn announce(&mut self, happened: &Happened) {
        let Ok(mut line) = serde_json::to_string(happened) else { return };
        if self.window.is_followed() {
            self.window.tell(happened, &line);
        }
        line.push('\n');
        self.peers.stream(&line, self.now.elapsed, &mut self.io);
    }

    /// Starts the hook that follows; false if nothing does.
    fn follow_up(&mut self, job: JobId, row: &StoredRun, how: &How<'_>) -> bool {
        let about = About {
            run: row.id,
            attempt: row.attempt,
            trigger: row.trigger,
            scheduled_at: row.scheduled_at,
            event: row.event.as_deref(),
        };
        let job = &self.config.jobs[job.index()];
        self.hooks.start(&mut self.io, &mut self.children, job, &about, how, self.now.elapsed)
    }

    /// How a run stands: as it ended in this turn, else in the engine's memory, else in the store.
    pub(super) fn view(&mut self, run: RunId, ended: &[StoredRun]) -> Option<RunView> {
        if let Some(record) = self.engine.run(run) {
            return Some(self.show(&StoredRun::from(record), record.job));
        }
        let stored = match ended.iter().find(|stored| stored.id == run) {
            // Its job's row is not filled in here; the numbers say whose it is.
            Some(stored) => return Some(self.show(stored, JobId(u32::try_from(stored.job_row).unwrap_or(0)))),
            None => self.store.run(run).ok().flatten()?,
        };
        let name = self.store.job_of(stored.job_row).map_or("?", |job| &*self.config.jobs[job.index()].name);
        Some(stored.view(name, self.config.zone, &self.state_dir))
    }

    pub(super) fn show(&self, run: &StoredRun, job: JobId) -> RunView {
        let job = &self.config.jobs[job.index()];
        run.view(&job.name, job.zone, &self.state_dir)
    }

    fn answer_trigger(&mut self, ticket: u64, run: RunId, ended: &[StoredRun]) {
        let Some(ticket) = self.tickets.remove(&ticket) else { return };
        let Some(view) = self.view(run, ended) else { return };
        if ticket.wait && !view.state.is_end() {
            self.waiters.push(super::Waiter { peer: ticket.peer, what: WaitFor::Run(run) });
        } else {
            self.peers.reply(ticket.peer, &Reply::done(&trigger::Triggered { run: view }), self.now.elapsed, &mut self.io);
        }
    }

    fn answer_waiters(&mut self, run: RunId, ended: &[StoredRun]) {
        let done = |waiter: &super::Waiter| matches!(waiter.what, WaitFor::Run(of) | WaitFor::Logs(of) if of == run);
        if !self.waiters.iter().any(done) {
            return;
        }
        let Some(view) = self.view(run, ended) else { return };
        for waiter in self.waiters.extract_if(.., |waiter| done(waiter)).collect::<Vec<_>>() {
            let reply = match waiter.what {
                WaitFor::Logs(_) => {
                    let path = crate::store::log_path(&self.state_dir, &view.job, run).display().to_string();
                    Reply::done(&logs::Logs { run: view.clone(), path })
                }
                WaitFor::Run(_) | WaitFor::Stop => Reply::done(&trigger::Triggered { run: view.clone() }),
            };
            self.peers.reply(waiter.peer, &reply, self.now.elapsed, &mut self.io);
        }
    }

    pub(super) fn answer_stop(&mut self) {
        log::info!("stopped");
        let done = self.exec_answer.take().unwrap_or_else(|| Reply::done(&stop::Stopped { pid: std::process::id() }));
        for waiter in std::mem::take(&mut self.waiters) {
            if matches!(waiter.what, WaitFor::Stop) {
                self.peers.reply(waiter.peer, &done, self.now.elapsed, &mut self.io);
            }
        }
    }
}

/// The row of a run that ended in this turn; its `job_row` holds the job's index, until the store fills in its own.
fn ended_run(change: &Change) -> Option<StoredRun> {
    match change {
        Change::Run { record, .. } if matches!(record.state, RunState::Ended(_)) => {
            let mut row = StoredRun::from(&**record);
            row.job_row = i64::from(record.job.0);
            Some(row)
        }
        _ => None,
    }
}
