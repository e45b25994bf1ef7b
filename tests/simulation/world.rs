//! The world around one daemon after the other: clocks, processes, a disk, what is watched, and people. The engine, the
//! configuration, the triggers' arithmetic, the store with its SQLite and the order in which the reactor does things are
//! the real ones; what the kernel would do is a model.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use firelink::config::Config;
use firelink::engine::{Change, Effect, Engine, Event, Request, RestoredProcess, RunRecord, RunState, Spawn, StopSignal};
use firelink::model::{Elapsed, Exit, JobId, Now, Pid, RunId, StateWord, TriggerWord, WallTime};
use firelink::reactor::gather::{self, Acts, Held};
use firelink::store::{DATABASE, JobKey, Opened, Store, WatchRecord};
use firelink::triggers::{Batch, ObjectKey, ObjectVersion, SeenObject};

use super::case::{Case, Death, Step};
use super::ledger::{Broken, Ledger};
use super::random::Random;
use super::vfs;

/// Instants at which something happens in one step; a busy case is cut short there.
const HOPS: usize = 24;

/// Turns of the loop at one instant; more means that it spins.
const TURNS: usize = 60;

/// A process, as the kernel would know it.
#[derive(Clone, Debug)]
struct Process {
    run: u64,
    attempt: u32,
    job: String,
    ends: Option<Elapsed>,
    exit: Exit,
    ignores_term: bool,
    pid: Pid,
    killed: bool,
}

/// What waits for events outside, for one job.
#[derive(Debug, Default)]
struct Source {
    job: String,
    trigger: String,
    plugin: bool,
    seen: BTreeMap<u128, u64>,
    baseline_done: bool,
    under_way: Option<Batch>,
}

/// One daemon.
struct Daemon {
    engine: Engine,
    store: Store,
    config: Config,
    held: Held,
    inbox: VecDeque<Event>,
    sources: Vec<Source>,
    next_config: Option<usize>,
    stopped: bool,
    leaves: bool,
    /// Nobody set the clock and nobody slept since the last look at what passed by.
    steady_since: Option<WallTime>,
}

/// Why a turn did not come to its end.
enum Halt {
    Died,
    Broken(Broken),
}

impl From<Broken> for Halt {
    fn from(broken: Broken) -> Halt {
        Halt::Broken(broken)
    }
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub turns: u64,
    pub starts: u64,
    pub deaths: u64,
}

/// A disk's content as a power cut may leave it, and what was promised by then.
struct Pressed {
    files: Vec<(PathBuf, Vec<u8>)>,
    ledger: Ledger,
}

pub struct World<'c> {
    case: &'c Case,
    dir: tempfile::TempDir,
    now: Now,
    boot: u32,
    synchronized: bool,
    variant: usize,
    daemon: Option<Daemon>,
    processes: Vec<Process>,
    next_pid: i32,
    objects: BTreeMap<(String, u128), u64>,
    lines: BTreeMap<String, Vec<String>>,
    next_line: u64,
    ledger: Ledger,
    /// As of the last transaction.
    durable: Ledger,
    pressed: Option<Pressed>,
    presses: bool,
    death: Option<Death>,
    cancelled_waiting: bool,
    steady: bool,
    pub tally: Tally,
    /// What happened, if anybody wants to read it.
    pub diary: Option<Vec<String>>,
}

fn hash(parts: &[u64]) -> Random {
    let mut random = Random(0x5eed);
    for part in parts {
        random.0 ^= *part;
        random.next();
    }
    random
}

