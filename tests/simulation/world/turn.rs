//! One turn of the daemon, in the reactor's order: what happened goes into the engine, is stored, and then done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use firelink::engine::{Change, Effect, Event, RunRecord, Spawn, StopSignal};
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::model::{Exit, JobId, Pid, RunId, StateWord};
use firelink::reactor::gather::{self, Acts};
use firelink::store::{DATABASE, History, JOURNAL, StoredRun, WatchRecord};

use super::super::case::Death;
use super::{Halt, Pressed, Process, World, hash, watch_event};

impl World<'_> {
    /// One turn, as the reactor has it; true if it found nothing to do.
    pub(super) fn turn(&mut self) -> Result<bool, Halt> {
        self.tally.turns += 1;
        let Some(daemon) = &mut self.daemon else { return Ok(true) };
        if daemon.stopped {
            return Ok(true);
        }
        let inbox = std::mem::take(&mut daemon.inbox);
        let mut idle = inbox.is_empty();
        let mut effects = Vec::new();
        for event in inbox {
            self.handle(event, &mut effects)?;
        }
        let batches = self.take_batches(&mut effects)?;
        idle &= batches.is_empty();
        self.handle(Event::Tick, &mut effects)?;
        idle &= effects.is_empty();
        self.apply(effects, batches)?;
        let asked = self.daemon.as_mut().and_then(|daemon| daemon.next_config.take());
        if let Some(variant) = asked {
            self.reload(variant)?;
            return Ok(false);
        }
        Ok(idle && self.daemon.as_ref().is_none_or(|daemon| daemon.inbox.is_empty()))
    }

    /// The engine handles an event, and the ledger watches.
    pub(super) fn handle(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<(), Halt> {
        if !matches!(event, Event::Tick) {
            self.say(|| format!("-> {event:?}"));
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        self.ledger.before(daemon.engine.rules(), &event);
        let mut made = Vec::new();
        daemon.engine.handle(self.now, event.clone(), &mut made);
        self.watch(Some(&event), &made, effects.iter().filter(|effect| matches!(effect, Effect::Spawn(_))).count())?;
        effects.append(&mut made);
        Ok(())
    }

    pub(super) fn watch(&mut self, event: Option<&Event>, made: &[Effect], starting: usize) -> Result<(), Halt> {
        for effect in made {
            self.say(|| match effect {
                Effect::Record(Change::Run { record, .. }) => {
                    format!("   record run {} of job {}: {:?}", record.id, record.job.0, record.state)
                }
                other => format!("   {other:?}"),
            });
        }
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let alive = self.processes.len() + starting;
        self.ledger.watch(self.now, &daemon.engine, event, made, alive)?;
        Ok(())
    }

    fn take_batches(&mut self, effects: &mut Vec<Effect>) -> Result<Vec<(usize, WatchRecord)>, Halt> {
        let mut taken = Vec::new();
        let count = self.daemon.as_ref().map_or(0, |daemon| daemon.sources.len());
        for index in 0..count {
            self.look(index);
            let Some(daemon) = &mut self.daemon else { break };
            let Some(batch) = daemon.sources[index].under_way.clone() else { continue };
            if daemon.store.trouble().is_some() {
                let written = daemon.store.commit(Vec::new(), Vec::new()).is_ok();
                if written {
                    self.durable = self.ledger.clone();
                } else {
                    // What was found is found again.
                    continue;
                }
            }
            let Some(job) = daemon.config.jobs.iter().position(|job| *job.name == *daemon.sources[index].job) else { continue };
            let job = JobId(u32::try_from(job).unwrap_or(0));
            let events = batch.events.iter().map(|event| event.to_string().into()).collect();
            self.handle(Event::Fired { job, events }, effects)?;
            taken.push((index, WatchRecord { job, batch }));
        }
        Ok(taken)
    }

    /// A source looks at what it watches.
    fn look(&mut self, index: usize) {
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.engine.is_stopping() {
            return;
        }
        let source = &mut daemon.sources[index];
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

    pub(super) fn apply(&mut self, effects: Vec<Effect>, batches: Vec<(usize, WatchRecord)>) -> Result<(), Halt> {
        let Acts { changes, rest, presses } = gather::sort(effects);
        let (sources, records): (Vec<usize>, Vec<WatchRecord>) = batches.into_iter().unzip();
        let now = self.now.elapsed;
        if self.death == Some(Death::BeforeCommit) {
            return Err(Halt::Died);
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let presses = presses || !records.is_empty();
        let made: Vec<RunId> = changes.iter().filter_map(new_run).collect();
        if let Some(changes) = daemon.held.gather(now, daemon.config.commit_every, changes, presses)
            && !(changes.is_empty() && records.is_empty())
        {
            self.commit(changes, records)?;
        }
        self.look_up(&made)?;
        if self.death == Some(Death::AfterCommit) {
            return Err(Halt::Died);
        }
        for index in sources {
            let Some(daemon) = &mut self.daemon else { break };
            let source = &mut daemon.sources[index];
            if let Some(batch) = source.under_way.take() {
                source.baseline_done |= batch.baseline_done;
                source.seen.extend(batch.seen.iter().map(|seen| (seen.key.0, seen.version.0)));
            }
        }
        for effect in rest {
            if let Some(Death::AmidActs(acts)) = &mut self.death {
                match acts.checked_sub(1) {
                    Some(left) => *acts = left,
                    None => return Err(Halt::Died),
                }
            }
            self.act(effect)?;
        }
        Ok(())
    }

    /// A run that was made is in the state before anybody hears of it.
    fn look_up(&mut self, made: &[RunId]) -> Result<(), Halt> {
        for run in made {
            if self.daemon.as_ref().is_some_and(|daemon| daemon.store.trouble().is_none()) && self.stored(*run)?.is_none() {
                return Err(format!("run {run} was made, and the state does not know").into());
            }
        }
        Ok(())
    }

    /// As anybody sees it who reads the state.
    fn stored(&mut self, run: RunId) -> Result<Option<StoredRun>, String> {
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        // The daemon's own look would bring what is jotted down into the database.
        if daemon.store.journal_bytes() == 0 {
            return daemon.store.run(run).map_err(|error| error.to_string());
        }
        let history = History::open(self.dir.path()).map_err(|error| error.to_string())?;
        history.map_or(Ok(None), |history| history.run(run)).map_err(|error| error.to_string())
    }

    /// Some turns of a busy daemon are jotted down; which, is as the case has it.
    fn write(&mut self, changes: &[Change], records: Vec<WatchRecord>) -> bool {
        let jots = records.is_empty() && hash(&[self.case.seed, self.tally.turns, 1]).once_in(2);
        let Some(daemon) = &mut self.daemon else { return false };
        jots && daemon.store.append(changes) || daemon.store.commit(changes.to_vec(), records).is_ok()
    }

    /// What is jotted down is brought into the database at some of the rests, as time and load have it.
    pub(super) fn catch_up(&mut self) {
        if hash(&[self.case.seed, self.tally.turns, 2]).once_in(4)
            && let Some(daemon) = &mut self.daemon
        {
            // What the disk refuses waits in memory, and in the journal.
            let _ = daemon.store.catch_up();
        }
    }

    /// What may not wait any longer.
    pub(super) fn commit_held(&mut self) -> Result<(), Halt> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let held = daemon.held.take();
        self.commit(held, Vec::new())?;
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.store.catch_up();
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>, records: Vec<WatchRecord>) -> Result<(), Halt> {
        let last: BTreeMap<u64, RunRecord> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Run { record, .. } => Some((record.id.0, (**record).clone())),
                _ => None,
            })
            .collect();
        if !self.write(&changes, records) {
            return Ok(());
        }
        self.durable = self.ledger.clone();
        for (id, record) in last {
            let row = self.stored(RunId(id))?;
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
        if self.presses && hash(&[self.case.seed, self.tally.turns]).once_in(3) {
            self.press();
        }
        Ok(())
    }

    /// What is on the disk now is there to stay.
    fn press(&mut self) {
        let wal = format!("{DATABASE}-wal");
        let files = [DATABASE, wal.as_str(), JOURNAL]
            .into_iter()
            .filter_map(|name| Some((PathBuf::from(name), std::fs::read(self.dir.path().join(name)).ok()?)));
        self.pressed = Some(Pressed { files: files.collect(), ledger: self.durable.clone() });
    }

    fn act(&mut self, effect: Effect) -> Result<(), Halt> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match effect {
            Effect::Record(_) | Effect::Notify(_) | Effect::Triggered { .. } => {}
            Effect::Spawn(spawn) => self.spawn(&spawn)?,
            Effect::Signal { run, signal } => self.signal(run.0, signal),
            Effect::Load { job, from, limit } => {
                let runs = daemon.store.load_pending(job, from, limit).unwrap_or_default();
                daemon.inbox.push_back(Event::Loaded { job, runs });
            }
            Effect::CheckClock => {
                if self.synchronized {
                    daemon.inbox.push_back(Event::ClockSynced);
                }
            }
            Effect::Stopped => {
                daemon.stopped = true;
                if !daemon.leaves && !self.processes.is_empty() {
                    return Err(format!("the daemon ends while processes live: {:?}", self.processes).into());
                }
                self.commit_held()?;
            }
        }
        Ok(())
    }

    fn spawn(&mut self, spawn: &Spawn) -> Result<(), Halt> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.store.trouble().is_none() {
            let row = self.stored(spawn.run)?;
            let safe = row.is_some_and(|row| row.state == StateWord::Running && row.attempt == spawn.attempt);
            if !safe {
                return Err(format!("attempt {} of run {} starts, and the state does not know", spawn.attempt, spawn.run).into());
            }
        }
        self.tally.starts += 1;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let job = daemon.engine.rules().jobs[spawn.job.index()].name.to_string();
        let mut random = hash(&[self.case.seed, spawn.run.0, u64::from(spawn.attempt.0), job.len() as u64]);
        if random.once_in(25) {
            daemon.inbox.push_back(Event::NotStarted { run: spawn.run, reason: "there is no such program".into() });
            return Ok(());
        }
        self.next_pid += 1;
        let pid = Pid { pid: self.next_pid, start_ticks: u64::try_from(self.next_pid).unwrap_or(0) };
        let takes = match random.below(8) {
            0 => None,
            1 => Some(Duration::ZERO),
            2 => Some(Duration::from_millis(200)),
            3 | 4 => Some(Duration::from_secs(random.next() % 30)),
            5 | 6 => Some(Duration::from_secs(random.next() % 900)),
            _ => Some(Duration::from_secs(random.next() % 20_000)),
        };
        let exit = match random.below(8) {
            0 => Exit::Code(1),
            1 => Exit::Code(2),
            2 => Exit::Signal(11),
            _ => Exit::Code(0),
        };
        // What hangs for ever is only ended by a timeout or a person; after a day somebody comes.
        let ends = self.now.elapsed + takes.unwrap_or(Duration::from_secs(86_400));
        let ignores_term = random.once_in(4);
        let process =
            Process { run: spawn.run.0, attempt: spawn.attempt.0, job, ends: Some(ends), exit, ignores_term, pid, killed: false };
        self.processes.push(process);
        daemon.inbox.push_back(Event::Started { run: spawn.run, pid });
        if takes == Some(Duration::ZERO) {
            self.end_processes();
        }
        Ok(())
    }

    fn signal(&mut self, run: u64, signal: StopSignal) {
        let now = self.now.elapsed;
        let Some(process) = self.processes.iter_mut().find(|process| process.run == run) else { return };
        match signal {
            StopSignal::Term if process.ignores_term => return,
            StopSignal::Term => process.exit = if process.run % 2 == 0 { Exit::Signal(15) } else { Exit::Code(0) },
            StopSignal::Kill => process.exit = Exit::Signal(9),
        }
        process.killed = true;
        process.ends = Some(now);
        self.end_processes();
    }
}

fn new_run(change: &Change) -> Option<RunId> {
    match change {
        Change::Run { new: true, record } => Some(record.id),
        _ => None,
    }
}
