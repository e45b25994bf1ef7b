//! The interface between sources of external events and the reactor.
//!
//! A [`Source`] never blocks and has no access to the poller: it asks its [`SourceHost`] to watch a descriptor, to set a
//! timer, or to run a future on the S3 runtime, and is called back through [`Source::ready`]. It hands over events as a
//! [`Batch`]; the reactor stores the batch's seen objects and the runs of its events in one transaction and answers
//! [`Readiness::Recorded`]. Until then the source emits no further batch, which provides back-pressure and is the reason why
//! a crash neither loses nor duplicates an event.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::exec::spec::Action;
use crate::helper::{Request, Response};
use crate::model::{Batch, Elapsed, Exit, Now, SeenSnapshot, StateWord};

/// Identifies a descriptor that the host watches for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdId(pub u32);

/// Identifies a request to the helper process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskId(pub u64);

/// The reason why a source is called.
#[derive(Debug)]
pub enum Readiness {
    /// A watched descriptor is readable or was hung up. Edge-triggered: read it until it would block.
    Fd(FdId),
    /// The timer of [`SourceHost::wake_at`] has expired.
    Timer,
    /// A part of the answer to [`SourceHost::ask_files`].
    Files {
        /// What was asked.
        ask: AskId,
        /// What became of it.
        response: Response,
    },
    /// Something was mounted or unmounted, anywhere; only after [`SourceHost::follow_mounts`].
    MountsChanged,
    /// A message from a [`Mailbox`].
    Message(Box<dyn Any + Send>),
    /// The batch given to [`SourceHost::emit`] is in the store.
    Recorded,
    /// The batch could not be stored and had no effect; its events have to be found again.
    NotRecorded,
    /// The child has exited, and nothing of its process group is left. Its pipes may still hold output.
    Exited(Exit),
    /// The child could not be started after all; a sentence why. Its pipes are still the source's to drop.
    NotStarted(String),
    /// There is room for runs again, after [`SourceHost::room`] was 0.
    Room,
    /// A run of the job has ended, with all its retries; only after [`SourceHost::follow_runs`].
    RunEnded {
        /// The payload of the run's event; null if it had none.
        event: serde_json::Value,
        /// The final state.
        state: StateWord,
    },
}

/// The read ends of a child's outputs: watched and non-blocking; to be released with [`SourceHost::drop_fd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildPipes {
    /// Its stdout.
    pub stdout: FdId,
    /// Its stderr.
    pub stderr: FdId,
}

/// Sends messages from the other thread to one source, or to another part of the reactor, and wakes the loop. Dropping it has
/// no effect.
#[derive(Clone)]
pub struct Mailbox {
    send: Arc<dyn Fn(Box<dyn Any + Send>) + Send + Sync>,
}

impl Mailbox {
    /// A mailbox that delivers through this function.
    #[must_use]
    pub fn new(send: Arc<dyn Fn(Box<dyn Any + Send>) + Send + Sync>) -> Mailbox {
        Mailbox { send }
    }

    /// Sends a message, which a source gets as [`Readiness::Message`]. Never blocks.
    pub fn send(&self, message: Box<dyn Any + Send>) {
        (self.send)(message);
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

/// The services of the reactor for one source.
pub trait SourceHost {
    /// Both clocks, as of the start of this turn of the loop.
    fn now(&self) -> Now;

    /// Watches a non-blocking descriptor for readability; the host owns and closes it.
    ///
    /// # Errors
    /// What epoll_ctl(2) said.
    fn watch_fd(&mut self, fd: OwnedFd) -> io::Result<FdId>;

    /// The descriptor behind an id, to read from.
    fn fd(&self, id: FdId) -> Option<std::os::fd::BorrowedFd<'_>>;

    /// Stops watching and closes.
    fn drop_fd(&mut self, id: FdId);

    /// Asks the helper process ([`crate::helper`]) about files that may hang, which the source's own calls must not touch. The
    /// answer comes as [`Readiness::Files`], in parts.
    fn ask_files(&mut self, request: &Request, fd: Option<OwnedFd>) -> AskId;

    /// Sets the source's only timer, which calls back with [`Readiness::Timer`]; `None` cancels it.
    fn wake_at(&mut self, at: Option<Elapsed>);

    /// Hands over a batch; see the module. At most one batch may be in flight.
    fn emit(&mut self, batch: Batch);

    /// Loads the objects that this watch has seen. `identity` identifies what is watched (endpoint, bucket, prefix; a path): when
    /// it differs from the one stored for the job, the result is empty and the store deletes the old objects.
    ///
    /// # Errors
    /// A sentence, when the store can't be read.
    fn load_seen(&mut self, identity: &str) -> Result<SeenSnapshot, String>;

    /// Sets the warning of the job in `status`, and logs it when it is new; `None` clears it.
    fn warn(&mut self, warning: Option<String>);

    /// Counts a poll, for metrics.
    fn polled(&mut self, _works: bool) {}

    /// Begins to start a program like a run of the job (variables, directory, account, limits except for CPU time), in a
    /// session of its own. One at a time; its exit comes as [`Readiness::Exited`], and [`Readiness::NotStarted`] if there was
    /// nothing to execute. The child is terminated when the daemon stops, and
    /// killed by the next daemon if this one crashes.
    ///
    /// # Errors
    /// A sentence why it could not be started.
    fn start_child(&mut self, action: &Action) -> Result<ChildPipes, String>;

    /// Terminates the child's process group: SIGTERM now, SIGKILL after the job's `kill_grace`.
    fn end_child(&mut self);

    /// How many more events the job can take before its pending runs reach the limit in memory. A source that can apply
    /// back-pressure to its sender does so while this is 0; [`Readiness::Room`] follows.
    fn room(&mut self) -> usize;

    /// False while a write has failed, so that recorded runs are in memory alone: no event may be acknowledged to its sender.
    /// The next batch, even an empty one, has the write tried again.
    fn is_written(&self) -> bool;

    /// Subscribes to [`Readiness::MountsChanged`], for a source that calls on paths because they led over local file systems when
    /// it asked.
    fn follow_mounts(&mut self);

    /// Subscribes to [`Readiness::RunEnded`], for a source that acknowledges events after their runs.
    fn follow_runs(&mut self);

    /// The state of the latest run of this event in the store; `None` if there is none. It scans the job's history, so it is for
    /// rare cases.
    ///
    /// # Errors
    /// A sentence, when the store can't be read.
    fn state_of_run(&mut self, event: &serde_json::Value) -> Result<Option<StateWord>, String>;

    /// The mailbox by which other threads reach this source.
    fn mailbox(&mut self) -> Mailbox;

    /// The tokio current-thread runtime on its own thread, started on first use.
    ///
    /// # Errors
    /// When the thread can't be started.
    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle>;
}

/// A source of external events, for one job.
pub trait Source {
    /// Starts to watch.
    ///
    /// # Errors
    /// A sentence for `status`; the job is shown as broken and the daemon goes on.
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String>;

    /// The host reports something.
    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness);

    /// The daemon shuts down: starts what takes time to finish. Batches may be emitted until [`Source::stop`]; their runs are
    /// executed after the next start. The daemon waits for the child, for a batch in flight, and while the source
    /// [is busy](Source::is_busy).
    fn close(&mut self, _host: &mut dyn SourceHost) {}

    /// After [`Source::close`]: true while acknowledgements are outstanding. It has to become false by itself, soon.
    fn is_busy(&self) -> bool {
        false
    }

    /// The job is removed or the daemon stops: releases what the host does not own.
    fn stop(&mut self, host: &mut dyn SourceHost);
}
