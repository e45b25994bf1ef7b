//! The door between a trigger that waits for the world and the reactor that waits for everything.
//!
//! A [`Source`] never blocks and never reaches into the poller: it asks its [`SourceHost`] to watch a descriptor, to
//! wake it at an instant, or to run a future on the S3 runtime, and it is called back through [`Source::ready`]. What
//! it found it hands over as a [`Batch`]; the reactor stores the batch's seen objects and the runs made of its events
//! in one transaction and answers [`Readiness::Recorded`]. Until then a source sends no further batch, which is both
//! the back-pressure and the reason why a crash neither loses nor doubles an event.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::exec::spec::Action;
use crate::model::{Batch, Elapsed, Exit, Now, SeenSnapshot, StateWord};

/// Names a descriptor that a source asked the host to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdId(pub u32);

/// Why a source is called.
#[derive(Debug)]
pub enum Readiness {
    /// A watched descriptor is readable or was hung up. Read it until it would block: notice comes once per edge.
    Fd(FdId),
    /// The instant asked for with [`SourceHost::wake_at`] is reached.
    Timer,
    /// Something sent through a [`Mailbox`].
    Message(Box<dyn Any + Send>),
    /// The batch given to [`SourceHost::emit`] is in the store.
    Recorded,
    /// The batch could not be stored; nothing of it took effect, and it must be found again.
    NotRecorded,
    /// The child has ended, and nothing of its process group is left. Its pipes may still hold something.
    Exited(Exit),
    /// There is room for runs again, after [`SourceHost::room`] was 0.
    Room,
    /// A run of the job has ended, its retries included; told only after [`SourceHost::follow_runs`].
    RunEnded {
        /// The payload of the run's event; null if it had none.
        event: serde_json::Value,
        /// In which state.
        state: StateWord,
    },
}

/// The read ends of a child's outputs; watched, non-blocking, to be given back with [`SourceHost::drop_fd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildPipes {
    /// Its stdout.
    pub stdout: FdId,
    /// Its stderr.
    pub stderr: FdId,
}

/// Sends messages to one source, or to the loop itself, from the other thread; wakes the reactor. Dropping every clone closes nothing.
#[derive(Clone)]
pub struct Mailbox {
    send: Arc<dyn Fn(Box<dyn Any + Send>) + Send + Sync>,
}

impl Mailbox {
    /// A mailbox over whatever carries messages to the reactor.
    #[must_use]
    pub fn new(send: Arc<dyn Fn(Box<dyn Any + Send>) + Send + Sync>) -> Mailbox {
        Mailbox { send }
    }

    /// Hands a message over; the source gets it as [`Readiness::Message`]. Never blocks.
    pub fn send(&self, message: Box<dyn Any + Send>) {
        (self.send)(message);
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

/// What a source may ask of the reactor. All of it is about this source alone.
pub trait SourceHost {
    /// Both clocks, as read at the start of this turn of the loop.
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

    /// Calls back with [`Readiness::Timer`] at this instant; `None` takes the wish back. One timer a source.
    fn wake_at(&mut self, at: Option<Elapsed>);

    /// Hands over what was found; see the module for the promise. At most one batch may be under way.
    fn emit(&mut self, batch: Batch);

    /// What the store knows of this watch. `identity` says what is watched (endpoint, bucket, prefix; a path): when
    /// it differs from the one stored for the job, the answer is empty and the store forgets the old objects.
    ///
    /// # Errors
    /// A sentence, when the store can't be read.
    fn load_seen(&mut self, identity: &str) -> Result<SeenSnapshot, String>;

    /// Shows a warning for the job in `status` and logs it when it is new; `None` clears it.
    fn warn(&mut self, warning: Option<String>);

    /// The source has looked at what it watches, and could or could not. Only counted.
    fn polled(&mut self, _works: bool) {}

    /// Starts a program in the surroundings of the job's own runs (variables, directory, account, limits but for CPU
    /// time), in a process group of its own. One at a time; its end comes as [`Readiness::Exited`]. Whatever becomes of
    /// the daemon, the child does not outlive it for long: it is ended with the daemon, or by the next one.
    ///
    /// # Errors
    /// Why it could not be started, for a person.
    fn start_child(&mut self, action: &Action) -> Result<ChildPipes, String>;

    /// Asks the child's process group to end: SIGTERM now, SIGKILL when the job's `kill_grace` is over.
    fn end_child(&mut self);

    /// How many more events of this job make runs before those that wait would fill the window that memory has for
    /// them. A source that can make whoever sends events wait does so while this is 0; [`Readiness::Room`] follows.
    fn room(&mut self) -> usize;

    /// False while the disk refuses what was recorded, which then is in memory alone: no one outside should be told that
    /// an event is taken care of. The next batch, empty or not, has it tried again.
    fn is_written(&self) -> bool;

    /// Asks for [`Readiness::RunEnded`] from now on, for a source that owes someone an answer about its events.
    fn follow_runs(&mut self);

    /// The state of the latest run that was made of this event, as the store has it; `None` if it knows of none. It
    /// looks through the job's history, so it is for what is rare.
    ///
    /// # Errors
    /// A sentence, when the store can't be read.
    fn state_of_run(&mut self, event: &serde_json::Value) -> Result<Option<StateWord>, String>;

    /// A way for other threads to reach this source.
    fn mailbox(&mut self) -> Mailbox;

    /// The tokio current-thread runtime on its own thread, started on first need.
    ///
    /// # Errors
    /// What starting the thread said.
    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle>;
}

/// What waits for events outside, for one job.
pub trait Source {
    /// Begins to wait.
    ///
    /// # Errors
    /// A sentence for the person who must act; the job is then shown as broken and the daemon goes on.
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String>;

    /// Something that the source waits for has happened.
    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness);

    /// The daemon has been asked to stop: what takes time to end should begin to. Events may be handed over until
    /// [`Source::stop`]; their runs wait for the next start. The daemon waits for the child, for a batch under way, and
    /// while the source [is busy](Source::is_busy).
    fn close(&mut self, _host: &mut dyn SourceHost) {}

    /// After [`Source::close`]: true while someone outside must still be told something. It has to end by itself, soon.
    fn is_busy(&self) -> bool {
        false
    }

    /// The job is gone or the daemon ends: release what the host does not own.
    fn stop(&mut self, host: &mut dyn SourceHost);
}
