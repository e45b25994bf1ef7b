//! What a source may ask of the loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::Interest;

use super::child::{ChildOwner, SourceChild};
use super::{Asked, Owner, SourceContext};
use crate::engine::MAX_IN_MEMORY;
use crate::exec::spec::Action;
use crate::helper::Request;
use crate::model::{Batch, Elapsed, Now, SeenSnapshot, StateWord};
use crate::reactor::helper::Asker;
use crate::reactor::io::What;
use crate::triggers::{AskId, ChildPipes, FdId, Mailbox, SourceHost};

/// One call of a source.
pub(super) struct Host<'a, 'b> {
    pub id: u32,
    pub owner: &'a Owner,
    pub asked: &'a mut Asked,
    pub cx: &'a mut SourceContext<'b>,
}

impl SourceHost for Host<'_, '_> {
    fn now(&self) -> Now {
        self.cx.now
    }

    fn watch_fd(&mut self, fd: OwnedFd) -> io::Result<FdId> {
        let id = FdId(self.asked.next_fd);
        let token = self.cx.io.watch(fd.as_raw_fd(), What::Source(self.id, id), Interest::READABLE)?;
        self.asked.next_fd += 1;
        self.asked.fds.insert(id, (fd, token));
        Ok(id)
    }

    fn fd(&self, id: FdId) -> Option<BorrowedFd<'_>> {
        self.asked.fds.get(&id).map(|(fd, _)| fd.as_fd())
    }

    fn drop_fd(&mut self, id: FdId) {
        if let Some((fd, token)) = self.asked.fds.remove(&id) {
            self.cx.io.deregister(fd.as_raw_fd(), token);
        }
    }

    fn ask_files(&mut self, request: &Request, fd: Option<OwnedFd>) -> AskId {
        AskId(self.cx.helper.ask(Asker::Source(self.id), request, fd))
    }

    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.asked.wake_at = at;
    }

    fn emit(&mut self, batch: Batch) {
        debug_assert!(self.asked.batch.is_none(), "a source hands over one batch at a time");
        self.asked.batch = Some(batch);
    }

    fn load_seen(&mut self, identity: &str) -> Result<SeenSnapshot, String> {
        self.cx.store.load_seen(self.owner.job, identity).map_err(|error| error.to_string())
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
        self.cx.polls.polled(self.owner.job, works, self.cx.now.elapsed);
    }

    fn start_child(&mut self, action: &Action) -> Result<ChildPipes, String> {
        debug_assert!(self.asked.child.is_none(), "a source has one child at a time");
        let Owner { name, trigger, exec, .. } = self.owner;
        let owner = ChildOwner { job: name, trigger: *trigger, exec };
        let (child, stdout, stderr) =
            SourceChild::start(self.cx.io, self.cx.environment, self.id, owner, action, self.cx.now.elapsed)?;
        let unwatched = |error: io::Error| format!("its output can't be watched: {error}");
        // Dropped on an error, the child is killed and reaped.
        let stdout = self.watch_fd(stdout).map_err(unwatched)?;
        let stderr = self.watch_fd(stderr).map_err(unwatched).inspect_err(|_| self.drop_fd(stdout))?;
        self.asked.child = Some(child);
        Ok(ChildPipes { stdout, stderr })
    }

    fn end_child(&mut self) {
        if let Some(child) = &mut self.asked.child {
            child.end(self.cx.now.elapsed, self.owner.kill_grace);
        }
    }

    fn room(&mut self) -> usize {
        let room = MAX_IN_MEMORY.saturating_sub(self.cx.engine.unended(self.owner.job));
        self.asked.wants_room = room == 0;
        room
    }

    fn is_written(&self) -> bool {
        self.cx.store.trouble().is_none()
    }

    fn follow_mounts(&mut self) {
        self.asked.follows_mounts = true;
    }

    fn follow_runs(&mut self) {
        self.asked.follows_runs = true;
    }

    fn state_of_run(&mut self, event: &serde_json::Value) -> Result<Option<StateWord>, String> {
        self.cx.store.state_of_event(self.owner.job, &event.to_string()).map_err(|error| error.to_string())
    }

    fn mailbox(&mut self) -> Mailbox {
        self.cx.bridge.mailbox(self.id)
    }

    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        self.cx.bridge.runtime()
    }
}
