//! A host for one source: messages from a real S3 thread, a manual clock, and a store that commits, fails or crashes as the
//! test wants.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use firelink::exec::spec::Action;
use firelink::helper::Request;
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject, SeenSnapshot};
use firelink::model::{Elapsed, Now, StateWord, WallTime};
use firelink::triggers::s3::S3Watch;
use firelink::triggers::{AskId, ChildPipes, FdId, Mailbox, Readiness, Source, SourceHost};
use serde_json::Value;

/// How long a poll may take before the test is called stuck.
const STUCK: Duration = Duration::from_secs(90);

/// The S3 thread.
pub struct S3Thread {
    handle: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Thread {
    pub fn start() -> Arc<S3Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Arc::new(S3Thread { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

impl Drop for S3Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub identity: String,
    pub baseline_done: bool,
    pub objects: BTreeMap<ObjectKey, ObjectVersion>,
    pub events: Vec<Value>,
}

impl Store {
    fn commit(&mut self, batch: Batch) {
        self.events.extend(batch.events);
        self.objects.extend(batch.seen.into_iter().map(|seen| (seen.key, seen.version)));
        for key in batch.gone {
            assert!(self.objects.remove(&key).is_some(), "only what was seen can leave");
        }
        self.baseline_done |= batch.baseline_done;
    }

    /// The keys of the events, in their order.
    pub fn keys(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["key"].as_str()).collect()
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Commit,
    Refuse,
    CrashBeforeCommit,
    CrashAfterCommit,
}

struct Host {
    now: Now,
    store: Store,
    thread: Arc<S3Thread>,
    mailbox: Mailbox,
    emitted: Option<Batch>,
    wake: Option<Elapsed>,
    warnings: Vec<Option<String>>,
    /// True if what is committed is not kept, to measure the source alone.
    forgetful: bool,
    /// What the store answers about the runs of events.
    states: Vec<(Value, StateWord)>,
    /// What was committed is in memory alone.
    unwritten: bool,
}

impl SourceHost for Host {
    fn now(&self) -> Now {
        self.now
    }
    fn watch_fd(&mut self, _: OwnedFd) -> io::Result<FdId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn fd(&self, _: FdId) -> Option<BorrowedFd<'_>> {
        None
    }
    fn drop_fd(&mut self, _: FdId) {}
    fn ask_files(&mut self, _: &Request, _: Option<OwnedFd>) -> AskId {
        unreachable!("it looks at no files")
    }
    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.wake = at;
    }
    fn emit(&mut self, batch: Batch) {
        assert!(self.emitted.replace(batch).is_none(), "at most one batch is under way");
    }
    fn load_seen(&mut self, identity: &str) -> Result<SeenSnapshot, String> {
        if self.store.identity != identity {
            let events = std::mem::take(&mut self.store.events);
            self.store = Store { identity: identity.to_owned(), events, ..Store::default() };
        }
        let objects = self.store.objects.iter().map(|(key, version)| SeenObject { key: *key, version: *version });
        Ok(SeenSnapshot { baseline_done: self.store.baseline_done, objects: objects.collect() })
    }
    fn start_child(&mut self, _: &Action) -> Result<ChildPipes, String> {
        Err("an S3 watch starts nothing".into())
    }
    fn end_child(&mut self) {}
    fn room(&mut self) -> usize {
        usize::MAX
    }
    fn warn(&mut self, warning: Option<String>) {
        self.warnings.push(warning);
    }
    fn is_written(&self) -> bool {
        !self.unwritten
    }
    fn follow_mounts(&mut self) {}
    fn follow_runs(&mut self) {}
    fn state_of_run(&mut self, event: &Value) -> Result<Option<StateWord>, String> {
        Ok(self.states.iter().rev().find(|(of, _)| of == event).map(|(_, state)| *state))
    }
    fn mailbox(&mut self) -> Mailbox {
        self.mailbox.clone()
    }
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        Ok(self.thread.handle().clone())
    }
}

/// One watch at work.
pub struct Bench {
    source: Box<dyn Source>,
    host: Host,
    inbox: Receiver<Box<dyn Any + Send>>,
    /// Every batch that was handed over, with what became of it.
    pub batches: Vec<(Fate, BatchSize)>,
}

/// How much stood in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    pub events: usize,
    pub seen: usize,
    pub gone: usize,
}

impl Bench {
    /// Starts the watch on what an earlier one left.
    pub fn start(watch: &S3Watch, store: Store, thread: &Arc<S3Thread>) -> Bench {
        Bench::of(watch.source(), store, thread)
    }

    /// Starts any source.
    pub fn of(mut source: Box<dyn Source>, store: Store, thread: &Arc<S3Thread>) -> Bench {
        let (sender, inbox) = channel();
        let mailbox = Mailbox::new(Arc::new(move |message| {
            // After a crash nobody listens.
            let _ = sender.send(message);
        }));
        let now = Now { wall: WallTime::from_secs(1_700_000_000), elapsed: Elapsed::from_nanos(1) };
        let thread = thread.clone();
        let mut host = Host {
            now,
            store,
            thread,
            mailbox,
            emitted: None,
            wake: None,
            warnings: Vec::new(),
            forgetful: false,
            states: Vec::new(),
            unwritten: false,
        };
        source.start(&mut host).expect("a source that starts");
        Bench { source, host, inbox, batches: Vec::new() }
    }

