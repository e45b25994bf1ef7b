//! The sources of the configuration, each behind its own [`SourceHost`].

mod child;
mod host;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::bridge::Bridge;
use super::helper::Helper;
use super::host::FoundBatch;
use super::io::Io;
use super::processes::{AbandonedStarts, Environment};
use crate::config::{Config, Job};
use crate::engine::rules::JobRules;
use crate::engine::{Engine, MAX_IN_MEMORY};
use crate::exec::Known;
use crate::exec::spec::ExecSpec;
use crate::model::{Batch, Elapsed, JobId, Now, TriggerWord};
use crate::store::Store;
use crate::triggers::{FdId, Readiness, Source, SourceHost};
use child::SourceChild;
use host::Host;

/// How many runs must have ended before a source that waits for room is called: one at a time would cost a transaction
/// for each.
const ENOUGH_ROOM: usize = MAX_IN_MEMORY / 10;

/// The part of a job that its source's calls need.
struct Owner {
    job: JobId,
    name: Arc<str>,
    trigger: TriggerWord,
    exec: Arc<ExecSpec>,
    kill_grace: Duration,
}

impl Owner {
    fn new(id: JobId, job: &Job, rules: &JobRules) -> Owner {
        let (name, exec) = (Arc::clone(&job.name), Arc::clone(&job.exec));
        Owner { job: id, name, trigger: rules.trigger, exec, kill_grace: rules.policy.kill_grace }
    }
}

/// One job's source and what it has asked for.
struct Watch {
    owner: Owner,
    /// Absent while it is being called, and after its end.
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
    /// It is called when there is room for runs.
    wants_room: bool,
    /// It is called when a run ends.
    follows_runs: bool,
    /// It is called when something is mounted or unmounted.
    follows_mounts: bool,
}

/// All of them.
pub(super) struct Sources {
    watches: Vec<Watch>,
    abandoned: AbandonedStarts,
}

/// Counts the looks of sources at what they watch.
pub(super) trait CountPolls {
    /// The source of a job has looked, and could or could not.
    fn polled(&mut self, job: JobId, works: bool, now: Elapsed);
}

/// What a source's call may touch besides its own.
pub(super) struct SourceContext<'a> {
    pub now: Now,
    pub io: &'a mut Io,
    pub bridge: &'a mut Bridge,
    pub store: &'a mut Store,
    pub engine: &'a Engine,
    pub config: &'a Config,
    pub environment: &'a Environment,
    pub polls: &'a mut dyn CountPolls,
    pub helper: &'a mut Helper,
}

impl Sources {
    pub fn new() -> Sources {
        Sources { watches: Vec::new(), abandoned: AbandonedStarts::default() }
    }

    /// Starts the source of each job that should have one and has none.
    pub fn start_missing(&mut self, cx: &mut SourceContext<'_>) {
        let (config, engine) = (cx.config, cx.engine);
        for ((index, job), rules) in (0..).zip(&config.jobs).zip(&engine.rules().jobs) {
            let id = JobId(index);
            if self.has(id) {
                continue;
            }
            let Some(source) = job.trigger.source().filter(|_| rules.enabled) else { continue };
            self.start(Owner::new(id, job, rules), source, cx);
        }
    }

    fn start(&mut self, owner: Owner, source: Box<dyn Source>, cx: &mut SourceContext<'_>) {
        let Ok(id) = u32::try_from(self.watches.len()) else { return };
        self.watches.push(Watch { owner, source: Some(source), asked: Asked::default() });
        let started = self.call(id, cx, |source, host| source.start(host));
        if let (Some(Err(reason)), Some(watch)) = (started, self.watches.get_mut(id as usize)) {
            log::error!("{}: the watch could not be started: {reason}", watch.owner.name);
            watch.asked.warning = Some(reason);
        }
    }

