//! The pure scheduling core: events and time in, effects out.
//!
//! No syscall, no clock, no randomness of its own: time comes in with each call and randomness by a seed, so the same
//! story always ends the same way and the whole engine runs in virtual time, in tests and for `firelink simulate`.
//!
//! While it handles one event the engine only changes its own memory and queues: jobs whose waiting runs may move, and
//! runs whose end has yet to travel down the graph. [`Engine::handle`] drains both before it returns, so nothing
//! re-enters itself and a chain of a thousand milestones is a loop, not a thousand stack frames.
//!
//! * `flow` carries a run from its trigger to its end; `deps` carries an end down the graph;
//! * `clock` turns time into firings, `wall` and `timers` keep the deadlines;
//! * `restore` picks up what an earlier daemon left, `reload` goes on by other rules; `view` answers questions.
//!
//! This room imports `model`, `dag` and `triggers::cron`; only `reactor` and the command line's `simulate` drive it.

mod clock;
mod deps;
mod event;
mod flow;
mod order;
mod reload;
mod restore;
pub mod rules;
mod run;
pub mod simulate;
mod timers;
pub mod timing;
mod view;
mod wall;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

use crate::dag::{Credits, Graph};
use crate::model::{Elapsed, JobId, Now, Outcome, RunId, WallTime};
use crate::planted::{self, Bug};
pub use event::{Change, Effect, Event, Notice, Payload, Request, Spawn, StopSignal};
pub use order::order_of_names;
pub use restore::{Restored, RestoredJob, RestoredProcess};
use rules::{JobRules, Rules};
pub use run::{End, Process, RunRecord, RunState, StopCause, Waiting};
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

/// The engine. See the module.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    graph: Graph,
    /// Each job's place in the order of names.
    rank: Box<[u32]>,
    jobs: Vec<JobMemory>,
    runs: HashMap<RunId, Tracked>,
    /// Each armed wall deadline once: (when, rank, job).
    wall: BinaryHeap<Reverse<(WallTime, u32, JobId)>>,
    timers: Timers,
    /// Runs that wait for nothing but a slot, in the order in which they get one.
    ready: BTreeSet<ReadyKey>,
    /// Attempts alive.
    alive: u32,
    next_run: u64,
    clock: ClockMode,
    mode: Mode,
    timeline: Timeline,
    last: Now,
    rng: u64,
    /// Queues that `handle` drains.
    moving: VecDeque<JobId>,
    ended: VecDeque<(JobId, Outcome)>,
    dirty: Vec<RunId>,
    out: Vec<Effect>,
}

/// Due time, then name, then number.
type ReadyKey = (WallTime, u32, RunId);

/// A run in memory and whether the store knows its present state.
#[derive(Debug)]
struct Tracked {
    record: RunRecord,
    new: bool,
    dirty: bool,
}

/// What the engine remembers of a job between events.
#[derive(Debug)]
struct JobMemory {
    credits: Credits,
    due: NextDue,
    /// Its runs, while it has any: most jobs sleep most of the time.
    queue: Option<Box<Queue>>,
    paused: bool,
}

/// When a job is due next, on the clock that it goes by. A job has one trigger.
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

/// The runs of one job that have not ended.
#[derive(Clone, Debug)]
struct Queue {
    /// Runs that wait for their dependencies or their turn, oldest first; at most [`MAX_IN_MEMORY`].
    waiting: VecDeque<RunId>,
    /// Waiting runs that only the store holds, and a number that none of them lies below.
    stored: u64,
    stored_from: RunId,
    /// True between [`Effect::Load`] and [`Event::Loaded`].
    loading: bool,
    /// Runs that have had their turn: waiting for a slot or a retry, or alive.
    claimed: Vec<RunId>,
}

/// That of a job that sleeps.
static NO_RUNS: Queue = Queue { waiting: VecDeque::new(), stored: 0, stored_from: RunId(0), loading: false, claimed: Vec::new() };

/// Whether wall deadlines may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockMode {
    /// `wait_for_clock`: nothing is armed until the kernel says so or the time is up.
    Waiting { limit: Elapsed },
    /// The wall clock counts.
    Trusted,
}

