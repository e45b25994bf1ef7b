//! What goes into the engine and what comes out: the product's story as two enums.
//!
//! A reader who knows [`Event`] and [`Effect`] knows firelink. The engine never acts: each [`super::Engine::handle`]
//! (`super::Engine::handle`) turns one event into effects, and the reactor carries them out, records first, in one
//! transaction, then processes, then words.

use std::sync::Arc;
use std::time::Duration;

use super::run::{Payload, RunRecord};
use super::wall::{CaughtUp, Timeline};
use crate::model::{Attempt, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};

/// What the engine is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed; deadlines may be due.
    Tick,
    /// The wall clock was set.
    ClockSet,
    /// The kernel says that the clock is synchronized; the answer to [`Effect::CheckClock`].
    ClockSynced,
    /// A trigger outside the engine fired, once per payload.
    Fired {
        /// Whose trigger.
        job: JobId,
        /// One run each.
        events: Vec<Payload>,
    },
    /// The process of a run has started.
    Started {
        /// Which run.
        run: RunId,
        /// Its process.
        pid: Pid,
    },
    /// The process of a run could not be started.
    NotStarted {
        /// Which run.
        run: RunId,
        /// Why, for a person.
        reason: String,
    },
    /// The process of a run has ended.
    Exited {
        /// Which run.
        run: RunId,
        /// How.
        exit: Exit,
        /// What is known of why, should that be a failure.
        reason: Option<String>,
    },
    /// The process of a run that an earlier daemon started has ended, and how could not be learnt.
    ExitUnknown {
        /// Which run.
        run: RunId,
    },
    /// The answer to [`Effect::Load`].
    Loaded {
        /// Whose runs.
        job: JobId,
        /// The oldest waiting runs past the window, oldest first.
        runs: Vec<RunRecord>,
    },
    /// A person asks.
    Ask(Request),
}

/// What a person may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A run of this job.
    Trigger {
        /// Which job.
        job: JobId,
        /// Neither dependencies nor a pause hold it.
        force: bool,
        /// All upstream jobs are triggered first.
        with_deps: bool,
        /// Comes back in [`Effect::Triggered`].
        ticket: u64,
    },
    /// A run like one that ended, once more.
    Repeat {
        /// Which job.
        job: JobId,
        /// What made the run that ended.
        trigger: TriggerWord,
        /// Its event.
        event: Option<Payload>,
        /// When it was due.
        scheduled_at: WallTime,
        /// Neither dependencies nor a pause hold it.
        force: bool,
        /// Comes back in [`Effect::Triggered`].
        ticket: Option<u64>,
    },
    /// The end of this run.
    Cancel(RunId),
    /// No run of this job starts until it is resumed; without a job, of any.
    Pause(Option<JobId>),
    /// Takes a pause back.
    Resume(Option<JobId>),
    /// Start nothing new; end when the running ones have, or when the time is up.
    Stop {
        /// How long the running ones get before SIGTERM.
        patience: Duration,
    },
    /// End the running ones with SIGKILL, then end.
    StopNow,
    /// End at once and leave the running ones alone: the next daemon watches them.
    Leave,
}

/// What the engine wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// To be stored with all other records of this turn in one transaction, before any process starts.
    Record(Change),
    /// Start a process.
    Spawn(Box<Spawn>),
    /// Signal the process group of a run.
    Signal {
        /// Which run.
        run: RunId,
        /// Which signal.
        signal: StopSignal,
    },
    /// Read waiting runs of a job from the store: pending, not forced, numbered `from` or above, oldest first.
    Load {
        /// Which job.
        job: JobId,
        /// None that is meant lies below.
        from: RunId,
        /// How many at most.
        limit: usize,
    },
    /// Ask the kernel whether the clock is synchronized.
    CheckClock,
    /// The run that a request made.
    Triggered {
        /// The ticket of the request.
        ticket: u64,
        /// Its run; already ended if it was skipped.
        run: RunId,
    },
    /// Something happened that a person may want to know.
    Notify(Notice),
    /// Nothing runs any more and nothing may start: the daemon can end.
    Stopped,
}

