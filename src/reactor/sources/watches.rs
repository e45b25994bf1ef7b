//! The sources of the configuration, each behind its own [`SourceHost`].

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::{Interest, Token};

use super::bridge::Bridge;
use super::children::Children;
use super::io::{Io, What};
use super::metrics::Metrics;
use super::source_child::{SourceChild, Whose};
use crate::engine::{Engine, WINDOW};
use crate::exec::Known;
use crate::exec::spec::{Action, ExecSpec};
use crate::model::{Elapsed, JobId, Now, StateWord, TriggerWord};
use crate::store::Store;
use crate::triggers::{Batch, ChildPipes, FdId, Mailbox, Readiness, SeenSnapshot, Source, SourceHost};

/// How many runs must have ended before a source that waits for room is told: one at a time would cost a transaction
/// for each.
const ENOUGH_ROOM: usize = WINDOW / 10;

/// One job's part that its source's calls need.
pub(super) struct Owner {
    pub job: JobId,
    pub name: Arc<str>,
    pub trigger: TriggerWord,
    pub exec: Arc<ExecSpec>,
    pub kill_grace: Duration,
}

/// One job's source and what it has asked for.
struct Watch {
    owner: Owner,
    /// Absent while it is being called.
    source: Option<Box<dyn Source>>,
    asked: Asked,
}

/// What a source has asked the host for.
#[derive(Default)]
struct Asked {
    fds: HashMap<FdId, (OwnedFd, Token)>,
    next_fd: u32,
    wake_at: Option<Elapsed>,
    batch: Option<Batch>,
    warning: Option<String>,
    child: Option<SourceChild>,
    /// It is to be told when there is room for runs.
    wants_room: bool,
    /// It is to be told when a run ends.
    follows_runs: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Watches {
    watches: Vec<Watch>,
}

/// What a source's call may touch besides its own.
pub(super) struct Surroundings<'a> {
    pub now: Now,
    pub io: &'a mut Io,
    pub bridge: &'a mut Bridge,
    pub store: &'a mut Store,
    pub children: &'a Children,
    pub engine: &'a Engine,
    pub metrics: &'a mut Metrics,
}

struct Host<'a, 'b> {
    id: u32,
    owner: &'a Owner,
    asked: &'a mut Asked,
    around: &'a mut Surroundings<'b>,
}

impl Watches {
    /// Adds a job's source and starts it.
    pub fn start(&mut self, owner: Owner, source: Box<dyn Source>, around: &mut Surroundings<'_>) {
        let Ok(id) = u32::try_from(self.watches.len()) else { return };
        self.watches.push(Watch { owner, source: Some(source), asked: Asked::default() });
        let started = self.with(id, around, |source, host| source.start(host));
        if let (Some(Err(reason)), Some(watch)) = (started, self.watches.get_mut(id as usize)) {
            log::error!("{}: the watch could not be started: {reason}", watch.owner.name);
            watch.asked.warning = Some(reason);
        }
    }

    /// Goes on under other numbers of jobs: `keep` gives the owner as it is now, or nothing for a watch that ends.
    pub fn keep(&mut self, keep: impl Fn(&Owner) -> Option<Owner>, around: &mut Surroundings<'_>) {
        for id in self.ids() {
            let watch = &mut self.watches[id as usize];
            match keep(&watch.owner).filter(|_| watch.source.is_some()) {
                Some(owner) => watch.owner = owner,
                None => self.end(id, around),
            }
        }
    }

    /// True if the job has a source.
    pub fn has(&self, job: JobId) -> bool {
        self.watches.iter().any(|watch| watch.owner.job == job && watch.source.is_some())
    }

    fn with<R>(
        &mut self,
        id: u32,
        around: &mut Surroundings<'_>,
        call: impl FnOnce(&mut dyn Source, &mut dyn SourceHost) -> R,
    ) -> Option<R> {
        let watch = self.watches.get_mut(id as usize)?;
        let mut source = watch.source.take()?;
        let mut host = Host { id, owner: &watch.owner, asked: &mut watch.asked, around };
        let result = call(&mut *source, &mut host);
        watch.source = Some(source);
        Some(result)
    }

    pub fn ready(&mut self, id: u32, what: Readiness, around: &mut Surroundings<'_>) {
        self.with(id, around, |source, host| source.ready(host, what));
    }