/// Whether anything may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing starts; `deadline` is when the running ones are asked to end, `None` once they have been.
    Stopping {
        deadline: Option<Elapsed>,
    },
    Stopped,
}

impl Engine {
    /// An engine that has not begun. `seed` feeds the jitter of retries.
    ///
    /// # Errors
    /// The cycles, if the dependencies have any; `config` reports them before this can happen.
    pub fn new(rules: Rules, seed: u64) -> Result<Engine, Vec<Vec<JobId>>> {
        let edges: Vec<Box<[JobId]>> = rules.jobs.iter().map(|job| job.depends_on.clone()).collect();
        let graph = Graph::new(&edges)?;
        let by_name = order_of_names(rules.jobs.len(), |job| &rules.jobs[job].name);
        let mut rank = vec![0; by_name.len()].into_boxed_slice();
        for (place, job) in (0..).zip(by_name) {
            rank[job as usize] = place;
        }
        let jobs = rules.jobs.iter().map(JobMemory::new).collect();
        let epoch = Now { wall: WallTime::from_nanos(0), elapsed: Elapsed::default() };
        Ok(Engine {
            rules,
            graph,
            rank,
            jobs,
            runs: HashMap::new(),
            wall: BinaryHeap::new(),
            timers: Timers::default(),
            ready: BTreeSet::new(),
            alive: 0,
            next_run: 1,
            clock: ClockMode::Trusted,
            mode: Mode::Open,
            timeline: Timeline::starting(epoch.wall),
            last: epoch,
            rng: seed | 1,
            moving: VecDeque::new(),
            ended: VecDeque::new(),
            dirty: Vec::new(),
            out: Vec::new(),
        })
    }

    /// Handles one event and everything that follows from it at this instant. Effects are appended to `out`.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        // Something else may wake the loop before the timer tells that the clock was set.
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
            Event::ExitUnknown { run } => self.vanished(now, run),
            Event::Loaded { job, runs } => self.loaded(job, runs),
            Event::Ask(request) => self.ask(now, request),
        }
        self.run_due(now);
        self.settle(now);
        self.last = now;
        out.append(&mut self.out);
    }

    /// The earliest deadline of each clock; nothing happens before it unless an event comes.
    pub fn next_deadlines(&mut self) -> Deadlines {
        let wall = match self.mode {
            Mode::Open => self.wall.peek().map(|Reverse((at, _, _))| *at),
            Mode::Stopping { .. } | Mode::Stopped => None,
        };
        let applies = timer_applies(&self.runs, &self.jobs, self.clock, self.mode);
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
        let applies = timer_applies(&self.runs, &self.jobs, self.clock, self.mode);
        self.timers.push(at, timer, applies);
    }

    fn record(&mut self, change: Change) {
        self.out.push(Effect::Record(change));
    }

    fn tell(&mut self, story: Notice) {
        self.out.push(Effect::Notify(story));
    }

    /// Marks a run for the store; what is written is how it stands when the event is dealt with.
    fn touch(&mut self, run: RunId) {
        if let Some(tracked) = self.runs.get_mut(&run)
            && !tracked.dirty
        {
            tracked.dirty = true;
            self.dirty.push(run);
        }
    }

    /// Drains the queues, then writes down each run that changed.
    /// Gives back what was only needed to arm everything at once.
    pub fn trim(&mut self) {
        self.moving.shrink_to_fit();
        self.ended.shrink_to_fit();
        self.dirty.shrink_to_fit();
        self.wall.shrink_to_fit();
    }

    fn settle(&mut self, now: Now) {
        loop {
            if let Some((job, outcome)) = self.ended.pop_front() {
                self.propagate(now, job, outcome);
            } else if let Some(job) = self.moving.pop_front() {
                self.advance(now, job);
            } else if !self.start_ready(now) {
                break;
            }
        }
        for run in std::mem::take(&mut self.dirty) {
            let Some(tracked) = self.runs.get_mut(&run) else { continue };
            let new = std::mem::take(&mut tracked.new);
            tracked.dirty = false;
            let over = matches!(tracked.record.state, RunState::Ended(_));
            let record = if over { self.runs.remove(&run).map(|t| t.record) } else { Some(tracked.record.clone()) };
            if let Some(record) = record {
                self.record(Change::Run { new, record: Box::new(record) });
            }
        }
        if matches!(self.mode, Mode::Stopping { .. }) && self.alive == 0 {
            self.mode = Mode::Stopped;
            self.out.push(Effect::Stopped);
        }
    }
}

