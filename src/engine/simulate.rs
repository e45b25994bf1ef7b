//! The engine in virtual time: what would run when, with no process started and no clock read.
//!
//! Both clocks go forward together, from one deadline to the next, so that a year costs what happens in it and nothing
//! for the time between. How long an attempt takes and how it ends is the caller's to say. Pure, like the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Change, Effect, Event, Notice, Spawn, StopSignal};
use super::restore::{Restored, RestoredJob};
use super::rules::Rules;
use super::run::{RunRecord, RunState};
use super::{Deadlines, Engine, Timeline};
use crate::model::{Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, StateWord, WallTime};

/// How an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// How long it takes.
    pub takes: Duration,
    /// How it ends, unless it is signalled before.
    pub exit: Exit,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A run was made.
    Scheduled,
    /// An attempt began.
    Started,
    /// A run ended.
    Ended,
    /// A run was skipped.
    Skipped,
    /// Deadlines passed without a run.
    Missed,
}

impl What {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Scheduled => "scheduled",
            What::Started => "started",
            What::Ended => "ended",
            What::Skipped => "skipped",
            What::Missed => "missed",
        }
    }
}

/// One thing that would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: WallTime,
    /// To which job.
    pub job: JobId,
    /// To which run; none for missed deadlines.
    pub run: Option<RunId>,
    /// What.
    pub what: What,
    /// The run's state then.
    pub state: StateWord,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
}

/// Runs the engine from `from` (inclusive) to `to` (exclusive) and hands over each step. `attempt` says how an attempt
/// goes. `step` answers false to stop.
///
/// # Errors
/// The cycles, if the dependencies have any; `config` reports them before this can happen.
pub fn simulate(
    rules: Rules,
    from: WallTime,
    to: WallTime,
    attempt: impl FnMut(&Spawn) -> Attempted,
    step: impl FnMut(Step) -> bool,
) -> Result<(), Vec<Vec<JobId>>> {
    let engine = Engine::new(rules, 1)?;
    let now = Now { wall: from, elapsed: Elapsed::from_nanos(0) };
    let (processes, stored) = (BTreeMap::new(), BTreeMap::new());
    let mut world = World { engine, now, processes, order: 0, stored, attempt, step, open: true };
    // A daemon fires what is due after its start; here a deadline at the first instant is meant, too.
    let before = from - Duration::from_nanos(1);
    let jobs = world.engine.rules.jobs.iter().map(|_| RestoredJob { cursor: Some(before), ..RestoredJob::default() }).collect();
    let restored = Restored { timeline: Some(Timeline::starting(before)), jobs, ..Restored::default() };
    let mut effects = Vec::new();
    world.engine.start(now, restored, &mut effects);
    world.apply(effects);
    while world.open && world.advance(to) {}
    Ok(())
}

/// Ends of processes, in the order in which they come: when, and a number that keeps those of one instant in the
/// order of their starts.
type Ends = BTreeMap<(Elapsed, u64), (RunId, Exit)>;

struct World<A, S> {
    engine: Engine,
    now: Now,
    processes: Ends,
    order: u64,
    /// Pending runs, as the store would have them: past a window the engine forgets and asks for them.
    stored: BTreeMap<(JobId, RunId), RunRecord>,
    attempt: A,
    step: S,
    open: bool,
}

impl<A: FnMut(&Spawn) -> Attempted, S: FnMut(Step) -> bool> World<A, S> {
    /// Goes to the next instant at which something happens; false if there is none before `to`.
    fn advance(&mut self, to: WallTime) -> bool {
        let Deadlines { wall, elapsed } = self.engine.next_deadlines();
        let ends = self.processes.keys().next().map(|(at, _)| *at);
        let waits =
            [wall.map(|at| at.since(self.now.wall)), elapsed.into_iter().chain(ends).min().map(|at| at.since(self.now.elapsed))];
        let Some(wait) = waits.into_iter().flatten().min() else { return false };
        let now = Now { wall: self.now.wall + wait, elapsed: self.now.elapsed + wait };
        if now.wall >= to {
            return false;
        }
        self.now = now;
        // What ended frees its slot before anything else is decided at this instant.
        while self.processes.first_key_value().is_some_and(|((at, _), _)| *at <= now.elapsed) {
            if let Some((_, (run, exit))) = self.processes.pop_first() {
                self.handle(Event::Exited { run, exit, reason: None });
            }
        }
        self.handle(Event::Tick);
        true
    }

    fn handle(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(change) => self.record(change),
                Effect::Spawn(spawn) => {
                    let Attempted { takes, exit } = (self.attempt)(&spawn);
                    self.order += 1;
                    self.processes.insert((self.now.elapsed + takes, self.order), (spawn.run, exit));
                    self.handle(Event::Started { run: spawn.run, pid: Pid { pid: i32::MAX, start_ticks: 0 } });
                }
                Effect::Signal { run, signal } => self.signal(run, signal),
                Effect::Load { job, from, limit } => {
                    let end = (job, RunId(u64::MAX));
                    let runs = self.stored.range((job, from)..=end).map(|(_, record)| record.clone()).take(limit).collect();
                    self.handle(Event::Loaded { job, runs });
                }
                Effect::CheckClock => self.handle(Event::ClockSynced),
                Effect::Notify(story) => self.tell(story),
                Effect::Triggered { .. } | Effect::Stopped => {}
            }
        }
    }

    /// A process that is asked to end does so at once.
    fn signal(&mut self, run: RunId, signal: StopSignal) {
        let exit = Exit::Signal(match signal {
            StopSignal::Term => 15,
            StopSignal::Kill => 9,
        });
        let key = self.processes.iter().find(|(_, (other, _))| *other == run).map(|(key, _)| *key);
        if let Some(key) = key {
            self.processes.remove(&key);
            self.order += 1;
            self.processes.insert((self.now.elapsed, self.order), (run, exit));
        }
    }

    fn record(&mut self, change: Change) {
        match change {
            Change::Run { record, .. } => {
                let key = (record.job, record.id);
                match record.state {
                    RunState::Pending(_) if !record.forced => {
                        self.stored.insert(key, *record);
                    }
                    RunState::Pending(_) | RunState::Running(_) | RunState::Ended(_) => {
                        self.stored.remove(&key);
                    }
                }
            }
            Change::SkipStored { job, from, .. } => {
                let skipped: Vec<(JobId, RunId)> =
                    self.stored.range((job, from)..=(job, RunId(u64::MAX))).map(|(key, _)| *key).collect();
                for key in skipped {
                    self.stored.remove(&key);
                }
            }
            _ => {}
        }
    }

    fn tell(&mut self, story: Notice) {
        let at = self.now.wall;
        let step = match story {
            Notice::Triggered { run, job, .. } => {
                Step { at, job, run: Some(run), what: What::Scheduled, state: StateWord::Pending, reason: None }
            }
            Notice::Started { run, job, .. } => {
                Step { at, job, run: Some(run), what: What::Started, state: StateWord::Running, reason: None }
            }
            Notice::Ended { run, job, outcome, reason, .. } => {
                let what = if outcome == Outcome::Skipped { What::Skipped } else { What::Ended };
                Step { at, job, run: Some(run), what, state: outcome.word(), reason: reason.as_deref().map(str::to_owned) }
            }
            Notice::Missed { job, reason, .. } => {
                Step { at, job, run: None, what: What::Missed, state: StateWord::Missed, reason: Some(reason) }
            }
            Notice::WillRetry { .. } | Notice::ClockSet { .. } | Notice::ClockReady { .. } | Notice::Paused { .. } => return,
        };
        if self.open {
            self.open = (self.step)(step);
        }
    }
}
