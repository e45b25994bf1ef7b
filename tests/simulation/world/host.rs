//! The host of the daemon's turns: processes, sources and a disk that can be looked at, and a daemon that dies where the
//! case says so.

use std::path::PathBuf;
use std::time::Duration;

use firelink::config::{Config, Job};
use firelink::control::commands::reload::Reloaded;
use firelink::engine::rules::Rules;
use firelink::engine::{Change, Effect, Engine, Event, Notice, Restored, RunRecord, RunState, Spawn, StopSignal};
use firelink::model::{
    Batch, Elapsed, Exit, JobId, Now, ObjectKey, ObjectVersion, Pid, RunId, SeenObject, StateWord, TriggerWord,
};
use firelink::reactor::{Acts, Core, EndedRun, FollowUp, FoundBatch, Host, StateCopy, Written};
use firelink::store::{DATABASE, History, JOURNAL, StoredRun};

use super::super::case::Death;
use super::{Halt, Outside, Process, Source, Synced, hash, watch_event};

type Done = Result<(), Halt>;

/// How long the daemon waits for a process to execute its program.
const START_LIMIT: Duration = Duration::from_secs(30);

impl Host for Outside<'_> {
    type Halt = Halt;

    fn next_wake(&self) -> Option<Elapsed> {
        None
    }

    fn is_busy(&self) -> bool {
        let now = self.now.elapsed;
        let is_starting = |process: &Process| !process.is_reported && process.starts <= now;
        self.processes.iter().any(is_starting) || self.not_started.iter().any(|(at, _)| *at <= now)
    }

    fn is_clock_synchronized(&self) -> bool {
        self.synchronized
    }

    fn adopt(&mut self, _config: &Config, run: &RunRecord, same_boot: bool) -> Option<Pid> {
        let RunState::Running(running) = &run.state else { return None };
        let found = self.processes.iter().find(|process| process.run == run.id.0 && process.attempt == run.attempt.0)?;
        (same_boot && running.pid.is_none_or(|pid| pid == found.pid)).then_some(found.pid)
    }

    fn adopted_all(&mut self, _core: &mut Core) -> Done {
        Ok(())
    }

    fn begin_turn(&mut self, _core: &mut Core) -> Done {
        Ok(())
    }

    fn take_batches(&mut self, core: &mut Core) -> Result<Vec<FoundBatch>, Halt> {
        let mut found = Vec::new();
        for index in 0..self.sources.len() {
            if !core.engine.is_stopping() {
                self.look(index);
            }
            let source = &self.sources[index];
            let number = u32::try_from(index).expect("a few sources");
            found.extend(source.under_way.clone().map(|batch| FoundBatch { source: number, job: source.id, batch }));
        }
        Ok(found)
    }

    fn answer_source(&mut self, _core: &mut Core, source: u32, is_written: bool) -> Done {
        let source = &mut self.sources[source as usize];
        // What could not be written is found again.
        if is_written && let Some(batch) = source.under_way.take() {
            self.is_active = true;
            source.baseline_done |= batch.baseline_done;
            source.seen.extend(batch.seen.iter().map(|seen| (seen.key.0, seen.version.0)));
        }
        Ok(())
    }

    /// A daemon dies here that has decided and not yet acted.
    fn review(&mut self, _core: &Core, acts: Acts) -> Result<Acts, Halt> {
        self.is_active |= !acts.is_empty();
        if self.death == Some(Death::BeforeCommit) {
            return Err(Halt::Died);
        }
        for change in &acts.changes {
            if let Change::Run { new, record } = change {
                self.unwritten.insert(record.id.0, (**record).clone());
                self.made.extend(new.then_some(record.id));
            }
        }
        (self.is_driven, self.is_reviewed) = (false, true);
        Ok(acts)
    }

    fn written(&mut self, core: &mut Core, written: Written) -> Done {
        let is_held = core.ledger.held_until().is_some();
        self.held_since = if is_held { self.held_since.or(Some(core.now.elapsed)) } else { None };
        let is_everything = !self.is_driven && !is_held;
        match written {
            Written::Held => {}
            Written::Failed { .. } if is_everything => self.refused = Some(self.oracle.clone()),
            Written::Failed { .. } => {}
            Written::Journaled | Written::Committed { .. } if is_everything => self.is_safe(core)?,
            // The changes of before this turn, without those that are held back.
            Written::Journaled | Written::Committed { .. } => self.durable = self.refused.take().unwrap_or(self.durable.clone()),
        }
        // A run that was made is in the state before anything follows from it.
        for run in std::mem::take(&mut self.made) {
            if core.ledger.trouble().is_none() && self.stored(core, run)?.is_none() {
                return Err(format!("run {run} was made, and the state does not know").into());
            }
        }
        if std::mem::take(&mut self.is_reviewed) && self.death == Some(Death::AfterCommit) {
            return Err(Halt::Died);
        }
        Ok(())
    }

    fn notify(&mut self, _core: &mut Core, _story: &Notice, _ended: &[EndedRun]) -> Done {
        self.act()
    }

    fn follow_up(&mut self, _core: &mut Core, follow_up: FollowUp<'_>) -> Done {
        let state = follow_up.state();
        if !state.is_end() && state != StateWord::Pending {
            return Err(format!("run {} is {state}, and something follows", follow_up.row().id).into());
        }
        self.act()
    }

    fn spawn(&mut self, core: &mut Core, spawn: Box<Spawn>) -> Done {
        self.act()?;
        if core.ledger.trouble().is_none() {
            let row = self.stored(core, spawn.run)?;
            let safe = row.is_some_and(|row| row.state == StateWord::Running && row.attempt == spawn.attempt);
            if !safe {
                return Err(format!("attempt {} of run {} starts, and the state does not know", spawn.attempt, spawn.run).into());
            }
        }
        self.tally.starts += 1;
        self.start(core, &spawn);
        Ok(())
    }

    fn signal(&mut self, core: &mut Core, run: RunId, signal: StopSignal) -> Done {
        self.act()?;
        let now = self.now.elapsed;
        if let Some((at, _)) = self.not_started.iter_mut().find(|(_, hung)| *hung == run && signal == StopSignal::Kill) {
            // Nobody waits for its death.
            *at = (*at).min(now + Duration::from_secs(1));
        }
        let Some(process) = self.processes.iter_mut().find(|process| process.run == run.0) else { return Ok(()) };
        if !process.is_reported {
            // The signal waits for its process, which dies before it executes its program.
            process.starts = now;
            (process.is_reported, process.ignores_term) = (true, false);
            core.push(Event::Started { run, pid: process.pid });
        }
        match signal {
            StopSignal::Term if process.ignores_term => return Ok(()),
            StopSignal::Term => process.exit = if process.run % 2 == 0 { Exit::Signal(15) } else { Exit::Code(0) },
            StopSignal::Kill => process.exit = Exit::Signal(9),
        }
        process.ends = now;
        self.end_processes(core);
        Ok(())
    }

    fn triggered(&mut self, _core: &mut Core, _ticket: u64, _run: RunId, _ended: &[EndedRun]) -> Done {
        self.act()
    }

    fn collect_started(&mut self, core: &mut Core) -> Done {
        let (turns, now) = (self.tally.turns, self.now.elapsed);
        for process in self.processes.iter_mut().filter(|process| !process.is_reported && process.starts <= now) {
            if hash(&[self.case.seed, process.run, turns]).once_in(2) {
                process.is_reported = true;
                core.push(Event::Started { run: RunId(process.run), pid: process.pid });
            }
        }
        for (_, run) in self.not_started.extract_if(.., |(at, _)| *at <= now) {
            core.push(Event::NotStarted { run, reason: "there is no such program".into() });
        }
        self.end_processes(core);
        Ok(())
    }

    fn stopped(&mut self, _core: &mut Core) -> Done {
        match &self.processes[..] {
            processes if !self.leaves && !processes.is_empty() => {
                Err(format!("the daemon ends while processes live: {processes:?}").into())
            }
            _ => Ok(()),
        }
    }

    fn after_acts(&mut self, _core: &mut Core) -> Done {
        Ok(())
    }

    fn copy_state(&mut self, _core: &mut Core, _copy: StateCopy) -> Done {
        Err(String::from("no configuration of the simulation has `sync_to`").into())
    }

    fn end_turn(&mut self, _core: &mut Core) -> Done {
        Ok(())
    }

    fn hand_over(&mut self, _core: &mut Core, _old: &[Option<Job>], _next: &Config) -> Done {
        Ok(())
    }

    fn configured(&mut self, core: &mut Core) -> Done {
        self.variant = self.next_variant.take().unwrap_or(self.variant);
        self.commit_every = core.config.commit_every;
        Ok(())
    }

    /// Each job has the source that it should have.
    fn start_sources(&mut self, core: &mut Core) -> Done {
        let mut old = std::mem::take(&mut self.sources);
        for (id, job) in core.jobs().zip(&core.config.jobs) {
            let rules = &core.engine.rules().jobs[id.index()];
            let plugin = rules.trigger == TriggerWord::Plugin;
            if !rules.enabled || !(plugin || rules.trigger == TriggerWord::Watch) {
                continue;
            }
            if let Some(at) = old.iter().position(|source| *source.job == *job.name && *source.trigger == *job.trigger) {
                self.sources.push(Source { id, ..old.swap_remove(at) });
                continue;
            }
            let mut source = Source::new(id, job, plugin);
            let identity = format!("/watched/{}", job.name);
            if let (false, Ok(known)) = (plugin, core.ledger.store().load_seen(id, &identity)) {
                source.baseline_done = known.baseline_done;
                source.seen = known.objects.iter().map(|seen| (seen.key.0, seen.version.0)).collect();
            }
            self.sources.push(source);
        }
        Ok(())
    }

    fn reloaded(&mut self, core: &mut Core, result: Result<Reloaded, String>) -> Done {
        self.is_active = true;
        if result.is_ok() {
            self.steady_since = self.steady_since.map(|_| core.now.wall);
        }
        Ok(())
    }

    fn drive_start(&mut self, engine: &mut Engine, now: Now, restored: Restored, out: &mut Vec<Effect>) -> Done {
        engine.start(now, restored, out);
        self.watch(engine, None, out, 0)
    }

    fn drive(&mut self, engine: &mut Engine, now: Now, event: Event, out: &mut Vec<Effect>) -> Done {
        if !matches!(event, Event::Tick) {
            self.say(|| format!("-> {event:?}"));
            self.is_active = true;
        }
        self.oracle.before(engine.rules(), &event);
        let starting = out.iter().filter(|effect| matches!(effect, Effect::Spawn(_))).count();
        let mut made = Vec::new();
        engine.handle(now, event.clone(), &mut made);
        self.watch(engine, Some(&event), &made, starting)?;
        out.append(&mut made);
        Ok(())
    }

    fn drive_retire(&mut self, engine: &mut Engine, now: Now, jobs: &[JobId], out: &mut Vec<Effect>) -> Done {
        self.oracle.remember_limits(engine.rules());
        engine.retire(now, jobs, out);
        self.watch(engine, None, out, 0)
    }

    fn drive_reload(&mut self, engine: &mut Engine, now: Now, rules: Rules, out: &mut Vec<Effect>) -> Result<bool, Halt> {
        self.oracle.reload(&rules);
        let goes_on = engine.reload(now, rules, out).is_ok();
        self.watch(engine, None, out, 0)?;
        Ok(goes_on)
    }
}

