//! Bugs that can be switched on, to see whether the tests would find them.
//!
//! A simulation that never fails proves nothing until it is seen to fail. Each place that is named here asks
//! [`is`] and does the wrong thing if the answer is yes. The switch is a thread's own and exists in debug builds only: in
//! a release the question is the constant `false`, and nothing of it is left.

/// The bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Engine: one more attempt than `max_parallel` may be alive.
    OneTooMany,
    /// Engine: a start does not take its dependencies in.
    CreditsKept,
    /// Engine: a clock set back forgets what was lived through.
    TimelineForgotten,
    /// Engine: of several times that were made up for only the last is remembered.
    MadeUpForgotten,
    /// Engine: a waiting run that is cancelled keeps its place in the queue.
    CancelledStillWaits,
    /// Engine: what an earlier daemon left running does not count as alive.
    AdoptedNotCounted,
    /// Engine: the timeout of an attempt ends the next one.
    OldTimeout,
    /// Reactor: a process starts before its record is committed.
    SpawnBeforeCommit,
    /// Reactor: `commit_every` holds everything back.
    EverythingHeld,
    /// Reactor: what `commit_every` holds back is not written when its time comes.
    HeldTooLong,
    /// Reactor: a turn's records are written in the wrong order.
    RecordsReversed,
}

impl Bug {
    /// All of them.
    pub const ALL: &'static [Bug] = &[
        Bug::OneTooMany,
        Bug::CreditsKept,
        Bug::TimelineForgotten,
        Bug::MadeUpForgotten,
        Bug::CancelledStillWaits,
        Bug::AdoptedNotCounted,
        Bug::OldTimeout,
        Bug::SpawnBeforeCommit,
        Bug::EverythingHeld,
        Bug::HeldTooLong,
        Bug::RecordsReversed,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Switches one on, or all off, for this thread. Does nothing in a release.
pub fn plant(bug: Option<Bug>) {
    #[cfg(debug_assertions)]
    PLANTED.set(bug);
    #[cfg(not(debug_assertions))]
    let _ = bug;
}

/// Whether this one is on.
#[cfg(debug_assertions)]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this one is on: never.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}
