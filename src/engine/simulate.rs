//! The engine in virtual time: what would run when, with no process started and no clock read.
//!
//! Both clocks advance together, from one deadline to the next, so that the cost of a year is that of its events. The caller
//! decides how long an attempt takes and how it ends. Pure, like the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Change, Effect, Event, Notice, Spawn, StopSignal};
use super::restore::{Restored, RestoredJob};
use super::rules::Rules;
use super::run::{RunRecord, RunState};
use super::{Deadlines, Engine, Timeline};
use crate::model::{Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, StateWord, WallTime};

/// The course of a simulated attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Its duration.
    pub takes: Duration,
    /// Its exit, unless it is signalled earlier.
    pub exit: Exit,
}

/// The subject of a step.
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
    /// The name in JSON.
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

/// One step of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub struct Step {
    pub at: WallTime,
    pub job: JobId,
    /// `None` for missed deadlines.
    pub run: Option<RunId>,
    pub what: What,
    /// The run's state after the step.
    pub state: StateWord,
    /// Present where the state alone does not explain the step.
    pub reason: Option<String>,
}

/// Runs the engine from `from` (inclusive) to `to` (exclusive) and passes each step to `step`, which returns false to
/// stop. `attempt` decides the course of an attempt.
///
/// # Errors
/// The cycles of the dependency graph; `config` rejects those earlier.
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
    // A daemon fires deadlines after its start; the range of a simulation includes its first instant.
    let before = from - Duration::from_nanos(1);
    let jobs = world.engine.rules.jobs.iter().map(|_| RestoredJob { cursor: Some(before), ..RestoredJob::default() }).collect();
    let restored = Restored { timeline: Some(Timeline::starting(before)), jobs, ..Restored::default() };
    let mut effects = Vec::new();
    world.engine.start(now, restored, &mut effects);
    world.apply(effects);
    while world.open && world.advance(to) {}
    Ok(())
}

/// Ends of processes by time, and by a sequence number that keeps those of one instant in the order of their starts.
type Ends = BTreeMap<(Elapsed, u64), (RunId, Exit)>;

struct World<A, S> {
    engine: Engine,
    now: Now,
    processes: Ends,
    order: u64,
    /// Pending runs, as the store would have them: the engine loads those past its in-memory limit.
    stored: BTreeMap<(JobId, RunId), RunRecord>,
    attempt: A,
    step: S,
    open: bool,
}

impl<A: FnMut(&Spawn) -> Attempted, S: FnMut(Step) -> bool> World<A, S> {
    /// Advances to the next deadline or end of a process; false if there is none before `to`.
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
        // Ends of processes free their slots before deadlines of the same instant are handled.
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
                Effect::Notify(notice) => self.notify(notice),
                Effect::Triggered { .. } | Effect::Stopped => {}
            }
        }
    }

    /// A signalled process ends at once.
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

    fn notify(&mut self, notice: Notice) {
        let at = self.now.wall;
        let step = match notice {
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