    /// Keeps nothing of what is committed from now on.
    pub fn forgetful(mut self) -> Bench {
        self.host.forgetful = true;
        self
    }

    /// Lets one poll happen from beginning to end, with each batch committed.
    pub fn poll(&mut self) -> &mut Bench {
        assert!(self.poll_with(|_| Fate::Commit));
        self
    }

    /// Lets one poll happen; `fate` is asked for each batch. False if the daemon died of it.
    pub fn poll_with(&mut self, mut fate: impl FnMut(&Batch) -> Fate) -> bool {
        if let Some(at) = self.host.wake.take() {
            self.host.now.elapsed = at;
            self.source.ready(&mut self.host, Readiness::Timer);
        }
        while self.host.wake.is_none() {
            let message = self.inbox.recv_timeout(STUCK).expect("the poll goes on");
            self.source.ready(&mut self.host, Readiness::Message(message));
            if let Some(batch) = self.host.emitted.take() {
                let fate = fate(&batch);
                let size = BatchSize { events: batch.events.len(), seen: batch.seen.len(), gone: batch.gone.len() };
                self.batches.push((fate, size));
                if matches!(fate, Fate::Commit | Fate::CrashAfterCommit) && !self.host.forgetful {
                    self.host.store.commit(batch);
                }
                let answer = match fate {
                    Fate::Commit => Readiness::Recorded,
                    Fate::Refuse => Readiness::NotRecorded,
                    Fate::CrashBeforeCommit | Fate::CrashAfterCommit => return false,
                };
                self.source.ready(&mut self.host, answer);
            }
        }
        true
    }

    /// Hears what comes from the S3 thread, and commits, until this holds.
    pub fn hear_until(&mut self, what: &str, mut holds: impl FnMut(&Bench) -> bool) -> &mut Bench {
        self.commit();
        while !holds(self) {
            let message = self.inbox.recv_timeout(STUCK).unwrap_or_else(|_| panic!("{what} never came"));
            self.say(Readiness::Message(message));
        }
        self
    }

    /// Hears one thing from the S3 thread.
    pub fn hear_one(&mut self) {
        let message = self.inbox.recv_timeout(STUCK).expect("something from the S3 thread");
        self.say(Readiness::Message(message));
    }

    /// Calls the source, and commits what it hands over.
    pub fn say(&mut self, what: Readiness) {
        self.source.ready(&mut self.host, what);
        self.commit();
    }

    fn commit(&mut self) {
        while let Some(batch) = self.host.emitted.take() {
            self.host.store.commit(batch);
            self.source.ready(&mut self.host, Readiness::Recorded);
        }
    }

    /// A run ends, in this state.
    pub fn end_run(&mut self, event: &Value, state: StateWord) {
        self.say(Readiness::RunEnded { event: event.clone(), state });
    }

    /// Lets time pass; the source is woken if it has asked for that.
    pub fn advance(&mut self, time: Duration) {
        self.host.now.elapsed = self.host.now.elapsed + time;
        if self.host.wake.take_if(|at| *at <= self.host.now.elapsed).is_some() {
            self.say(Readiness::Timer);
        }
    }

    /// What the history says of the run of an event.
    pub fn history_says(&mut self, event: &Value, state: StateWord) {
        self.host.states.push((event.clone(), state));
    }

    /// Whether the disk takes what is committed.
    pub fn disk_works(&mut self, works: bool) {
        self.host.unwritten = !works;
    }

    /// The daemon is asked to stop.
    pub fn close(&mut self) {
        self.source.close(&mut self.host);
        self.commit();
    }

    pub fn is_busy(&self) -> bool {
        self.source.is_busy()
    }

    pub fn store(&self) -> &Store {
        &self.host.store
    }

    /// The warning that shows now.
    pub fn warning(&self) -> Option<&str> {
        self.host.warnings.last().and_then(Option::as_deref)
    }

    /// How long until the next poll.
    pub fn wait(&self) -> Duration {
        self.host.wake.expect("a poll that is over").since(self.host.now.elapsed)
    }

    /// The daemon dies; what it had stored stays.
    pub fn crash(self) -> Store {
        self.host.store
    }

    /// The job is taken away.
    pub fn stop(&mut self) {
        self.source.stop(&mut self.host);
    }

    /// True once the poller is gone and can't send any more.
    pub fn is_silent(&mut self) -> bool {
        let gone = Mailbox::new(Arc::new(|_| {}));
        self.host.mailbox = gone;
        loop {
            match self.inbox.recv_timeout(STUCK) {
                Ok(_) => {}
                Err(e) => return e == std::sync::mpsc::RecvTimeoutError::Disconnected,
            }
        }
    }
}
