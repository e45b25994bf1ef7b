//! The engine's input and output: [`Event`] and [`Effect`].
//!
//! The engine never acts: each [`Engine::handle`](super::Engine::handle) turns one event into effects, and the reactor
//! carries them out: records first, in one transaction, then processes, then notices.

use std::sync::Arc;
use std::time::Duration;

use super::run::{Payload, RunRecord};
use super::wall::{CaughtUp, Timeline};
use crate::model::{Attempt, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};

/// An input of the engine.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub enum Event {
    /// Time has passed; deadlines may be due.
    Tick,
    /// The wall clock was set.
    ClockSet,
    /// The kernel reports that the clock is synchronized; the answer to [`Effect::CheckClock`].
    ClockSynced,
    /// A trigger outside the engine fired.
    Fired {
        job: JobId,
        /// One run each.
        events: Vec<Payload>,
    },
    /// The process of a run has started.
    Started { run: RunId, pid: Pid },
    /// The process of a run could not be started.
    NotStarted { run: RunId, reason: String },
    /// The process of a run has ended.
    Exited {
        run: RunId,
        exit: Exit,
        /// The cause if the exit is a failure, where the kernel reported one.
        reason: Option<String>,
    },
    /// The process of a run has ended; it was started by an earlier daemon, so its exit status is not available.
    ExitUnknown { run: RunId },
    /// The answer to [`Effect::Load`].
    Loaded {
        job: JobId,
        /// The oldest stored runs, oldest first; empty if the store has none.
        runs: Vec<RunRecord>,
    },
    /// A request of a person.
    Ask(Request),
}

/// A request of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub enum Request {
    /// A run of this job.
    Trigger {
        job: JobId,
        /// Starts without its dependencies and in spite of a pause.
        force: bool,
        /// Triggers all upstream jobs first.
        with_deps: bool,
        /// Returned in [`Effect::Triggered`].
        ticket: u64,
    },
    /// A run with the event of one that has ended.
    Repeat {
        job: JobId,
        trigger: TriggerWord,
        event: Option<Payload>,
        scheduled_at: WallTime,
        /// Starts without its dependencies and in spite of a pause.
        force: bool,
        /// Returned in [`Effect::Triggered`].
        ticket: Option<u64>,
    },
    /// End this run.
    Cancel(RunId),
    /// Start no run of this job, or of any job, until it is resumed.
    Pause(Option<JobId>),
    /// Ends the pause of this job, or of all jobs.
    Resume(Option<JobId>),
    /// Start nothing new; the daemon ends once no process is alive.
    Stop {
        /// How long running processes may go on before they get SIGTERM.
        patience: Duration,
    },
    /// Send SIGKILL to all running processes; the daemon ends once no process is alive.
    StopNow,
    /// End at once and leave running processes alone: the next daemon adopts them.
    Leave,
}

/// An output of the engine.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub enum Effect {
    /// To be committed with all other records of this turn in one transaction, before any process starts.
    Record(Change),
    /// Start a process.
    Spawn(Box<Spawn>),
    /// Signal the process group of a run.
    Signal { run: RunId, signal: StopSignal },
    /// Read stored runs of a job: pending, not forced, oldest first.
    Load {
        job: JobId,
        /// The lowest number to read.
        from: RunId,
        limit: usize,
    },
    /// Ask the kernel whether the clock is synchronized.
    CheckClock,
    /// The answer to a request for a run.
    Triggered {
        /// That of the request.
        ticket: u64,
        /// Already ended if it was skipped.
        run: RunId,
    },
    /// For the log, `events` and observers; nothing depends on it.
    Notify(Notice),
    /// No process is alive and none may start: the daemon can end.
    Stopped,
}

/// A signal that ends a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// An attempt to start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub struct Spawn {
    pub run: RunId,
    pub job: JobId,
    /// 1 for the first.
    pub attempt: Attempt,
    pub trigger: TriggerWord,
    pub scheduled_at: WallTime,
    pub event: Option<Payload>,
}

/// A change of the stored state.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub enum Change {
    /// A run, as it is at the end of the event.
    Run {
        /// True: the store does not have it yet.
        new: bool,
        record: Box<RunRecord>,
    },
    /// An attempt that will be retried.
    AttemptFailed {
        run: RunId,
        attempt: Attempt,
        started_at: Option<WallTime>,
        ended_at: WallTime,
        /// `None` if no process was started.
        exit: Option<Exit>,
        reason: String,
    },
    /// A deadline without a run, or several in one record.
    Missed {
        job: JobId,
        /// The first of several.
        at: WallTime,
        reason: String,
    },
    /// All wall deadlines up to this one have been handled.
    Cursor { job: JobId, at: WallTime },
    /// Wall deadlines that ran late, by `catch_up`: they must not fire again when the clock is set back.
    CaughtUp { job: JobId, caught_up: CaughtUp },
    /// A point of an interval's grid, on both clocks.
    Anchor { job: JobId, at: Now },
    /// A credit of a downstream job: how its dependency ended, or `None` once a run has consumed it.
    Credit { job: JobId, upstream: JobId, outcome: Option<Outcome> },
    /// Stored runs of a job end as skipped, forced ones excepted.
    SkipStored {
        job: JobId,
        /// The lowest number.
        from: RunId,
        at: WallTime,
        reason: String,
    },
    /// The job was paused or resumed.
    Paused { job: JobId, paused: bool },
    /// The spans of wall time that daemons have covered.
    Timeline(Timeline),
}

/// A notification for the log, for `events` and for observers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields without a doc are what their names and types say")]
pub enum Notice {
    /// A run was made.
    Triggered { run: RunId, job: JobId, trigger: TriggerWord, scheduled_at: WallTime },
    /// An attempt begins.
    Started { run: RunId, job: JobId, attempt: Attempt },
    /// An attempt failed and will be retried.
    WillRetry {
        run: RunId,
        job: JobId,
        /// The one that failed.
        attempt: Attempt,
        /// From now to the next attempt.
        delay: Duration,
        /// `None` if no process was started.
        exit: Option<Exit>,
        reason: String,
    },
    /// A run ended.
    Ended {
        run: RunId,
        job: JobId,
        outcome: Outcome,
        /// The last one; 0 if none was started.
        attempt: Attempt,
        /// That of the last process, if it is known.
        exit: Option<Exit>,
        /// Present where the outcome alone does not explain the end.
        reason: Option<Arc<str>>,
    },
    /// Deadlines passed without a run.
    Missed {
        job: JobId,
        /// The latest.
        at: WallTime,
        count: u64,
        reason: String,
    },
    /// The wall clock was set.
    ClockSet {
        /// Nanoseconds, negative if it was set back.
        by: i64,
    },
    /// `wait_for_clock` is over.
    ClockReady {
        /// False: its time limit was reached first.
        synchronized: bool,
    },
    /// Jobs were paused or resumed.
    Paused {
        /// `None`: all jobs.
        job: Option<JobId>,
        paused: bool,
    },
}