    /// The child of a source may have ended.
    pub fn reap(&mut self, id: u32, around: &mut Surroundings<'_>) {
        let Some(Watch { owner, asked, .. }) = self.watches.get_mut(id as usize) else { return };
        let Some(child) = &mut asked.child else { return };
        if let Some(exit) = child.reap(around.io, around.children, &owner.name) {
            asked.child = None;
            self.ready(id, Readiness::Exited(exit), around);
        }
    }

    /// Children of sources that are not reaped yet.
    pub fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.watches.iter().filter_map(|watch| watch.asked.child.as_ref().map(SourceChild::known))
    }

    /// Sources with a child whose exit only SIGCHLD tells.
    pub fn without_pidfd(&self) -> Vec<u32> {
        let waits = |watch: &Watch| watch.asked.child.as_ref().is_some_and(|child| !child.has_pidfd());
        (0..).zip(&self.watches).filter(|(_, watch)| waits(watch)).map(|(id, _)| id).collect()
    }

    /// The daemon is asked to stop.
    pub fn close(&mut self, around: &mut Surroundings<'_>) {
        for id in self.ids() {
            self.with(id, around, |source, host| source.close(host));
        }
    }

    /// The daemon is asked to stop at once.
    pub fn kill_children(&mut self) {
        self.watches.iter_mut().filter_map(|watch| watch.asked.child.as_mut()).for_each(SourceChild::kill);
    }

    /// True while a child lives, a batch waits to be stored, or a source has something left to say: not yet the time to
    /// go.
    pub fn is_ending(&self) -> bool {
        let is_busy = |watch: &Watch| watch.asked.child.is_some() || watch.source.as_ref().is_some_and(|s| s.is_busy());
        self.has_batch() || self.watches.iter().any(is_busy)
    }

    /// The source of a job that wants to know how its runs end.
    pub fn follower(&self, job: JobId) -> Option<u32> {
        let mut watches = (0..).zip(&self.watches);
        watches.find(|(_, watch)| watch.owner.job == job && watch.asked.follows_runs).map(|(id, _)| id)
    }

    /// Tells each source that waits for room that there is some.
    pub fn give_room(&mut self, around: &mut Surroundings<'_>) {
        for id in self.ids() {
            let Watch { owner, asked, .. } = &mut self.watches[id as usize];
            if asked.wants_room && around.engine.unended(owner.job) + ENOUGH_ROOM <= WINDOW {
                asked.wants_room = false;
                self.ready(id, Readiness::Room, around);
            }
        }
    }

    fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.watches.len()).unwrap_or(u32::MAX)
    }

    /// Calls each source whose instant is reached.
    pub fn wake_due(&mut self, around: &mut Surroundings<'_>) {
        for id in self.ids() {
            let Watch { owner, asked, .. } = &mut self.watches[id as usize];
            if let Some(child) = &mut asked.child
                && child.kill_at().is_some_and(|at| at <= around.now.elapsed)
            {
                log::warn!("{}: the plugin does not end when asked to, and is killed", owner.name);
                child.kill();
            }
            if asked.wake_at.is_some_and(|at| at <= around.now.elapsed) {
                asked.wake_at = None;
                self.ready(id, Readiness::Timer, around);
            }
        }
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        let kill_at = |watch: &Watch| watch.asked.child.as_ref().and_then(SourceChild::kill_at);
        self.watches.iter().flat_map(|watch| [watch.asked.wake_at, kill_at(watch)]).flatten().min()
    }

    /// True if a batch was handed over and not yet taken.
    pub fn has_batch(&self) -> bool {
        self.watches.iter().any(|watch| watch.asked.batch.is_some())
    }

    /// The batches that were handed over and not yet taken.
    pub fn take_batches(&mut self) -> Vec<(u32, JobId, Batch)> {
        let taken = (0..)
            .zip(&mut self.watches)
            .filter_map(|(id, watch)| watch.asked.batch.take().map(|batch| (id, watch.owner.job, batch)));
        taken.collect()
    }

    /// What is wrong, a line a watch.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.watches.iter().filter_map(|watch| watch.asked.warning.as_ref().map(|text| format!("{}: {text}", watch.owner.name)))
    }

    pub fn stop(&mut self, around: &mut Surroundings<'_>) {
        for id in self.ids() {
            self.end(id, around);
        }
        self.watches.clear();
    }

    /// Ends one; its number stays taken, because readiness may still be on its way to it.
    fn end(&mut self, id: u32, around: &mut Surroundings<'_>) {
        self.with(id, around, |source, host| source.stop(host));
        let watch = &mut self.watches[id as usize];
        watch.source = None;
        let asked = std::mem::take(&mut watch.asked);
        if let Some(child) = asked.child {
            child.discard(around.io);
        }
        for (fd, token) in asked.fds.into_values() {
            around.io.forget(fd.as_raw_fd(), token);
        }
    }
}