    /// Sources whose trigger is the same go on under the job's new number; the others end.
    pub fn hand_over(&mut self, old: &[Option<Job>], next: &Config, cx: &mut SourceContext<'_>) {
        let new_ids: HashMap<&str, u32> = next.jobs.iter().zip(0..).map(|(job, index)| (&*job.name, index)).collect();
        let engine = cx.engine;
        let rules = &engine.rules().jobs;
        let keep = |was: &Owner| {
            let job = old.get(was.job.index())?.as_ref()?;
            let id = JobId(*new_ids.get(&*job.name)?);
            let (now, rules) = (&next.jobs[id.index()], &rules[id.index()]);
            // A plugin runs as the job's own runs do.
            let same = *job.trigger == *now.trigger && (rules.trigger != TriggerWord::Plugin || job.exec == now.exec);
            (same && rules.enabled).then(|| Owner::new(id, now, rules))
        };
        for id in self.ids() {
            let watch = &mut self.watches[id as usize];
            match keep(&watch.owner).filter(|_| watch.source.is_some()) {
                Some(owner) => watch.owner = owner,
                None => self.end(id, cx),
            }
        }
    }

    fn has(&self, job: JobId) -> bool {
        self.watches.iter().any(|watch| watch.owner.job == job && watch.source.is_some())
    }

    fn call<R>(
        &mut self,
        id: u32,
        cx: &mut SourceContext<'_>,
        call: impl FnOnce(&mut dyn Source, &mut dyn SourceHost) -> R,
    ) -> Option<R> {
        let watch = self.watches.get_mut(id as usize)?;
        let mut source = watch.source.take()?;
        let mut host = Host { id, owner: &watch.owner, asked: &mut watch.asked, cx };
        let result = call(&mut *source, &mut host);
        watch.source = Some(source);
        Some(result)
    }

    /// Something that a source waits for has happened.
    pub fn ready(&mut self, id: u32, what: Readiness, cx: &mut SourceContext<'_>) {
        self.call(id, cx, |source, host| source.ready(host, what));
    }

    /// There is progress with the start of a source's child.
    pub fn start_ready(&mut self, id: u32, cx: &mut SourceContext<'_>) {
        let Some(child) = self.watches.get_mut(id as usize).and_then(|watch| watch.asked.child.as_mut()) else { return };
        if let Some(reason) = child.start_ready(cx.io, id) {
            self.not_started(id, reason, cx);
        }
    }

    fn not_started(&mut self, id: u32, reason: String, cx: &mut SourceContext<'_>) {
        if let Some(watch) = self.watches.get_mut(id as usize) {
            watch.asked.child = None;
        }
        self.ready(id, Readiness::NotStarted(reason), cx);
    }

    /// The child of a source may have ended.
    pub fn reap(&mut self, id: u32, cx: &mut SourceContext<'_>) {
        let Some(Watch { owner, asked, .. }) = self.watches.get_mut(id as usize) else { return };
        let Some(child) = &mut asked.child else { return };
        if let Some(exit) = child.reap(cx.io, cx.environment, &owner.name) {
            asked.child = None;
            self.ready(id, Readiness::Exited(exit), cx);
        }
    }

