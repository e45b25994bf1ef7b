//! The world around one daemon after the other: clocks, processes, a disk, what is watched, and people. The engine, the
//! configuration, the triggers' arithmetic, the store with its SQLite and the turn and the reload of the reactor are the
//! real ones; `host` is a model of what the kernel does.

mod host;
mod lives;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firelink::config::Job;
use firelink::engine::{Event, Request, RunRecord};
use firelink::model::{Batch, Elapsed, Exit, JobId, Now, Pid, RunId, WallTime};
use firelink::reactor::{Core, Host};
use firelink::triggers::Trigger;

use super::case::{Case, Death, Step};
use super::oracle::{Broken, Oracle};
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
    ends: Elapsed,
    exit: Exit,
    ignores_term: bool,
    pid: Pid,
    /// The daemon knows that it has executed its program.
    /// When it executes its program.
    starts: Elapsed,
    is_reported: bool,
}

/// What waits for events outside, for one job.
#[derive(Debug)]
struct Source {
    id: JobId,
    job: String,
    trigger: Arc<dyn Trigger>,
    plugin: bool,
    seen: BTreeMap<u128, u64>,
    baseline_done: bool,
    under_way: Option<Batch>,
}

impl Source {
    fn new(id: JobId, job: &Job, plugin: bool) -> Source {
        let (name, trigger) = (job.name.to_string(), Arc::clone(&job.trigger));
        Source { id, job: name, trigger, plugin, seen: BTreeMap::new(), baseline_done: false, under_way: None }
    }
}

/// Why a turn did not come to its end.
pub enum Halt {
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
struct Synced {
    files: Vec<(PathBuf, Vec<u8>)>,
    oracle: Oracle,
}

/// Everything but the daemon.
pub struct Outside<'c> {
    case: &'c Case,
    dir: tempfile::TempDir,
    now: Now,
    boot: u32,
    synchronized: bool,
    variant: usize,
    next_variant: Option<usize>,
    commit_every: Duration,
    processes: Vec<Process>,
    /// Runs whose processes could not be started, which the daemon has yet to learn.
    not_started: Vec<(Elapsed, RunId)>,
    next_pid: i32,
    sources: Vec<Source>,
    objects: BTreeMap<(String, u128), u64>,
    lines: BTreeMap<String, Vec<String>>,
    next_line: u64,
    oracle: Oracle,
    /// As of the last write.
    durable: Oracle,
    /// As of the last write that failed, if none has succeeded since.
    refused: Option<Oracle>,
    /// The engine has decided something since the last review.
    is_driven: bool,
    /// A turn's changes were reviewed and are yet to be written.
    is_reviewed: bool,
    /// Runs made in this turn, and the last records of runs since the last write.
    made: Vec<RunId>,
    unwritten: BTreeMap<u64, RunRecord>,
    held_since: Option<Elapsed>,
    /// Something has happened in this turn.
    is_active: bool,
    synced: Option<Synced>,
    cuts_power: bool,
    death: Option<Death>,
    cancelled_waiting: bool,
    steady: bool,
    /// Nobody set the clock and nobody slept since the last look at what passed by.
    steady_since: Option<WallTime>,
    leaves: bool,
    tally: Tally,
    /// What happened, if anybody wants to read it.
    trace: Option<Vec<String>>,
}

/// One daemon after the other, and what is around them.
pub struct World<'c> {
    daemon: Option<Core>,
    host: Outside<'c>,
}

fn hash(parts: &[u64]) -> Random {
    let mut random = Random(0x5eed);
    for part in parts {
        random.0 ^= *part;
        random.next();
    }
    random
}

impl Outside<'_> {
    fn say(&mut self, text: impl FnOnce() -> String) {
        let at = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} +{:.3}s  {}", at.wall, at.elapsed.as_nanos() as f64 / 1e9, text()));
        }
    }

    fn move_clocks(&mut self, by: Duration) {
        self.now = Now { wall: self.now.wall + by, elapsed: self.now.elapsed + by };
    }

    fn unsteady(&mut self) {
        self.steady = false;
        self.oracle.unsteady = true;
        self.durable.unsteady = true;
        self.steady_since = None;
    }
}

