//! The pure scheduling core: events and time in, effects out.
//!
//! No syscall, no clock, no randomness of its own: time comes in with each call and randomness by a seed, so the same
//! events always have the same effects and the whole engine runs in virtual time, in tests and for `firelink simulate`.
//!
//! While it handles one event the engine only changes its own memory and queues: jobs whose waiting runs may advance, and
//! runs whose end has not been propagated down the graph. [`Engine::handle`] drains both before it returns, so nothing
//! re-enters itself and a chain of a thousand milestones is a loop, not a thousand stack frames.
//!
//! * `queue` owns the place of each run: waiting, stored, ready, alive;
//! * `flow` carries a run from its trigger to its end, with `retry` and `stop`; `deps` propagates an end down the graph;
//! * `requests` is what a person may ask; `clock` turns time into firings, `wall` and `timers` keep the deadlines;
//! * `restore` takes over the state of an earlier daemon, `reload` replaces the rules; `view` answers questions.
//!
//! This room imports `model`, `cron` and `dag`; only `reactor` and the command line's `simulate` drive it.
//!
#![doc = include_str!("states.md")]

mod clock;
mod deps;
mod event;
mod flow;
mod order;
mod queue;
mod random;
mod reload;
mod requests;
mod restore;
mod retry;
pub mod rules;
mod run;
pub mod simulate;
mod stop;
mod timers;
pub mod timing;
mod view;
mod wall;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::dag::{Credits, Graph};
use crate::model::{Elapsed, JobId, Now, Outcome, RunId, WallTime};
pub use event::{Change, Effect, Event, Notice, Request, Spawn, StopSignal};
pub use order::order_of_names;
use queue::RunQueues;
use random::Random;
pub use restore::{Restored, RestoredJob, RestoredProcess};
use rules::{JobRules, Rules};
pub use run::{End, Payload, Process, RunRecord, RunState, StopCause, Waiting};
use timers::{Timer, Timers};
use timing::Concurrency;
pub use view::{JobState, JobView};
use wall::WallState;
pub use wall::{CaughtUp, Timeline};

/// Waiting runs of one job that are kept in memory. The others wait in the store and are loaded when half are gone.
pub const MAX_IN_MEMORY: usize = 1_000;

/// The earliest deadline of each clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// On `CLOCK_REALTIME`.
    pub wall: Option<WallTime>,
    /// On `CLOCK_BOOTTIME`.
    pub elapsed: Option<Elapsed>,
}

/// The scheduling state; see the module.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    graph: Graph,
    /// Each job's place in the order of names, which breaks ties between jobs that are due at one instant.
    rank: Arc<[u32]>,
    jobs: Vec<JobMemory>,
    queues: RunQueues,
    /// Each armed wall deadline once: (deadline, rank, job).
    wall: BinaryHeap<Reverse<(WallTime, u32, JobId)>>,
    timers: Timers,
    next_run: u64,
    clock: ClockMode,
    mode: Mode,
    timeline: Timeline,
    last: Now,
    random: Random,
    /// Jobs whose waiting runs may be claimed; drained before `handle` returns.
    to_advance: VecDeque<JobId>,
    /// Ends that have not reached the downstream jobs; drained first.
    to_propagate: VecDeque<(JobId, Outcome)>,
    out: Vec<Effect>,
}

/// A job's state between events, but for its runs, which `queue` owns.
#[derive(Debug)]
struct JobMemory {
    credits: Credits,
    due: NextDue,
    paused: bool,
}

/// When a job is due next, on the clock of its trigger. A job has one trigger.
#[derive(Clone, Debug, Default)]
enum NextDue {
    /// Nothing is armed.
    #[default]
    Never,
    Wall(WallState),
    Interval(Elapsed),
}

impl NextDue {
    fn wall(&self) -> Option<&WallState> {
        match self {
            NextDue::Wall(state) => Some(state),
            NextDue::Never | NextDue::Interval(_) => None,
        }
    }

    fn wall_mut(&mut self) -> Option<&mut WallState> {
        match self {
            NextDue::Wall(state) => Some(state),
            NextDue::Never | NextDue::Interval(_) => None,
        }
    }

    fn interval(&self) -> Option<Elapsed> {
        match self {
            NextDue::Interval(at) => Some(*at),
            NextDue::Never | NextDue::Wall(_) => None,
        }
    }
}

/// Whether wall deadlines may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockMode {
    /// `wait_for_clock`: nothing is armed until the kernel reports synchronization or `limit` is reached.
    Waiting { limit: Elapsed },
    /// Wall deadlines are armed.
    Trusted,
}

/// Whether anything may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing starts; at `deadline` running processes are terminated, `None` once that was done.
    Stopping {
        deadline: Option<Elapsed>,
    },
    Stopped,
}

impl Engine {
    /// An engine without state; [`Engine::start`] comes next. `seed` is that of the jitter of retries.
    ///
    /// # Errors
    /// The cycles of the dependency graph; `config` rejects those earlier.
    pub fn new(rules: Rules, seed: u64) -> Result<Engine, Vec<Vec<JobId>>> {
        let edges: Vec<Box<[JobId]>> = rules.jobs.iter().map(|job| job.depends_on.clone()).collect();
        let graph = Graph::new(&edges)?;
        let by_name = order_of_names(rules.jobs.len(), |job| &rules.jobs[job].name);
        let mut rank = vec![0; by_name.len()];
        for (place, job) in (0..).zip(by_name) {
            rank[job as usize] = place;
        }
        let rank: Arc<[u32]> = rank.into();
        let jobs = rules.jobs.iter().map(JobMemory::new).collect();
        let epoch = Now { wall: WallTime::from_nanos(0), elapsed: Elapsed::default() };
        Ok(Engine {
            rules,
            graph,
            queues: RunQueues::new(rank.clone()),
            rank,
            jobs,
            wall: BinaryHeap::new(),
            timers: Timers::default(),
            next_run: 1,
            clock: ClockMode::Trusted,
            mode: Mode::Open,
            timeline: Timeline::starting(epoch.wall),
            last: epoch,
            random: Random::new(seed),
            to_advance: VecDeque::new(),
            to_propagate: VecDeque::new(),
            out: Vec::new(),
        })
    }