impl<'c> World<'c> {
    pub fn new(case: &'c Case, wants_diary: bool) -> World<'c> {
        vfs::install();
        vfs::heal();
        let now = Now { wall: case.start, elapsed: Elapsed::from_nanos(10_000_000_000) };
        World {
            case,
            dir: tempfile::tempdir().expect("a directory"),
            now,
            boot: 1,
            synchronized: false,
            variant: 0,
            daemon: None,
            processes: Vec::new(),
            next_pid: 100,
            objects: BTreeMap::new(),
            lines: BTreeMap::new(),
            next_line: 0,
            ledger: Ledger::default(),
            durable: Ledger::default(),
            pressed: None,
            presses: case.steps.iter().any(|step| matches!(step, Step::PowerCut(_))),
            death: None,
            cancelled_waiting: false,
            steady: true,
            tally: Tally::default(),
            diary: wants_diary.then(Vec::new),
        }
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        let at = self.now;
        if let Some(diary) = &mut self.diary {
            diary.push(format!("{} +{:.3}s  {}", at.wall, at.elapsed.as_nanos() as f64 / 1e9, text()));
        }
    }

    /// Tells the whole story.
    pub fn live(&mut self) -> Result<(), Broken> {
        self.begin()?;
        for step in self.case.steps.clone() {
            self.say(|| format!("## {step:?}"));
            self.step(&step)?;
        }
        self.end()
    }

    /// Everything is well again: whatever was promised must come true.
    fn end(&mut self) -> Result<(), Broken> {
        vfs::heal();
        self.synchronized = true;
        if self.daemon.is_none() {
            self.begin()?;
        }
        self.ask(Request::Resume(None));
        self.settle()?;
        self.pass(Duration::from_secs(6 * 3_600), 2 * HOPS)?;
        let Some(daemon) = &self.daemon else { return Ok(()) };
        for ((job, key), version) in &self.objects {
            let watched = daemon.sources.iter().any(|source| source.job == *job && !source.plugin);
            if watched && !self.ledger.has_event(&watch_event(job, *key, *version)) {
                return Err(format!("{job}: object {key} in version {version} made no run"));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Pass(by) => return self.pass(*by, HOPS),
            Step::Suspend(by) => {
                self.move_clocks(*by);
                self.unsteady();
            }
            Step::SetClock(by) => {
                let by_nanos = by * 1_000_000_000;
                self.now.wall = WallTime::from_nanos(self.now.wall.as_nanos() + by_nanos);
                self.unsteady();
                self.tell(Event::ClockSet);
            }
            Step::Trigger { job, force, with_deps } => {
                if let Some(job) = self.job(*job) {
                    // The socket refuses both at once, and a disabled job without force.
                    let enabled = self.daemon.as_ref().is_some_and(|daemon| daemon.engine.rules().jobs[job.index()].enabled);
                    if enabled || *force {
                        self.ask(Request::Trigger { job, force: *force, with_deps: *with_deps && !*force, ticket: 1 });
                    }
                }
            }
            Step::Cancel(pick) => {
                let active: Vec<u64> = self.daemon.iter().flat_map(|daemon| daemon.engine.active()).map(|run| run.id.0).collect();
                if let Some(run) = active.get(pick % active.len().max(1)) {
                    self.cancelled_waiting = true;
                    self.ask(Request::Cancel(RunId(*run)));
                }
            }
            Step::Repeat(pick) => self.repeat(*pick)?,
            Step::Pause(job) => {
                let job = job.and_then(|job| self.job(job));
                self.ask(Request::Pause(job));
            }
            Step::Resume(job) => {
                let job = job.and_then(|job| self.job(job));
                self.ask(Request::Resume(job));
            }
            Step::Events { job, count } => self.events(*job, *count),
            Step::Reload(variant) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.next_config = Some(*variant);
                }
            }
            Step::Crash(death, away) => {
                self.death = Some(*death);
                let before = self.tally.deaths;
                self.settle()?;
                if self.tally.deaths == before {
                    self.death = None;
                    self.die();
                }
                self.move_clocks(*away);
                return self.begin();
            }
            Step::PowerCut(away) => return self.cut_power(*away),
            Step::Stop { patience, then } => {
                self.ask(Request::Stop { patience: *patience });
                return self.come_to_an_end(*patience, *then);
            }
            Step::StopNow(then) => {
                self.ask(Request::StopNow);
                return self.come_to_an_end(Duration::ZERO, *then);
            }
            Step::Leave(then) => {
                self.ask(Request::Leave);
                if let Some(daemon) = &mut self.daemon {
                    daemon.leaves = true;
                }
                return self.come_to_an_end(Duration::ZERO, *then);
            }
            Step::DiskRefuses(writes) => vfs::fail(vfs::Fault::NoSpace, 0, *writes),
            Step::Synchronized => {
                self.synchronized = true;
                self.tell(Event::Tick);
            }
        }
        self.settle()
    }