impl SourceHost for Host<'_, '_> {
    fn now(&self) -> Now {
        self.around.now
    }

    fn watch_fd(&mut self, fd: OwnedFd) -> io::Result<FdId> {
        let id = FdId(self.asked.next_fd);
        let token = self.around.io.watch(fd.as_raw_fd(), What::Source(self.id, id), Interest::READABLE)?;
        self.asked.next_fd += 1;
        self.asked.fds.insert(id, (fd, token));
        Ok(id)
    }

    fn fd(&self, id: FdId) -> Option<BorrowedFd<'_>> {
        self.asked.fds.get(&id).map(|(fd, _)| fd.as_fd())
    }

    fn drop_fd(&mut self, id: FdId) {
        if let Some((fd, token)) = self.asked.fds.remove(&id) {
            self.around.io.forget(fd.as_raw_fd(), token);
        }
    }

    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.asked.wake_at = at;
    }

    fn emit(&mut self, batch: Batch) {
        debug_assert!(self.asked.batch.is_none(), "a source hands over one batch at a time");
        self.asked.batch = Some(batch);
    }

    fn load_seen(&mut self, identity: &str) -> Result<SeenSnapshot, String> {
        self.around.store.load_seen(self.owner.job, identity).map_err(|error| error.to_string())
    }

    fn warn(&mut self, warning: Option<String>) {
        if let Some(text) = &warning
            && self.asked.warning != warning
        {
            log::warn!("{}: {text}", self.owner.name);
        }
        if warning.is_none() && self.asked.warning.is_some() {
            log::info!("{}: the {} works again", self.owner.name, self.owner.trigger);
        }
        self.asked.warning = warning;
    }

    fn polled(&mut self, works: bool) {
        self.around.metrics.polled(self.owner.job, works, self.around.now.elapsed);
    }

    fn start_child(&mut self, action: &Action) -> Result<ChildPipes, String> {
        debug_assert!(self.asked.child.is_none(), "a source has one child at a time");
        let Owner { name, trigger, exec, .. } = self.owner;
        let whose = Whose { job: name, trigger: *trigger, exec };
        let (child, stdout, stderr) = SourceChild::start(self.around.io, self.around.children, self.id, whose, action)?;
        let unwatched = |error: io::Error| format!("its output can't be watched: {error}");
        // Dropped on an error, the child is killed and reaped.
        let stdout = self.watch_fd(stdout).map_err(unwatched)?;
        let stderr = self.watch_fd(stderr).map_err(unwatched).inspect_err(|_| self.drop_fd(stdout))?;
        self.asked.child = Some(child);
        Ok(ChildPipes { stdout, stderr })
    }

    fn end_child(&mut self) {
        if let Some(child) = &mut self.asked.child {
            child.end(self.around.now.elapsed, self.owner.kill_grace);
        }
    }

    fn room(&mut self) -> usize {
        let room = WINDOW.saturating_sub(self.around.engine.unended(self.owner.job));
        self.asked.wants_room = room == 0;
        room
    }

    fn is_written(&self) -> bool {
        self.around.store.trouble().is_none()
    }

    fn follow_runs(&mut self) {
        self.asked.follows_runs = true;
    }

    fn state_of_run(&mut self, event: &serde_json::Value) -> Result<Option<StateWord>, String> {
        self.around.store.state_of_event(self.owner.job, &event.to_string()).map_err(|error| error.to_string())
    }

    fn mailbox(&mut self) -> Mailbox {
        self.around.bridge.mailbox(self.id)
    }

    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        self.around.bridge.runtime()
    }
}