impl Outside<'_> {
    /// The oracle watches what the engine wants.
    fn watch(&mut self, engine: &Engine, event: Option<&Event>, made: &[Effect], starting: usize) -> Done {
        self.is_driven = true;
        for effect in made {
            self.say(|| match effect {
                Effect::Record(Change::Run { record, .. }) => {
                    format!("   record run {} of job {}: {:?}", record.id, record.job.0, record.state)
                }
                other => format!("   {other:?}"),
            });
        }
        let alive = self.processes.len() + starting;
        self.oracle.watch(self.now, engine, event, made, alive)?;
        Ok(())
    }

    /// One of the turn's acts, amid which a daemon may die.
    fn act(&mut self) -> Done {
        if let Some(Death::AmidActs(acts)) = &mut self.death {
            match acts.checked_sub(1) {
                Some(left) => *acts = left,
                None => return Err(Halt::Died),
            }
        }
        Ok(())
    }

    /// A source looks at what it watches.
    fn look(&mut self, index: usize) {
        let source = &mut self.sources[index];
        if source.under_way.is_some() {
            return;
        }
        let mut batch = Batch { baseline_done: !source.baseline_done && !source.plugin, ..Batch::default() };
        if source.plugin {
            let lines = self.lines.remove(&source.job).unwrap_or_default();
            batch.events = lines.iter().map(|line| serde_json::from_str(line).expect("made as JSON")).collect();
        } else {
            let there = self.objects.range((source.job.clone(), 0)..).take_while(|((job, _), _)| *job == source.job);
            let new = there.filter(|((_, key), version)| source.seen.get(key) != Some(version)).take(3);
            for ((job, key), version) in new {
                batch.events.push(serde_json::from_str(&watch_event(job, *key, *version)).expect("made as JSON"));
                batch.seen.push(SeenObject { key: ObjectKey(*key), version: ObjectVersion(*version) });
            }
        }
        if !batch.events.is_empty() || batch.baseline_done {
            source.under_way = Some(batch);
        }
    }

    /// A run as any reader of the state sees it.
    fn stored(&mut self, core: &mut Core, run: RunId) -> Result<Option<StoredRun>, String> {
        // The daemon's own look would commit the journal's entries.
        if core.ledger.journaled() == 0 {
            return core.ledger.store().run(run).map_err(|error| error.to_string());
        }
        let history = History::open(self.dir.path()).map_err(|error| error.to_string())?;
        history.map_or(Ok(None), |history| history.run(run)).map_err(|error| error.to_string())
    }

    /// Everything that the engine has decided so far survives a death of the daemon.
    fn is_safe(&mut self, core: &mut Core) -> Done {
        self.durable = self.oracle.clone();
        self.refused = None;
        for (id, record) in std::mem::take(&mut self.unwritten) {
            let row = self.stored(core, RunId(id))?;
            let Some(row) = row else { return Err(format!("run {id} was written and is not there").into()) };
            let (known, found) = (record.word(), row.state);
            if known != found || record.attempt != row.attempt {
                return Err(format!(
                    "run {id} is {known} at attempt {}, and the state says {found} at {}",
                    record.attempt, row.attempt
                )
                .into());
            }
        }
        if self.cuts_power && hash(&[self.case.seed, self.tally.turns]).once_in(3) {
            self.sync();
        }
        Ok(())
    }

    /// What is on the disk now survives a power cut.
    fn sync(&mut self) {
        let wal = format!("{DATABASE}-wal");
        let files = [DATABASE, wal.as_str(), JOURNAL]
            .into_iter()
            .filter_map(|name| Some((PathBuf::from(name), std::fs::read(self.dir.path().join(name)).ok()?)));
        self.synced = Some(Synced { files: files.collect(), oracle: self.durable.clone() });
    }

    fn start(&mut self, core: &Core, spawn: &Spawn) {
        let job = core.engine.rules().jobs[spawn.job.index()].name.to_string();
        let mut random = hash(&[self.case.seed, spawn.run.0, u64::from(spawn.attempt.0), job.len() as u64]);
        if random.once_in(25) {
            // There is no such program, or its file system does not answer.
            let at = if random.once_in(2) { self.now.elapsed } else { self.now.elapsed + START_LIMIT };
            return self.not_started.push((at, spawn.run));
        }
        self.next_pid += 1;
        let pid = Pid { pid: self.next_pid, start_ticks: u64::try_from(self.next_pid).unwrap_or(0) };
        let takes = match random.below(8) {
            // What hangs for ever is only ended by a timeout or a person; after a day somebody comes.
            0 => Duration::from_secs(86_400),
            1 => Duration::ZERO,
            2 => Duration::from_millis(200),
            3 | 4 => Duration::from_secs(random.next() % 30),
            5 | 6 => Duration::from_secs(random.next() % 900),
            _ => Duration::from_secs(random.next() % 20_000),
        };
        let exit = match random.below(8) {
            0 => Exit::Code(1),
            1 => Exit::Code(2),
            2 => Exit::Signal(11),
            _ => Exit::Code(0),
        };
        let slow = if random.once_in(20) { Duration::from_millis(random.next() % 30_000) } else { Duration::ZERO };
        let starts = self.now.elapsed + slow;
        let ends = starts + takes;
        let ignores_term = random.once_in(4);
        let (run, attempt) = (spawn.run.0, spawn.attempt.0);
        self.processes.push(Process { run, attempt, job, ends, exit, ignores_term, pid, starts, is_reported: false });
    }

    /// Processes whose time has come.
    pub(super) fn end_processes(&mut self, core: &mut Core) {
        let now = self.now.elapsed;
        let is_over = |process: &mut Process| process.is_reported && process.ends <= now;
        for process in self.processes.extract_if(.., is_over).collect::<Vec<_>>() {
            self.say(|| format!("the process of run {} ends: {:?}", process.run, process.exit));
            let run = RunId(process.run);
            let is_adopted = |record: &RunRecord| matches!(&record.state, RunState::Running(process) if process.adopted);
            core.push(match core.engine.run(run).is_some_and(is_adopted) {
                true => Event::ExitUnknown { run },
                false => Event::Exited { run, exit: process.exit, reason: None },
            });
        }
    }
}