impl JobMemory {
    fn new(rules: &JobRules) -> JobMemory {
        JobMemory { credits: Credits::new(rules.depends_on.len()), due: NextDue::Never, queue: None, paused: false }
    }

    fn queue(&self) -> &Queue {
        self.queue.as_deref().unwrap_or(&NO_RUNS)
    }

    fn queue_mut(&mut self) -> &mut Queue {
        self.queue.get_or_insert_with(|| Box::new(NO_RUNS.clone()))
    }

    /// Gives the queue's memory back, if nothing is in it.
    fn rest(&mut self) {
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.waiting.is_empty() && queue.claimed.is_empty() && queue.stored == 0 && !queue.loading)
        {
            self.queue = None;
        }
    }

    /// Runs that are active in the sense of `concurrency`.
    fn active(&self) -> usize {
        let queue = self.queue();
        let stored = usize::try_from(queue.stored).unwrap_or(usize::MAX);
        queue.waiting.len().saturating_add(queue.claimed.len()).saturating_add(stored)
    }
}

impl JobRules {
    /// How many runs may have had their turn at once.
    fn limit(&self) -> usize {
        let unlimited = if self.policy.concurrency == Concurrency::Allow { usize::MAX } else { 1 };
        self.policy.max_parallel.map_or(unlimited, |limit| limit as usize)
    }
}

/// Whether a timer still means something.
fn timer_applies<'a>(
    runs: &'a HashMap<RunId, Tracked>,
    jobs: &'a [JobMemory],
    clock: ClockMode,
    mode: Mode,
) -> impl Fn(&Timer) -> bool + 'a {
    move |timer| {
        let state = |run: &RunId| runs.get(run).map(|tracked| (&tracked.record.state, tracked.record.attempt));
        match timer {
            Timer::Interval(job) => jobs[job.index()].due.interval().is_some() && mode == Mode::Open,
            Timer::Timeout(run, attempt) => {
                matches!(state(run), Some((RunState::Running(p), now)) if (now == *attempt || planted::is(Bug::OldTimeout)) && p.stop.is_none())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, load_text};
    use crate::model::{Exit, Pid, WallTime};

    #[test]
    fn what_is_known_of_an_exit_is_the_reason_of_a_failure_and_says_nothing_of_a_success() {
        let around = Surroundings { start_dir: "/".into(), machine_seed: 0, uid: 65_534 };
        let text = "jobs: [{ name: a, trigger: manual, command: x }]";
        let rules = load_text(std::path::Path::new("f"), text, &around).expect("a right file").rules;
        let mut engine = Engine::new(rules, 1).expect("no cycle");
        let now = Now { wall: WallTime::from_secs(1_800_000_000), elapsed: Elapsed::default() };
        engine.start(now, Restored::default(), &mut Vec::new());
        let mut reason_of = |exit| {
            let mut effects = Vec::new();
            let ask = Request::Trigger { job: JobId(0), force: false, with_deps: false, ticket: 0 };
            engine.handle(now, Event::Ask(ask), &mut effects);
            let run = effects.iter().find_map(|effect| match effect {
                Effect::Spawn(spawn) => Some(spawn.run),
                _ => None,
            });
            let run = run.expect("a start");
            effects.clear();
            engine.handle(now, Event::Started { run, pid: Pid { pid: 9, start_ticks: 9 } }, &mut effects);
            engine.handle(now, Event::Exited { run, exit, reason: Some("memory".into()) }, &mut effects);
            effects.into_iter().find_map(|effect| match effect {
                Effect::Notify(Notice::Ended { reason, .. }) => Some(reason.map(|reason| reason.to_string())),
                _ => None,
            })
        };
        assert_eq!(reason_of(Exit::Signal(9)), Some(Some("memory".into())));
        assert_eq!(reason_of(Exit::Code(0)), Some(None));
    }
}