    fn job(&self, pick: usize) -> Option<JobId> {
        let jobs = self.daemon.as_ref()?.config.jobs.len();
        u32::try_from(pick % jobs.max(1)).ok().map(JobId)
    }

    fn ask(&mut self, request: Request) {
        self.tell(Event::Ask(request));
    }

    fn tell(&mut self, event: Event) {
        if let Some(daemon) = &mut self.daemon {
            daemon.inbox.push_back(event);
        }
    }

    fn unsteady(&mut self) {
        self.steady = false;
        self.ledger.unsteady = true;
        self.durable.unsteady = true;
        if let Some(daemon) = &mut self.daemon {
            daemon.steady_since = None;
        }
    }

    fn move_clocks(&mut self, by: Duration) {
        self.now = Now { wall: self.now.wall + by, elapsed: self.now.elapsed + by };
    }

    fn repeat(&mut self, pick: usize) -> Result<(), Broken> {
        let over: Vec<u64> = self.ledger.runs.iter().filter(|(_, run)| run.state.is_end()).map(|(id, _)| *id).collect();
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let Some(id) = over.get(pick % over.len().max(1)) else { return Ok(()) };
        let Ok(Some(row)) = daemon.store.run(RunId(*id)) else { return Ok(()) };
        let Some(job) = daemon.store.job_of(row.job_row) else { return Ok(()) };
        if !daemon.engine.rules().jobs[job.index()].enabled || job.index() >= daemon.config.jobs.len() {
            return Ok(());
        }
        self.ledger.repeat_event(row.event.as_deref());
        let (trigger, event, scheduled_at) = (row.trigger, row.event, row.scheduled_at);
        self.ask(Request::Repeat { job, trigger, event, scheduled_at, force: false, ticket: None });
        Ok(())
    }

    /// Something happens where a job looks.
    fn events(&mut self, pick: usize, count: usize) {
        let Some(daemon) = &self.daemon else { return };
        let name = format!("j{pick}");
        let Some(source) = daemon.sources.iter().find(|source| source.job == name) else { return };
        let plugin = source.plugin;
        for _ in 0..count {
            self.next_line += 1;
            if plugin {
                self.lines.entry(name.clone()).or_default().push(format!("{{\"line\":{}}}", self.next_line));
            } else {
                let key = hash(&[self.case.seed, self.next_line]).next() % 5;
                self.objects.insert((name.clone(), u128::from(key)), self.next_line);
            }
        }
    }

    /// Time goes by, from one instant at which something happens to the next.
    fn pass(&mut self, by: Duration, hops: usize) -> Result<(), Broken> {
        let until = self.now.elapsed + by;
        for _ in 0..hops {
            let Some(wait) = self.next_wait().filter(|wait| self.now.elapsed + *wait <= until) else {
                self.move_clocks(until.since(self.now.elapsed));
                return self.settle();
            };
            self.move_clocks(wait);
            self.settle()?;
        }
        Ok(())
    }

    fn next_wait(&mut self) -> Option<Duration> {
        let now = self.now;
        let ends = self.processes.iter().filter_map(|process| process.ends).min().map(|at| at.since(now.elapsed));
        let daemon = self.daemon.as_mut()?;
        let due = daemon.engine.next_deadlines();
        let waits = [due.wall.map(|at| at.since(now.wall)), due.elapsed.map(|at| at.since(now.elapsed)), ends];
        waits.into_iter().flatten().chain(daemon.held.until().map(|at| at.since(now.elapsed))).min()
    }

