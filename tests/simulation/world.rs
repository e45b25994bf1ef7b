//! The world around one daemon after the other: clocks, processes, a disk, what is watched, and people. The engine, the
//! configuration, the triggers' arithmetic, the store with its SQLite and the order in which the reactor does things are
//! the real ones; what the kernel would do is a model.

mod lives;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use firelink::config::Config;
use firelink::engine::{Engine, Event, Request, RunState};
use firelink::model::Batch;
use firelink::model::{Elapsed, Exit, JobId, Now, Pid, RunId, WallTime};
use firelink::reactor::gather::Held;
use firelink::store::Store;

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
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
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
                Ok(true) => {
                    self.catch_up();
                    return self.rest();
                }
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
                true => Event::ExitUnknown { run },
                false => Event::Exited { run, exit: process.exit, reason: None },
            });
        }
    }
}

fn watch_event(job: &str, key: u128, version: u64) -> String {
    format!("{{\"job\":\"{job}\",\"key\":{key},\"version\":{version}}}")
}
