//! The sources of the configuration, each behind its own [`SourceHost`].

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mio::{Interest, Token};

use super::bridge::Bridge;
use super::io::{Io, What};
use crate::model::{Elapsed, JobId, Now};
use crate::store::Store;
use crate::triggers::{Batch, FdId, Mailbox, Readiness, SeenSnapshot, Source, SourceHost};

/// One job's source and what it has asked for.
struct Watch {
    job: JobId,
    name: Arc<str>,
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
}

struct Host<'a, 'b> {
    id: u32,
    job: JobId,
    name: &'a str,
    asked: &'a mut Asked,
    around: &'a mut Surroundings<'b>,
}

impl Watches {
    /// Adds a job's source and starts it.
    pub fn start(&mut self, job: JobId, name: Arc<str>, source: Box<dyn Source>, around: &mut Surroundings<'_>) {
        let Ok(id) = u32::try_from(self.watches.len()) else { return };
        self.watches.push(Watch { job, name, source: Some(source), asked: Asked::default() });
        let started = self.with(id, around, |source, host| source.start(host));
        if let (Some(Err(reason)), Some(watch)) = (started, self.watches.get_mut(id as usize)) {
            log::error!("{}: the watch could not be started: {reason}", watch.name);
            watch.asked.warning = Some(reason);
        }
    }

    /// Goes on under other numbers of jobs: `keep` gives the new one, or nothing for a watch that ends.
    pub fn keep(&mut self, keep: impl Fn(JobId) -> Option<JobId>, around: &mut Surroundings<'_>) {
        for id in 0..u32::try_from(self.watches.len()).unwrap_or(u32::MAX) {
            let watch = &mut self.watches[id as usize];
            match keep(watch.job).filter(|_| watch.source.is_some()) {
                Some(job) => watch.job = job,
                None => self.end(id, around),
            }
        }
    }

    /// True if the job has a source.
    pub fn has(&self, job: JobId) -> bool {
        self.watches.iter().any(|watch| watch.job == job && watch.source.is_some())
    }

    fn with<R>(
        &mut self,
        id: u32,
        around: &mut Surroundings<'_>,
        call: impl FnOnce(&mut dyn Source, &mut dyn SourceHost) -> R,
    ) -> Option<R> {
        let watch = self.watches.get_mut(id as usize)?;
        let mut source = watch.source.take()?;
        let mut host = Host { id, job: watch.job, name: &watch.name, asked: &mut watch.asked, around };
        let result = call(&mut *source, &mut host);
        watch.source = Some(source);
        Some(result)
    }

    pub fn ready(&mut self, id: u32, what: Readiness, around: &mut Surroundings<'_>) {
        self.with(id, around, |source, host| source.ready(host, what));
    }

    /// Calls each source whose instant is reached.
    pub fn wake_due(&mut self, around: &mut Surroundings<'_>) {
        for id in 0..u32::try_from(self.watches.len()).unwrap_or(u32::MAX) {
            let asked = &mut self.watches[id as usize].asked;
            if asked.wake_at.is_some_and(|at| at <= around.now.elapsed) {
                asked.wake_at = None;
                self.ready(id, Readiness::Timer, around);
            }
        }
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        self.watches.iter().filter_map(|watch| watch.asked.wake_at).min()
    }

    /// True if a batch was handed over and not yet taken.
    pub fn has_batch(&self) -> bool {
        self.watches.iter().any(|watch| watch.asked.batch.is_some())
    }

    /// The batches that were handed over and not yet taken.
    pub fn take_batches(&mut self) -> Vec<(u32, JobId, Batch)> {
        let taken =
            (0..).zip(&mut self.watches).filter_map(|(id, watch)| watch.asked.batch.take().map(|batch| (id, watch.job, batch)));
        taken.collect()
    }

    /// What is wrong, a line a watch.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.watches.iter().filter_map(|watch| watch.asked.warning.as_ref().map(|text| format!("{}: {text}", watch.name)))
    }

    pub fn stop(&mut self, around: &mut Surroundings<'_>) {
        for id in 0..u32::try_from(self.watches.len()).unwrap_or(u32::MAX) {
            self.end(id, around);
        }
        self.watches.clear();
    }

    /// Ends one; its number stays taken, because readiness may still be on its way to it.
    fn end(&mut self, id: u32, around: &mut Surroundings<'_>) {
        self.with(id, around, |source, host| source.stop(host));
        let watch = &mut self.watches[id as usize];
        watch.source = None;
        for (fd, token) in std::mem::take(&mut watch.asked).fds.into_values() {
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
        self.around.store.load_seen(self.job, identity).map_err(|error| error.to_string())
    }

    fn warn(&mut self, warning: Option<String>) {
        if let Some(text) = &warning
            && self.asked.warning != warning
        {
            log::warn!("{}: {text}", self.name);
        }
        if warning.is_none() && self.asked.warning.is_some() {
            log::info!("{}: the watch works again", self.name);
        }
        self.asked.warning = warning;
    }

    fn mailbox(&mut self) -> Mailbox {
        self.around.bridge.mailbox(self.id)
    }

    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        self.around.bridge.runtime()
    }
}
