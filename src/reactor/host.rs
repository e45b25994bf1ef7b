//! What a turn needs of the world around it.

use crate::config::{Config, Job};
use crate::control::commands::reload::Reloaded;
use crate::engine::rules::Rules;
use crate::engine::{Effect, Engine, Event, Notice, Restored, RunRecord, Spawn, StopSignal};
use crate::model::{Batch, Elapsed, Exit, JobId, Now, Pid, RunId, StateWord};
use crate::store::StoredRun;

use super::core::Core;
use super::ledger::{Acts, StateCopy, Written};

/// A run that ended in this turn, as it is stored. The number that the store has for its job is not filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// Its job.
    pub job: JobId,
    /// Its row.
    pub row: StoredRun,
}

/// What follows an attempt, besides what the engine decides.
#[derive(Debug)]
pub enum FollowUp<'a> {
    /// The run has ended.
    Ended(&'a EndedRun),
    /// The attempt failed and another one will follow.
    Retry {
        /// The run's job.
        job: JobId,
        /// The run, which waits.
        row: &'a StoredRun,
        /// How the attempt's process ended, if there was one.
        exit: Option<Exit>,
        /// Why the attempt failed.
        reason: &'a str,
    },
}

impl FollowUp<'_> {
    /// The run's row.
    #[must_use]
    pub fn row(&self) -> &StoredRun {
        match self {
            FollowUp::Ended(ended) => &ended.row,
            FollowUp::Retry { row, .. } => row,
        }
    }

    /// The run's job.
    #[must_use]
    pub fn job(&self) -> JobId {
        match self {
            FollowUp::Ended(ended) => ended.job,
            FollowUp::Retry { job, .. } => *job,
        }
    }

    /// How the attempt's process ended, if there was one.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            FollowUp::Ended(ended) => ended.row.exit,
            FollowUp::Retry { exit, .. } => *exit,
        }
    }

    /// Why the attempt failed, where the state alone does not say.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            FollowUp::Ended(ended) => ended.row.reason.as_deref().unwrap_or_default(),
            FollowUp::Retry { reason, .. } => reason,
        }
    }

    /// The run's state now.
    #[must_use]
    pub fn state(&self) -> StateWord {
        match self {
            FollowUp::Ended(ended) => ended.row.state,
            FollowUp::Retry { .. } => StateWord::Pending,
        }
    }
}

/// A batch that a source hands over, and the number by which it is answered.
#[derive(Debug)]
pub struct FoundBatch {
    /// The source's number.
    pub source: u32,
    /// The source's job.
    pub job: JobId,
    /// What was found.
    pub batch: Batch,
}

/// Processes, sources, observers and peers of one daemon: everything that a [turn](Core::turn) reads from and acts on, but
/// for the engine and the state.
///
/// The daemon's host is the kernel; the simulation's is a model of it, which ends turns where it wants to: `Halt` says why.
/// Each call gets the core, and may [push](Core::push) events for the engine; they are handled in the next turn.
#[expect(clippy::missing_errors_doc, reason = "an error is always the host's own reason to end the turn")]
pub trait Host {
    /// Why a turn does not come to its end. [`std::convert::Infallible`] for a host that can't fail.
    type Halt;

    /// When the host has to be called at the latest.
    fn next_wake(&self) -> Option<Elapsed>;

    /// True if the host has something to do without any wait.
    fn is_busy(&self) -> bool;

    /// True if the kernel says that the wall clock is synchronized.
    fn is_clock_synchronized(&self) -> bool;

    /// Watches the process of a run that an earlier daemon started, if it is alive.
    fn adopt(&mut self, config: &Config, run: &RunRecord, same_boot: bool) -> Option<Pid>;

