//! inotify(7) for one watched folder: which directories are watched, and what an event means.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{self, AddWatchFlags, InitFlags, InotifyEvent, WatchDescriptor};

use crate::triggers::{FdId, SourceHost};

/// Reads of the kernel's queue in one turn, about a hundred events each.
const READS_PER_TURN: usize = 32;

/// The events of interest in a watched directory.
pub(super) const OF_DIRECTORY: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// The events of interest in an ancestor of a folder that does not exist.
pub(super) const OF_ANCESTOR: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// An inotify instance.
pub(super) struct Inotify {
    inotify: inotify::Inotify,
    fd: FdId,
    /// By the number of its descriptor.
    watches: HashMap<i32, Watch>,
}

struct Watch {
    /// Relative to the root; `None` for an ancestor of a root that does not exist.
    directory: Option<PathBuf>,
    /// Absent if the helper process has added the watch.
    descriptor: Option<WatchDescriptor>,
}

/// What has happened; paths are relative to the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The kernel's queue overflowed: events were lost.
    Overflow,
    /// The root was created, removed or moved, or may have been.
    Root,
    /// A directory appeared.
    DirectoryAppeared(PathBuf),
    /// A directory was moved away, with all that is below it.
    DirectoryLeft(PathBuf),
    /// A file was closed after writing, or moved in.
    Complete(PathBuf),
    /// A file or link was created. If it is a link it is complete; a regular file is reported again when it is closed.
    Created(PathBuf),
    /// A file was removed or moved away.
    Gone(PathBuf),
}

impl Inotify {
    /// An instance without watches, registered with the host.
    ///
    /// # Errors
    /// What inotify_init1(2) or epoll_ctl(2) said.
    pub fn open(host: &mut dyn SourceHost) -> io::Result<Inotify> {
        let inotify = inotify::Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // The host waits on a duplicate of the descriptor, and closes that one.
        let fd = host.watch_fd(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Inotify { inotify, fd, watches: HashMap::new() })
    }

    pub fn close(self, host: &mut dyn SourceHost) {
        host.drop_fd(self.fd);
    }

    /// Watches a directory by a path that can't hang; `directory` is relative to the root.
    ///
    /// # Errors
    /// What inotify_add_watch(2) said.
    pub fn watch(&mut self, path: &Path, directory: PathBuf) -> Result<(), Errno> {
        let descriptor = self.inotify.add_watch(path, OF_DIRECTORY)?;
        let watch = Watch { directory: Some(directory), descriptor: Some(descriptor) };
        self.watches.insert(descriptor.as_raw(), watch);
        Ok(())
    }

    /// A watch that the helper process has added to this instance: of a directory, or of an ancestor of the root.
    pub fn added(&mut self, descriptor: i32, directory: Option<PathBuf>) {
        self.watches.insert(descriptor, Watch { directory, descriptor: None });
    }

    /// The instance, for the helper process to add a watch.
    ///
    /// # Errors
    /// What fcntl(2) said.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.inotify.as_fd().try_clone_to_owned()
    }

    /// Reads events and appends what they mean; true if the kernel's queue may hold more.
    ///
    /// # Errors
    /// What read(2) said.
    pub fn drain_events(&mut self, changes: &mut Vec<Change>) -> Result<bool, Errno> {
        for _ in 0..READS_PER_TURN {
            match self.inotify.read_events() {
                Ok(events) => changes.extend(events.into_iter().filter_map(|event| self.change(event))),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    fn change(&mut self, event: InotifyEvent) -> Option<Change> {
        let is = |flag| event.mask.contains(flag);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            return Some(Change::Overflow);
        }
        let number = event.wd.as_raw();
        let Some(directory) = &self.watches.get(&number)?.directory else { return Some(Change::Root) };
        let is_root = directory.as_os_str().is_empty();
        let ended = is(AddWatchFlags::IN_IGNORED) || is(AddWatchFlags::IN_DELETE_SELF) || is(AddWatchFlags::IN_UNMOUNT);
        if ended || is_root && is(AddWatchFlags::IN_MOVE_SELF) {
            self.watches.remove(&number);
            return is_root.then_some(Change::Root);
        }
        let path = directory.join(event.name.as_ref()?);
        if is(AddWatchFlags::IN_ISDIR) {
            if is(AddWatchFlags::IN_CREATE) || is(AddWatchFlags::IN_MOVED_TO) {
                return Some(Change::DirectoryAppeared(path));
            }
            if is(AddWatchFlags::IN_MOVED_FROM) {
                self.unwatch(&path);
                return Some(Change::DirectoryLeft(path));
            }
            return None;
        }
        if is(AddWatchFlags::IN_CLOSE_WRITE) || is(AddWatchFlags::IN_MOVED_TO) {
            Some(Change::Complete(path))
        } else if is(AddWatchFlags::IN_CREATE) {
            Some(Change::Created(path))
        } else {
            (is(AddWatchFlags::IN_DELETE) || is(AddWatchFlags::IN_MOVED_FROM)).then_some(Change::Gone(path))
        }
    }

    /// Removes the watches of a directory that was moved away and of all below it: they would report its files by the paths
    /// that they had here.
    fn unwatch(&mut self, moved: &Path) {
        let inotify = &self.inotify;
        self.watches.retain(|_, watch| {
            let stays = watch.directory.as_ref().is_none_or(|directory| !directory.starts_with(moved));
            // Events of a watch that is not known here are ignored, until the instance is closed.
            if let (false, Some(descriptor)) = (stays, watch.descriptor) {
                // It fails only for a watch that the kernel has removed itself.
                let _ = inotify.rm_watch(descriptor);
            }
            stays
        });
    }
}