    /// Turns of the loop until there is nothing to do at this instant.
    fn settle(&mut self) -> Result<(), Broken> {
        self.end_processes();
        for turn in 0..TURNS {
            if self.daemon.is_none() {
                return Ok(());
            }
            match self.turn() {
                Ok(true) => return self.rest(),
                Ok(false) => {}
                Err(Halt::Died) => {
                    self.tally.deaths += 1;
                    self.death = None;
                    self.die();
                    return Ok(());
                }
                Err(Halt::Broken(broken)) => return Err(broken),
            }
            if turn + 1 == TURNS {
                return Err("the loop spins: it has something to do at one instant for ever".into());
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Broken> {
        let alive = self.processes.len();
        let now = self.now;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if let Some(until) = daemon.held.until() {
            let said = "what is held back is overdue and not written";
            (until > now.elapsed).then_some(()).ok_or(said)?;
        }
        if daemon.stopped {
            return Ok(());
        }
        self.ledger.at_rest(now, &mut daemon.engine, alive, self.cancelled_waiting)?;
        let (counts, since) = (self.steady && !daemon.engine.is_waiting_for_clock(), daemon.steady_since);
        daemon.steady_since = counts.then_some(now.wall);
        if let (true, Some(since), false) = (counts, since, daemon.engine.is_stopping()) {
            self.ledger.nothing_passed_by(daemon.engine.rules(), since, now.wall)?;
        }
        Ok(())
    }

    /// Processes whose time has come.
    fn end_processes(&mut self) {
        let now = self.now.elapsed;
        let (over, alive): (Vec<Process>, Vec<Process>) =
            std::mem::take(&mut self.processes).into_iter().partition(|process| process.ends.is_some_and(|at| at <= now));
        self.processes = alive;
        for process in over {
            self.say(|| format!("the process of run {} ends: {:?}", process.run, process.exit));
            let Some(daemon) = &mut self.daemon else { continue };
            let run = RunId(process.run);
            let adopted = daemon
                .engine
                .run(run)
                .is_some_and(|record| matches!(&record.state, RunState::Running(process) if process.adopted));
            daemon.inbox.push_back(match adopted {
                true => Event::Vanished { run },
                false => Event::Exited { run, exit: process.exit, reason: None },
            });
        }
    }

    /// One turn, as the reactor has it; true if it found nothing to do.
    fn turn(&mut self) -> Result<bool, Halt> {
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
    fn handle(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<(), Halt> {
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

    fn watch(&mut self, event: Option<&Event>, made: &[Effect], starting: usize) -> Result<(), Halt> {
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

    fn apply(&mut self, effects: Vec<Effect>, batches: Vec<(usize, WatchRecord)>) -> Result<(), Halt> {
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
    fn look_up(&self, made: &[RunId]) -> Result<(), Halt> {
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.store.trouble().is_none()) else { return Ok(()) };
        for run in made {
            if daemon.store.run(*run).map_err(|error| error.to_string())?.is_none() {
                return Err(format!("run {run} was made, and the state does not know").into());
            }
        }
        Ok(())
    }

    fn commit(&mut self, changes: Vec<Change>, records: Vec<WatchRecord>) -> Result<(), Halt> {
        let last: BTreeMap<u64, RunRecord> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Run { record, .. } => Some((record.id.0, (**record).clone())),
                _ => None,
            })
            .collect();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.store.commit(changes, records).is_err() {
            return Ok(());
        }
        self.durable = self.ledger.clone();
        for (id, record) in last {
            let row = daemon.store.run(RunId(id)).map_err(|error| error.to_string())?;
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
        let files = [DATABASE, wal.as_str()]
            .into_iter()
            .filter_map(|name| Some((PathBuf::from(name), std::fs::read(self.dir.path().join(name)).ok()?)));
        self.pressed = Some(Pressed { files: files.collect(), ledger: self.durable.clone() });
    }

    fn act(&mut self, effect: Effect) -> Result<(), Halt> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match effect {
            Effect::Record(_) | Effect::Tell(_) | Effect::Triggered { .. } => {}
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
                let held = daemon.held.take();
                self.commit(held, Vec::new())?;
            }
        }
        Ok(())
    }

    fn spawn(&mut self, spawn: &Spawn) -> Result<(), Halt> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.store.trouble().is_none() {
            let row = daemon.store.run(spawn.run).map_err(|error| error.to_string())?;
            let safe = row.is_some_and(|row| row.state == StateWord::Running && row.attempt == spawn.attempt);
            if !safe {
                return Err(format!("attempt {} of run {} starts, and the state does not know", spawn.attempt, spawn.run).into());
            }
        }
        self.tally.starts += 1;
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

    /// A reload, in the reactor's order.
    fn reload(&mut self, variant: usize) -> Result<(), Halt> {
        let now = self.now;
        // Processes that have just started are told first.
        for _ in 0..TURNS {
            let Some(daemon) = &mut self.daemon else { return Ok(()) };
            if daemon.inbox.is_empty() {
                break;
            }
            let mut effects = Vec::new();
            for event in std::mem::take(&mut daemon.inbox) {
                self.handle(event, &mut effects)?;
            }
            self.apply(effects, Vec::new())?;
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.engine.is_stopping() {
            return Ok(());
        }
        let held = daemon.held.take();
        self.commit(held, Vec::new())?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.store.trouble().is_some() {
            return Ok(());
        }
        let mut next = self.case.config(variant);
        let gone: Vec<JobId> = (0..)
            .zip(&daemon.config.jobs)
            .filter(|(_, job)| !next.jobs.iter().any(|kept| kept.name == job.name))
            .map(|(index, _)| JobId(index))
            .collect();
        self.ledger.remember_limits(daemon.engine.rules());
        let mut effects = Vec::new();
        daemon.engine.retire(now, &gone, &mut effects);
        self.watch(None, &effects, 0)?;
        self.apply(effects, Vec::new())?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let mut rules = std::mem::take(&mut next.rules);
        let retired = daemon.engine.to_retire(&rules);
        rules.jobs.extend(retired.iter().map(|job| daemon.engine.rules().jobs[job.index()].retired()));
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        if daemon.store.set_jobs(&keys).is_err() {
            return Ok(());
        }
        self.ledger.reload(&rules);
        let mut effects = Vec::new();
        daemon.engine.reload(now, rules, &mut effects).map_err(|_| "the dependencies have a cycle".to_owned())?;
        let mut old: Vec<Option<firelink::config::Job>> = std::mem::take(&mut daemon.config.jobs).into_iter().map(Some).collect();
        next.jobs.extend(retired.iter().filter_map(|job| old[job.index()].take()));
        daemon.config = next;
        self.variant = variant;
        self.watch(None, &effects, 0)?;
        self.apply(effects, Vec::new())?;
        if let Some(daemon) = &mut self.daemon {
            daemon.steady_since = daemon.steady_since.map(|_| now.wall);
        }
        self.start_sources();
        Ok(())
    }

    /// The daemon is gone; what it had not written is, too.
    fn die(&mut self) {
        self.say(|| "the daemon dies".into());
        self.daemon = None;
        self.lines.clear();
        self.ledger = self.durable.clone();
        let known = &self.ledger;
        // A process that the state does not know can't be watched by anybody.
        self.processes.retain(|process| {
            let run = known.runs.get(&process.run);
            run.is_some_and(|run| run.state == StateWord::Running && run.attempt == process.attempt && run.job == process.job)
        });
    }

    fn cut_power(&mut self, away: Duration) -> Result<(), Broken> {
        if self.daemon.is_some() {
            self.die();
        }
        self.processes.clear();
        if let Some(pressed) = self.pressed.take() {
            for name in [DATABASE.to_owned(), format!("{DATABASE}-wal"), format!("{DATABASE}-shm")] {
                let _ = std::fs::remove_file(self.dir.path().join(name));
            }
            for (name, content) in &pressed.files {
                std::fs::write(self.dir.path().join(name), content).map_err(|error| error.to_string())?;
            }
            self.ledger = pressed.ledger.clone();
            self.durable = pressed.ledger;
            (self.ledger.unsteady, self.durable.unsteady) = (!self.steady, !self.steady);
        }
        self.boot += 1;
        self.synchronized = false;
        self.now.wall = self.now.wall + away;
        self.now.elapsed = Elapsed::from_nanos(12_000_000_000);
        self.begin()
    }

    /// The daemon was asked to stop: it must, in time.
    fn come_to_an_end(&mut self, patience: Duration, then: Duration) -> Result<(), Broken> {
        self.settle()?;
        if let Some(daemon) = &self.daemon {
            let grace = daemon.engine.rules().jobs.iter().map(|job| job.policy.kill_grace).max().unwrap_or_default();
            if !daemon.stopped {
                self.pass(patience + grace + Duration::from_secs(1), 4 * HOPS)?;
            }
        }
        let Some(daemon) = self.daemon.take() else { return self.begin() };
        if !daemon.stopped {
            return Err("the daemon was asked to stop and did not".into());
        }
        drop(daemon);
        self.lines.clear();
        self.ledger = self.durable.clone();
        self.move_clocks(then);
        self.end_processes();
        self.begin()
    }

    /// A daemon starts on what the one before it left.
    fn begin(&mut self) -> Result<(), Broken> {
        // A disk that refuses would keep it from starting at all, which is another story.
        vfs::heal();
        self.end_processes();
        self.say(|| "a daemon starts".into());
        let mut config = self.case.config(self.variant);
        let rules = std::mem::take(&mut config.rules);
        let Opened { mut store, warnings } =
            Store::open(self.dir.path(), config.durability, format!("boot-{}", self.boot)).map_err(|error| error.to_string())?;
        if !warnings.is_empty() {
            return Err(format!("the state can't be opened as it is: {warnings:?}"));
        }
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        let cursor = rules.wait_for_clock.is_none().then_some(self.now.wall);
        let (mut restored, same_boot) = store.restore(self.now, &keys, cursor).map_err(|error| error.to_string())?;
        self.forget_removed(&rules);
        self.compare(&rules, &restored, same_boot)?;
        for (record, process) in &mut restored.running {
            let RunState::Running(running) = &record.state else { continue };
            let found = self.processes.iter().find(|process| process.run == record.id.0 && process.attempt == record.attempt.0);
            let pid = if same_boot { running.pid.or(found.map(|process| process.pid)) } else { None };
            if let Some(pid) = pid.filter(|pid| found.is_some_and(|process| process.pid == *pid)) {
                *process = RestoredProcess::Alive(pid);
            }
        }
        self.ledger.begin_anew();
        let alive = self.processes.len();
        let mut engine = Engine::new(rules, self.case.seed).map_err(|_| "the dependencies have a cycle".to_owned())?;
        let mut effects = Vec::new();
        engine.start(self.now, restored, &mut effects);
        let daemon = Daemon {
            engine,
            store,
            config,
            held: Held::default(),
            inbox: VecDeque::new(),
            sources: Vec::new(),
            next_config: None,
            stopped: false,
            leaves: false,
            steady_since: None,
        };
        self.daemon = Some(daemon);
        debug_assert_eq!(alive, self.processes.len());
        let begun = self.watch(None, &effects, 0).and_then(|()| self.apply(effects, Vec::new()));
        match begun {
            Ok(()) => {}
            Err(Halt::Died) => self.die(),
            Err(Halt::Broken(broken)) => return Err(broken),
        }
        self.start_sources();
        self.settle()
    }

    /// Runs of jobs that the file no longer has end when the state is read.
    fn forget_removed(&mut self, rules: &firelink::engine::rules::Rules) {
        for (id, run) in &mut self.ledger.runs {
            if !run.state.is_end() && !rules.jobs.iter().any(|job| *job.name == *run.job) {
                run.state = if run.state == StateWord::Running { StateWord::Lost } else { StateWord::Cancelled };
                self.processes.retain(|process| process.run != *id);
            }
        }
        self.durable = self.ledger.clone();
    }

    /// What a start finds must be what was promised.
    fn compare(
        &self,
        rules: &firelink::engine::rules::Rules,
        restored: &firelink::engine::Restored,
        same_boot: bool,
    ) -> Result<(), Broken> {
        let mut running: Vec<u64> = restored.running.iter().map(|(record, _)| record.id.0).collect();
        running.sort_unstable();
        let promised = self.ledger.in_state(StateWord::Running);
        if running != promised {
            return Err(format!("running before: {promised:?}, after a restart: {running:?}"));
        }
        let mut pending: Vec<u64> = restored.jobs.iter().flat_map(|job| &job.pending).map(|record| record.id.0).collect();
        pending.sort_unstable();
        let promised = self.ledger.in_state(StateWord::Pending);
        if pending != promised {
            return Err(format!("pending before: {promised:?}, after a restart: {pending:?}"));
        }
        for (job, known) in rules.jobs.iter().zip(&restored.jobs) {
            if known.paused != self.ledger.paused.contains(&*job.name) {
                return Err(format!("{}: paused after a restart: {}", job.name, known.paused));
            }
            let mut found: Vec<(String, bool)> = known
                .credits
                .iter()
                .map(|(up, outcome)| (rules.jobs[up.index()].name.to_string(), outcome.is_success()))
                .collect();
            found.sort();
            let promised = self.ledger.news_of(&job.name);
            if found != promised {
                return Err(format!("{}: credits before: {promised:?}, after a restart: {found:?}", job.name));
            }
            for record in &known.pending {
                let Some(run) = self.ledger.runs.get(&record.id.0) else { continue };
                let waits_again = matches!(record.state, RunState::Pending(firelink::engine::Waiting::Retry { .. }));
                let not_yet = same_boot && run.retry_due.is_some_and(|due| due > self.now.elapsed);
                if run.attempt != record.attempt.0 || not_yet && !waits_again {
                    return Err(format!(
                        "run {} is pending at attempt {} after a restart: {:?}",
                        record.id, record.attempt, record.state
                    ));
                }
            }
        }
        Ok(())
    }

    /// Each job has the source that it should have.
    fn start_sources(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let mut old = std::mem::take(&mut daemon.sources);
        for (index, job) in daemon.config.jobs.iter().enumerate() {
            let rules = &daemon.engine.rules().jobs[index];
            let plugin = rules.trigger == TriggerWord::Plugin;
            if !rules.enabled || !(plugin || rules.trigger == TriggerWord::Watch) {
                continue;
            }
            let trigger = format!("{:?}", job.trigger);
            if let Some(at) = old.iter().position(|source| *source.job == *job.name && source.trigger == trigger) {
                daemon.sources.push(old.swap_remove(at));
                continue;
            }
            let mut source = Source { job: job.name.to_string(), trigger, plugin, ..Source::default() };
            let id = JobId(u32::try_from(index).unwrap_or(0));
            if let (false, Ok(known)) = (plugin, daemon.store.load_seen(id, &format!("/watched/{}", job.name))) {
                source.baseline_done = known.baseline_done;
                source.seen = known.objects.iter().map(|seen| (seen.key.0, seen.version.0)).collect();
            }
            daemon.sources.push(source);
        }
    }
}

fn watch_event(job: &str, key: u128, version: u64) -> String {
    format!("{{\"job\":\"{job}\",\"key\":{key},\"version\":{version}}}")
}

fn new_run(change: &Change) -> Option<RunId> {
    match change {
        Change::Run { new: true, record } => Some(record.id),
        _ => None,
    }
}