    /// Every process that goes on was adopted; others of earlier daemons have no one to watch them.
    fn adopted_all(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// The turn begins: output is read, timers of sources and peers are called.
    fn begin_turn(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// Batches that sources have handed over.
    fn take_batches(&mut self, core: &mut Core) -> Result<Vec<FoundBatch>, Self::Halt>;

    /// The batch of a source is in the state, or could not be written.
    fn answer_source(&mut self, core: &mut Core, source: u32, is_written: bool) -> Result<(), Self::Halt>;

    /// What the turn is about to do, before any of it is done.
    fn review(&mut self, core: &Core, acts: Acts) -> Result<Acts, Self::Halt>;

    /// What became of the turn's changes.
    fn written(&mut self, core: &mut Core, written: Written) -> Result<(), Self::Halt>;

    /// Observers are notified. Nothing that they do makes anything happen to a run.
    fn notify(&mut self, core: &mut Core, notice: &Notice, ended: &[EndedRun]) -> Result<(), Self::Halt>;

    /// Starts what follows an attempt or a run, and answers those that wait for its end.
    fn follow_up(&mut self, core: &mut Core, follow_up: FollowUp<'_>) -> Result<(), Self::Halt>;

    /// Begins to start a process; that it has started, or why it has not, becomes an event.
    fn spawn(&mut self, core: &mut Core, spawn: Box<Spawn>) -> Result<(), Self::Halt>;

    /// Signals the process group of a run.
    fn signal(&mut self, core: &mut Core, run: RunId, signal: StopSignal) -> Result<(), Self::Halt>;

    /// A request has made this run.
    fn triggered(&mut self, core: &mut Core, ticket: u64, run: RunId, ended: &[EndedRun]) -> Result<(), Self::Halt>;

    /// Events for the processes that have executed their programs since the last call, or could not.
    fn collect_started(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// The engine has stopped, and nothing is held back from the state any more.
    fn stopped(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// Everything was acted on: what has ended is reaped.
    fn after_acts(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// Has a copy of the state put in its place; [`Ledger::copied`](super::ledger::Ledger::copied) hears what became of it.
    fn copy_state(&mut self, core: &mut Core, copy: StateCopy) -> Result<(), Self::Halt>;

    /// The turn is over, but for what is done while nothing else is.
    fn end_turn(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// A reload takes over: sources whose trigger is the same go on under their job's new number, others end. The engine
    /// has the new rules, `old` the jobs before.
    fn hand_over(&mut self, core: &mut Core, old: &[Option<Job>], next: &Config) -> Result<(), Self::Halt>;

    /// The core has another configuration than before, or its first; no effect of it was carried out yet.
    fn configured(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// Starts the source of each job that should have one and has none.
    fn start_sources(&mut self, core: &mut Core) -> Result<(), Self::Halt>;

    /// A reload is over; the error is a sentence for a person.
    fn reloaded(&mut self, core: &mut Core, result: Result<Reloaded, String>) -> Result<(), Self::Halt>;

    /// Has the engine start on what an earlier daemon left. Here and in the next three a host may watch the engine.
    fn drive_start(
        &mut self,
        engine: &mut Engine,
        now: Now,
        restored: Restored,
        out: &mut Vec<Effect>,
    ) -> Result<(), Self::Halt> {
        engine.start(now, restored, out);
        Ok(())
    }

    /// Has the engine handle an event.
    fn drive(&mut self, engine: &mut Engine, now: Now, event: Event, out: &mut Vec<Effect>) -> Result<(), Self::Halt> {
        engine.handle(now, event, out);
        Ok(())
    }

    /// Has the engine end what waits of jobs that are no longer configured.
    fn drive_retire(&mut self, engine: &mut Engine, now: Now, jobs: &[JobId], out: &mut Vec<Effect>) -> Result<(), Self::Halt> {
        engine.retire(now, jobs, out);
        Ok(())
    }

    /// Has the engine go on by other rules; true if it does.
    fn drive_reload(&mut self, engine: &mut Engine, now: Now, rules: Rules, out: &mut Vec<Effect>) -> Result<bool, Self::Halt> {
        Ok(engine.reload(now, rules, out).is_ok())
    }
}