    /// Handles one event and everything that follows from it at this instant. Effects are appended to `out`.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        // Another descriptor may wake the loop before the timerfd reports that the clock was set.
        if !matches!(event, Event::ClockSet) && self.has_stepped(now) {
            self.clock_set(now);
            self.last = now;
        }
        match event {
            Event::Tick => {}
            Event::ClockSet => self.clock_set(now),
            Event::ClockSynced => self.clock_ready(now, true),
            Event::Fired { job, events } => self.fired(now, job, events),
            Event::Started { run, pid } => self.started(run, pid),
            Event::NotStarted { run, reason } => self.not_started(now, run, reason),
            Event::Exited { run, exit, reason } => self.exited(now, run, exit, reason),
            Event::ExitUnknown { run } => self.exit_unknown(now, run),
            Event::Loaded { job, runs } => self.loaded(job, runs),
            Event::Ask(request) => self.request(now, request),
        }
        self.run_due(now);
        self.drain_queues(now);
        self.last = now;
        out.append(&mut self.out);
    }

    /// The earliest deadline of each clock; until then the engine needs no `Tick`.
    pub fn next_deadlines(&mut self) -> Deadlines {
        let wall = match self.mode {
            Mode::Open => self.wall.peek().map(|Reverse((at, _, _))| *at),
            Mode::Stopping { .. } | Mode::Stopped => None,
        };
        let applies = timer_applies(&self.queues, &self.jobs, self.clock, self.mode);
        Deadlines { wall, elapsed: self.timers.next(applies) }
    }

    fn rules_of(&self, job: JobId) -> &JobRules {
        &self.rules.jobs[job.index()]
    }

    fn memory(&mut self, job: JobId) -> &mut JobMemory {
        &mut self.jobs[job.index()]
    }

    fn job_ids(&self) -> impl Iterator<Item = JobId> + use<> {
        (0..).take(self.jobs.len()).map(JobId)
    }

    fn arm(&mut self, at: Elapsed, timer: Timer) {
        let applies = timer_applies(&self.queues, &self.jobs, self.clock, self.mode);
        self.timers.push(at, timer, applies);
    }

    fn record(&mut self, change: Change) {
        self.out.push(Effect::Record(change));
    }

    fn notify(&mut self, notice: Notice) {
        self.out.push(Effect::Notify(notice));
    }

    /// Releases memory that only arming everything at once needed.
    pub fn trim(&mut self) {
        self.to_advance.shrink_to_fit();
        self.to_propagate.shrink_to_fit();
        self.queues.shrink();
        self.wall.shrink_to_fit();
    }

    /// Handles everything that follows from an event at this instant, then records each run that changed.
    fn drain_queues(&mut self, now: Now) {
        loop {
            if let Some((job, outcome)) = self.to_propagate.pop_front() {
                self.propagate(now, job, outcome);
            } else if let Some(job) = self.to_advance.pop_front() {
                self.advance(now, job);
            } else if !self.start_ready(now) {
                break;
            }
        }
        self.out.extend(self.queues.take_changes().into_iter().map(Effect::Record));
        if matches!(self.mode, Mode::Stopping { .. }) && self.queues.alive() == 0 {
            self.mode = Mode::Stopped;
            self.out.push(Effect::Stopped);
        }
    }
}

impl JobMemory {
    fn new(rules: &JobRules) -> JobMemory {
        JobMemory { credits: Credits::new(rules.depends_on.len()), due: NextDue::Never, paused: false }
    }
}

impl JobRules {
    /// How many runs of the job may be claimed at once.
    fn limit(&self) -> usize {
        let unlimited = if self.policy.concurrency == Concurrency::Allow { usize::MAX } else { 1 };
        self.policy.max_parallel.map_or(unlimited, |limit| limit as usize)
    }
}

/// Whether a timer is still valid: the run has not moved on, the mode allows it.
fn timer_applies<'a>(queues: &'a RunQueues, jobs: &'a [JobMemory], clock: ClockMode, mode: Mode) -> impl Fn(&Timer) -> bool + 'a {
    move |timer| {
        let state = |run: &RunId| queues.get(*run).map(|record| (&record.state, record.attempt));
        match timer {
            Timer::Interval(job) => jobs[job.index()].due.interval().is_some() && mode == Mode::Open,
            Timer::Timeout(run, attempt) => {
                matches!(state(run), Some((RunState::Running(p), now)) if now == *attempt && p.stop.is_none())
            }
            Timer::Kill(run, attempt) => {
                matches!(state(run), Some((RunState::Running(p), now)) if now == *attempt && p.stop.is_some())
            }
            Timer::Retry(run) => mode == Mode::Open && matches!(state(run), Some((RunState::Pending(Waiting::Retry { .. }), _))),
            Timer::ClockCheck | Timer::ClockLimit => clock != ClockMode::Trusted,
            Timer::Shutdown => matches!(mode, Mode::Stopping { deadline: Some(_) }),
        }
    }
}