/// How a process group is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// The attempt to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its run.
    pub run: RunId,
    /// Whose command.
    pub job: JobId,
    /// Which attempt this is.
    pub attempt: Attempt,
    /// What made the run.
    pub trigger: TriggerWord,
    /// When it was due.
    pub scheduled_at: WallTime,
    /// The event's payload.
    pub event: Option<Payload>,
}

/// A change of what is stored.
#[derive(Clone, Debug)]
pub enum Change {
    /// A run, as it stands at the end of the turn.
    Run {
        /// True: the store has not seen it yet.
        new: bool,
        /// All of it.
        record: Box<RunRecord>,
    },
    /// An attempt that will be followed by another.
    AttemptFailed {
        /// Its run.
        run: RunId,
        /// Which.
        attempt: Attempt,
        /// When it started.
        started_at: Option<WallTime>,
        /// When it ended.
        ended_at: WallTime,
        /// How, if it ran.
        exit: Option<Exit>,
        /// Why it failed.
        reason: String,
    },
    /// Deadlines that no run was made for.
    Missed {
        /// Whose.
        job: JobId,
        /// The deadline; the latest where several are told as one.
        at: WallTime,
        /// Why.
        reason: String,
    },
    /// Wall deadlines up to this one are dealt with.
    Cursor {
        /// Whose.
        job: JobId,
        /// The deadline.
        at: WallTime,
    },
    /// Wall deadlines that were made up for after the fact: a clock that is set back must not fire them once more.
    CaughtUp {
        /// Whose.
        job: JobId,
        /// All that is remembered of them.
        caught_up: CaughtUp,
    },
    /// An interval's grid passes through this instant.
    Anchor {
        /// Whose.
        job: JobId,
        /// The grid point, on both clocks.
        at: Now,
    },
    /// A dependency's end, or `None`: it was taken in.
    Credit {
        /// The downstream job.
        job: JobId,
        /// Its dependency.
        upstream: JobId,
        /// How it ended.
        outcome: Option<Outcome>,
    },
    /// The waiting runs past the window end as skipped.
    SkipStored {
        /// Whose.
        job: JobId,
        /// Those numbered this or above, but for forced ones.
        from: RunId,
        /// When.
        at: WallTime,
        /// Why.
        reason: String,
    },
    /// The job is paused or not.
    Paused {
        /// Which.
        job: JobId,
        /// Whether.
        paused: bool,
    },
    /// The spans of wall time that were lived through.
    Timeline(Timeline),
}

/// What happened, for the log, for `events` and for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A run was made.
    Triggered {
        /// Its number.
        run: RunId,
        /// Its job.
        job: JobId,
        /// What made it.
        trigger: TriggerWord,
        /// When it was due.
        scheduled_at: WallTime,
    },
    /// An attempt begins.
    Started {
        /// Its run.
        run: RunId,
        /// Its job.
        job: JobId,
        /// Which attempt.
        attempt: Attempt,
    },
    /// An attempt failed and another will follow.
    WillRetry {
        /// Its run.
        run: RunId,
        /// Its job.
        job: JobId,
        /// The attempt that failed.
        attempt: Attempt,
        /// Until the next.
        delay: Duration,
        /// How its process ended, if there was one.
        exit: Option<Exit>,
        /// Why it failed.
        reason: String,
    },
    /// A run ended.
    Ended {
        /// Its number.
        run: RunId,
        /// Its job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// The last attempt.
        attempt: Attempt,
        /// The last process's end.
        exit: Option<Exit>,
        /// Why, where the outcome alone does not say.
        reason: Option<Arc<str>>,
    },
    /// Deadlines passed without a run.
    Missed {
        /// Whose.
        job: JobId,
        /// The latest.
        at: WallTime,
        /// How many.
        count: u64,
        /// Why.
        reason: String,
    },
    /// The clock was set.
    ClockSet {
        /// Signed nanoseconds.
        by: i64,
    },
    /// `wait_for_clock` is over.
    ClockReady {
        /// True: synchronized; false: the time was up.
        synchronized: bool,
    },
    /// A person holds jobs, or lets them go on.
    Paused {
        /// Which; all of them if none is named.
        job: Option<JobId>,
        /// Whether.
        paused: bool,
    },
}