impl<'c> World<'c> {
    pub fn new(case: &'c Case, wants_trace: bool) -> World<'c> {
        vfs::install();
        vfs::heal();
        let host = Outside {
            case,
            dir: tempfile::tempdir().expect("a directory"),
            now: Now { wall: case.start, elapsed: Elapsed::from_nanos(10_000_000_000) },
            boot: 1,
            synchronized: false,
            variant: 0,
            next_variant: None,
            commit_every: Duration::ZERO,
            processes: Vec::new(),
            not_started: Vec::new(),
            next_pid: 100,
            sources: Vec::new(),
            objects: BTreeMap::new(),
            lines: BTreeMap::new(),
            next_line: 0,
            oracle: Oracle::default(),
            durable: Oracle::default(),
            refused: None,
            is_driven: false,
            is_reviewed: false,
            made: Vec::new(),
            unwritten: BTreeMap::new(),
            held_since: None,
            is_active: false,
            synced: None,
            cuts_power: case.steps.iter().any(|step| matches!(step, Step::PowerCut(_))),
            death: None,
            cancelled_waiting: false,
            steady: true,
            steady_since: None,
            leaves: false,
            tally: Tally::default(),
            trace: wants_trace.then(Vec::new),
        };
        World { daemon: None, host }
    }

    pub fn tally(&self) -> Tally {
        self.host.tally
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.host.trace.take().unwrap_or_default()
    }

    /// Runs the whole case.
    pub fn live(&mut self) -> Result<(), Broken> {
        self.begin()?;
        for step in self.host.case.steps.clone() {
            self.host.say(|| format!("## {step:?}"));
            self.step(&step)?;
        }
        self.end()
    }

    /// All faults are over: every promise must be kept now.
    fn end(&mut self) -> Result<(), Broken> {
        vfs::heal();
        self.host.synchronized = true;
        if self.daemon.is_none() {
            self.begin()?;
        }
        self.ask(Request::Resume(None));
        self.settle()?;
        self.pass(Duration::from_secs(6 * 3_600), 2 * HOPS)?;
        if self.daemon.is_none() {
            return Ok(());
        }
        for ((job, key), version) in &self.host.objects {
            let watched = self.host.sources.iter().any(|source| source.job == *job && !source.plugin);
            if watched && !self.host.oracle.has_event(&watch_event(job, *key, *version)) {
                return Err(format!("{job}: object {key} in version {version} made no run"));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Pass(by) => return self.pass(*by, HOPS),
            Step::Suspend(by) => {
                self.host.move_clocks(*by);
                self.host.unsteady();
            }
            Step::SetClock(by) => {
                let by_nanos = by * 1_000_000_000;
                self.host.now.wall = WallTime::from_nanos(self.host.now.wall.as_nanos() + by_nanos);
                self.host.unsteady();
                self.push(Event::ClockSet);
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
                    self.host.cancelled_waiting = true;
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
                    daemon.replace_config(self.host.case.config(*variant));
                    self.host.next_variant = Some(*variant);
                }
            }
            Step::Crash(death, away) => {
                self.host.death = Some(*death);
                let before = self.host.tally.deaths;
                self.settle()?;
                if self.host.tally.deaths == before {
                    self.host.death = None;
                    self.die();
                }
                self.host.move_clocks(*away);
                return self.begin();
            }
            Step::PowerCut(away) => return self.cut_power(*away),
            Step::Stop { patience, then } => {
                self.ask(Request::Stop { patience: *patience });
                return self.end_daemon(*patience, *then);
            }
            Step::StopNow(then) => {
                self.ask(Request::StopNow);
                return self.end_daemon(Duration::ZERO, *then);
            }
            Step::Leave(then) => {
                self.ask(Request::Leave);
                self.host.leaves = true;
                return self.end_daemon(Duration::ZERO, *then);
            }
            Step::WritesFail(writes) => vfs::fail(vfs::Fault::NoSpace, 0, *writes),
            Step::Synchronized => {
                self.host.synchronized = true;
                self.push(Event::Tick);
            }
        }
        self.settle()
    }

    fn job(&self, pick: usize) -> Option<JobId> {
        let jobs = self.daemon.as_ref()?.config.jobs.len();
        u32::try_from(pick % jobs.max(1)).ok().map(JobId)
    }

    fn ask(&mut self, request: Request) {
        self.push(Event::Ask(request));
    }

    fn push(&mut self, event: Event) {
        if let Some(daemon) = &mut self.daemon {
            daemon.push(event);
        }
    }

    fn repeat(&mut self, pick: usize) -> Result<(), Broken> {
        let over: Vec<u64> = self.host.oracle.runs.iter().filter(|(_, run)| run.state.is_end()).map(|(id, _)| *id).collect();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(id) = over.get(pick % over.len().max(1)) else { return Ok(()) };
        let Ok(Some(row)) = daemon.ledger.store().run(RunId(*id)) else { return Ok(()) };
        let Some(job) = daemon.ledger.job_of(row.job_row) else { return Ok(()) };
        if !daemon.engine.rules().jobs[job.index()].enabled || job.index() >= daemon.config.jobs.len() {
            return Ok(());
        }
        self.host.oracle.repeat_event(row.event.as_deref());
        let (trigger, event, scheduled_at) = (row.trigger, row.event, row.scheduled_at);
        self.ask(Request::Repeat { job, trigger, event, scheduled_at, force: false, ticket: None });
        Ok(())
    }

    /// Something happens where a job looks.
    fn events(&mut self, pick: usize, count: usize) {
        let name = format!("j{pick}");
        let Some(source) = self.host.sources.iter().find(|source| source.job == name) else { return };
        let plugin = source.plugin;
        for _ in 0..count {
            self.host.next_line += 1;
            if plugin {
                self.host.lines.entry(name.clone()).or_default().push(format!("{{\"line\":{}}}", self.host.next_line));
            } else {
                let key = hash(&[self.host.case.seed, self.host.next_line]).next() % 5;
                self.host.objects.insert((name.clone(), u128::from(key)), self.host.next_line);
            }
        }
    }

    /// Time goes by, from one instant at which something happens to the next.
    fn pass(&mut self, by: Duration, hops: usize) -> Result<(), Broken> {
        let until = self.host.now.elapsed + by;
        for _ in 0..hops {
            let Some(wait) = self.next_wait().filter(|wait| self.host.now.elapsed + *wait <= until) else {
                self.host.move_clocks(until.since(self.host.now.elapsed));
                return self.settle();
            };
            self.host.move_clocks(wait);
            self.settle()?;
        }
        Ok(())
    }

    fn next_wait(&mut self) -> Option<Duration> {
        let now = self.host.now;
        let next = |process: &Process| if process.is_reported { process.ends } else { process.starts };
        let not_started = self.host.not_started.iter().map(|(at, _)| *at);
        let ends = self.host.processes.iter().map(next).chain(not_started).map(|at| at.since(now.elapsed)).min();
        let daemon = self.daemon.as_mut()?;
        let due = daemon.next_deadlines(&self.host);
        let elapsed = due.elapsed.into_iter().chain(daemon.ledger.next_prune()).min();
        [due.wall.map(|at| at.since(now.wall)), elapsed.map(|at| at.since(now.elapsed)), ends].into_iter().flatten().min()
    }

    /// Turns of the loop until there is nothing to do at this instant.
    fn settle(&mut self) -> Result<(), Broken> {
        for turn in 0..TURNS {
            match self.turn() {
                Ok(true) => return self.rest(),
                Ok(false) => {}
                Err(Halt::Died) => {
                    self.host.tally.deaths += 1;
                    self.host.death = None;
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

    /// One turn, as the daemon's loop has it; true if it found nothing to do.
    fn turn(&mut self) -> Result<bool, Halt> {
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| !daemon.has_stopped()) else { return Ok(true) };
        let host = &mut self.host;
        host.tally.turns += 1;
        host.is_active = false;
        daemon.now = host.now;
        host.end_processes(daemon);
        host.collect_started(daemon)?;
        daemon.turn(host)?;
        Ok(!host.is_active && !host.is_busy() && !daemon.has_events())
    }

    fn rest(&mut self) -> Result<(), Broken> {
        let host = &mut self.host;
        let (alive, now) = (host.processes.len() + host.not_started.len(), host.now);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if host.held_since.is_some_and(|since| since + host.commit_every <= now.elapsed) {
            return Err("what is held back is overdue and not written".into());
        }
        if daemon.has_stopped() {
            return Ok(());
        }
        if daemon.ledger.next_wake().is_some_and(|at| at <= now.elapsed) {
            return Err("the ledger has something to do, and it is not done".into());
        }
        host.oracle.at_rest(now, &mut daemon.engine, alive, host.cancelled_waiting)?;
        let (counts, since) = (host.steady && !daemon.engine.is_waiting_for_clock(), host.steady_since);
        host.steady_since = counts.then_some(now.wall);
        if let (true, Some(since), false) = (counts, since, daemon.engine.is_stopping()) {
            host.oracle.nothing_passed_by(daemon.engine.rules(), since, now.wall)?;
        }
        Ok(())
    }
}

fn watch_event(job: &str, key: u128, version: u64) -> String {
    format!("{{\"job\":\"{job}\",\"key\":{key},\"version\":{version}}}")
}