    /// Children of sources that are not reaped yet.
    pub fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.watches.iter().filter_map(|watch| watch.asked.child.as_ref()?.known()).chain(self.abandoned.known())
    }

    /// Sources with a child whose exit only SIGCHLD reports.
    pub fn without_pidfd(&self) -> Vec<u32> {
        let waits = |watch: &Watch| watch.asked.child.as_ref().is_some_and(SourceChild::lacks_pidfd);
        (0..).zip(&self.watches).filter(|(_, watch)| waits(watch)).map(|(id, _)| id).collect()
    }

    /// The daemon was asked to stop.
    pub fn close(&mut self, cx: &mut SourceContext<'_>) {
        for id in self.ids() {
            self.call(id, cx, |source, host| source.close(host));
            self.give_up_start(id, cx, true);
        }
    }

    fn give_up_start(&mut self, id: u32, cx: &mut SourceContext<'_>, at_once: bool) {
        let Some(child) = self.watches.get_mut(id as usize).and_then(|watch| watch.asked.child.as_mut()) else { return };
        if let Some(reason) = child.give_up_start(cx.io, &mut self.abandoned, cx.now.elapsed, at_once) {
            self.not_started(id, reason, cx);
        }
    }

    /// The daemon was asked to stop at once.
    pub fn kill_children(&mut self) {
        self.watches.iter_mut().filter_map(|watch| watch.asked.child.as_mut()).for_each(SourceChild::kill);
    }

    /// True while a child lives, a batch waits to be stored, or a source still has to report something: the daemon can't
    /// exit yet.
    pub fn is_ending(&self) -> bool {
        let is_busy = |watch: &Watch| watch.asked.child.is_some() || watch.source.as_ref().is_some_and(|s| s.is_busy());
        self.has_batch() || self.watches.iter().any(is_busy)
    }

    /// The source of a job that asked for the ends of its runs.
    pub fn follower(&self, job: JobId) -> Option<u32> {
        let mut watches = (0..).zip(&self.watches);
        watches.find(|(_, watch)| watch.owner.job == job && watch.asked.follows_runs).map(|(id, _)| id)
    }

    /// Calls each source that waits for room and has some.
    pub fn give_room(&mut self, cx: &mut SourceContext<'_>) {
        for id in self.ids() {
            let Watch { owner, asked, .. } = &mut self.watches[id as usize];
            if asked.wants_room && cx.engine.unended(owner.job) + ENOUGH_ROOM <= MAX_IN_MEMORY {
                asked.wants_room = false;
                self.ready(id, Readiness::Room, cx);
            }
        }
    }

    /// True if a source is to be called when something is mounted or unmounted.
    pub fn follow_mounts(&self) -> bool {
        self.watches.iter().any(|watch| watch.asked.follows_mounts)
    }

    /// Something was mounted or unmounted.
    pub fn mounts_changed(&mut self, cx: &mut SourceContext<'_>) {
        for id in self.ids() {
            if self.watches[id as usize].asked.follows_mounts {
                self.ready(id, Readiness::MountsChanged, cx);
            }
        }
    }

    fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.watches.len()).unwrap_or(u32::MAX)
    }

    /// Calls each source whose instant is reached.
    pub fn wake_due(&mut self, cx: &mut SourceContext<'_>) {
        for id in self.ids() {
            self.give_up_start(id, cx, false);
            let Watch { owner, asked, .. } = &mut self.watches[id as usize];
            if let Some(child) = &mut asked.child
                && child.kill_at().is_some_and(|at| at <= cx.now.elapsed)
            {
                log::warn!("{}: the plugin does not end when asked to, and is killed", owner.name);
                child.kill();
            }
            if asked.wake_at.is_some_and(|at| at <= cx.now.elapsed) {
                asked.wake_at = None;
                self.ready(id, Readiness::Timer, cx);
            }
        }
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        let of_child = |watch: &Watch| watch.asked.child.as_ref().and_then(SourceChild::next_wake);
        self.watches.iter().flat_map(|watch| [watch.asked.wake_at, of_child(watch)]).flatten().min()
    }

    /// True if a batch was handed over and not yet taken.
    pub fn has_batch(&self) -> bool {
        self.watches.iter().any(|watch| watch.asked.batch.is_some())
    }

    /// The batches that were handed over and not yet taken.
    pub fn take_batches(&mut self) -> Vec<FoundBatch> {
        let found = (0..).zip(&mut self.watches).filter_map(|(source, watch)| {
            let batch = watch.asked.batch.take()?;
            Some(FoundBatch { source, job: watch.owner.job, batch })
        });
        found.collect()
    }

    /// What is wrong, a line a source.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.watches.iter().filter_map(|watch| watch.asked.warning.as_ref().map(|text| format!("{}: {text}", watch.owner.name)))
    }

    /// Ends all of them.
    pub fn stop(&mut self, cx: &mut SourceContext<'_>) {
        for id in self.ids() {
            self.end(id, cx);
        }
        self.watches.clear();
    }

    /// Ends one; its number stays taken, because readiness may still be on its way to it.
    fn end(&mut self, id: u32, cx: &mut SourceContext<'_>) {
        self.call(id, cx, |source, host| source.stop(host));
        let watch = &mut self.watches[id as usize];
        watch.source = None;
        let asked = std::mem::take(&mut watch.asked);
        if let Some(child) = asked.child {
            child.discard(cx.io, &mut self.abandoned);
        }
        for (fd, token) in asked.fds.into_values() {
            cx.io.deregister(fd.as_raw_fd(), token);
        }
    }
}
