//! The watch of a folder as the reactor drives it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde_json::json;

use super::event::{key_of, modified, payload, version_of};
use super::inotify::{Change, Inotify};
use super::walk::{Item, Walk};
use super::{FileWatch, MIN_UNCHANGED};
use crate::model::{Batch, Elapsed, Now, ObjectKey, ObjectVersion, SeenObject};
use crate::triggers::watch::Existing;
use crate::triggers::watch::seen::{Lookup, SeenSet};
use crate::triggers::{Readiness, Source, SourceHost};

/// Entries read in one turn, events in one batch, keys that leave in one batch.
const BATCH_SIZE: usize = 1_000;

/// The delay before the folder is scanned again after a batch that was not stored, or after a directory was moved away;
/// also the poll interval where inotify can't be used.
const RESCAN_DELAY: Duration = Duration::from_secs(30);

/// The delay before a scan that could not read everything is repeated: no event says when it will succeed.
const INCOMPLETE_RESCAN_DELAY: Duration = Duration::from_secs(600);

/// A file that becomes ready if it does not change until then.
struct Unstable {
    until: Elapsed,
    version: ObjectVersion,
}

/// The part of a batch in flight that becomes seen when it is stored.
struct InFlight {
    seen: Vec<SeenObject>,
    gone: Vec<ObjectKey>,
    baseline_done: bool,
}

/// See the module. Paths are relative to the watched folder.
pub(super) struct FileSource {
    watch: FileWatch,
    seen: SeenSet,
    baseline_done: bool,
    inotify: Option<Inotify>,
    /// The kernel's queue may hold more events.
    has_more_events: bool,
    walks: VecDeque<Walk>,
    unstable: BTreeMap<PathBuf, Unstable>,
    /// Files that make events, in the order in which they were found; those not in `ready_set` have been removed since.
    ready: VecDeque<PathBuf>,
    ready_set: HashSet<PathBuf>,
    /// Files of the first scan that count as seen.
    skipped: Vec<SeenObject>,
    gone: Vec<ObjectKey>,
    /// The first scan is complete, and the store does not know it yet.
    baseline_ready: bool,
    in_flight: Option<InFlight>,
    /// When the whole folder is scanned again.
    rescan_at: Option<Elapsed>,
    /// A problem that the next scan may find solved.
    warning: Option<String>,
    /// Why the folder is polled instead of watched; permanent.
    poll_fallback_reason: Option<String>,
}

impl FileSource {
    pub(super) fn new(watch: FileWatch) -> FileSource {
        FileSource {
            watch,
            seen: SeenSet::default(),
            baseline_done: false,
            inotify: None,
            has_more_events: false,
            walks: VecDeque::new(),
            unstable: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_set: HashSet::new(),
            skipped: Vec::new(),
            gone: Vec::new(),
            baseline_ready: false,
            in_flight: None,
            rescan_at: None,
            warning: None,
            poll_fallback_reason: None,
        }
    }

    /// Opens a new inotify instance and scans the whole folder; waits for the folder if it does not exist.
    fn open(&mut self, host: &mut dyn SourceHost) {
        self.close(host);
        self.walks.clear();
        self.rescan_at = None;
        self.warning = None;
        if self.watch.poll_interval.is_none() {
            match Inotify::open(host) {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(error) => self.fall_back_to_polling(host, &format!("inotify is not available ({error})")),
            }
        }
        if self.watch.folder.is_dir() || !self.wait_for_folder(host) {
            self.start_full_scan();
        }
        self.work(host);
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        if let Some(inotify) = self.inotify.take() {
            inotify.close(host);
        }
        self.has_more_events = false;
    }

    fn start_full_scan(&mut self) {
        self.seen.begin_listing();
        self.walks.clear();
        self.walks.push_back(Walk::new(&self.watch.folder, PathBuf::new(), self.watch.recursive));
    }

    /// Waits until the folder is created; false if it exists by now.
    fn wait_for_folder(&mut self, host: &mut dyn SourceHost) -> bool {
        let folder = self.watch.folder.display();
        self.warning = Some(format!("the folder {folder} does not exist; it is watched as soon as it does"));
        let Some(inotify) = &mut self.inotify else {
            self.rescan_at = Some(host.now().elapsed + self.watch.poll_interval.unwrap_or(RESCAN_DELAY));
            return true;
        };
        inotify.watch_ancestor(&self.watch.folder);
        let exists = self.watch.folder.is_dir();
        if exists {
            self.warning = None;
        } else if !self.baseline_done {
            // There are no existing files: all that come are new.
            self.baseline_ready = true;
        }
        !exists
    }

    fn fall_back_to_polling(&mut self, host: &mut dyn SourceHost, why: &str) {
        self.close(host);
        self.watch.poll_interval.get_or_insert(RESCAN_DELAY);
        self.poll_fallback_reason = Some(format!("{}: {why}; polling every 30s instead", self.watch.folder.display()));
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now();
        self.walk(host, now);
        self.promote_unchanged(now);
        self.emit_batch(host);
        let next = if self.walks.is_empty() && !self.has_more_events {
            self.unstable.values().map(|file| file.until).min()
        } else {
            Some(now.elapsed)
        };
        host.wake_at([next, self.rescan_at].into_iter().flatten().min());
        let warnings: Vec<&str> = [&self.poll_fallback_reason, &self.warning].into_iter().filter_map(Option::as_deref).collect();
        host.warn((!warnings.is_empty()).then(|| warnings.join("; ")));
    }

    fn walk(&mut self, host: &mut dyn SourceHost, now: Now) {
        for _ in 0..BATCH_SIZE {
            let Some(walk) = self.walks.front_mut() else { return };
            match walk.next() {
                Some(Item::Directory(directory)) => self.watch_directory(host, directory),
                Some(Item::File(path, meta)) => self.on_file_listed(now, &path, &meta),
                Some(Item::Unreadable(directory, error)) => {
                    let directory: PathBuf = self.watch.folder.join(directory).components().collect();
                    self.warning = Some(format!("{} can't be read: {error}", directory.display()));
                }
                None => {
                    if let Some(walk) = self.walks.pop_front().filter(|walk| walk.is_from_root) {
                        host.polled(!walk.is_incomplete);
                        self.finish_full_scan(now, walk.is_incomplete);
                    }
                }
            }
        }
    }

    /// The whole folder was scanned. Files that were not found are gone, unless some of it could not be read.
    fn finish_full_scan(&mut self, now: Now, is_incomplete: bool) {
        if !self.baseline_done {
            self.baseline_ready = true;
        }
        if !is_incomplete {
            let mut cursor = 0;
            loop {
                let gone = self.seen.next_unlisted(&mut cursor, BATCH_SIZE);
                if gone.is_empty() {
                    break;
                }
                self.gone.extend(gone);
            }
        }
        if let Some(wait) = self.watch.poll_interval.or(is_incomplete.then_some(INCOMPLETE_RESCAN_DELAY)) {
            self.rescan_at = Some(now.elapsed + wait);
        }
    }

    fn watch_directory(&mut self, host: &mut dyn SourceHost, directory: PathBuf) {
        let Some(inotify) = &mut self.inotify else { return };
        let shown = directory.display().to_string();
        match inotify.watch(&self.watch.folder, directory) {
            // ENOENT, ENOTDIR: it was removed meanwhile.
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::ENOSPC) => {
                self.fall_back_to_polling(host, "too many folders for inotify (raise fs.inotify.max_user_watches)");
            }
            Err(errno) => self.fall_back_to_polling(host, &format!("inotify can't watch {shown} ({errno})")),
        }
    }

    /// A scan has found a file.
    fn on_file_listed(&mut self, now: Now, path: &Path, meta: &Metadata) {
        let seen = SeenObject { key: key_of(path), version: version_of(meta) };
        if matches!(self.seen.look_up(seen), Lookup::Known | Lookup::Repeated) || self.is_pending(path) {
            return;
        }
        if !self.baseline_done && !self.baseline_ready && self.watch.existing == Existing::Skip {
            self.skipped.push(seen);
            return;
        }
        let is_young = modified(meta) + MIN_UNCHANGED > now.wall;
        match self.watch.stable_for.or(is_young.then_some(MIN_UNCHANGED)) {
            Some(period) => {
                self.unstable.insert(path.to_owned(), Unstable { until: now.elapsed + period, version: seen.version });
            }
            None => self.mark_ready(path.to_owned()),
        }
    }

    /// inotify has reported a file that is complete.
    fn on_file_complete(&mut self, now: Now, path: &Path) {
        match (self.watch.stable_for, fs::metadata(self.watch.folder.join(path))) {
            (_, Err(_)) => {}
            (_, Ok(meta)) if !meta.is_file() => {}
            (Some(period), Ok(meta)) => {
                let unstable = Unstable { until: now.elapsed + period, version: version_of(&meta) };
                self.unstable.insert(path.to_owned(), unstable);
            }
            (None, Ok(_)) => {
                self.unstable.remove(path);
                self.mark_ready(path.to_owned());
            }
        }
    }

    fn on_file_gone(&mut self, path: &Path) {
        self.unstable.remove(path);
        self.ready_set.remove(path);
        self.gone.push(key_of(path));
    }

    fn mark_ready(&mut self, path: PathBuf) {
        if self.ready_set.insert(path.clone()) {
            self.ready.push_back(path);
        }
    }

    fn is_pending(&self, path: &Path) -> bool {
        self.ready_set.contains(path) || self.unstable.contains_key(path)
    }

    /// Marks files ready that have not changed for long enough.
    fn promote_unchanged(&mut self, now: Now) {
        let due: Vec<PathBuf> =
            self.unstable.iter().filter(|(_, file)| file.until <= now.elapsed).map(|(path, _)| path.clone()).collect();
        for path in due {
            let Some(file) = self.unstable.remove(&path) else { continue };
            let Ok(meta) = fs::metadata(self.watch.folder.join(&path)) else { continue };
            let version = version_of(&meta);
            if version == file.version {
                self.mark_ready(path);
            } else {
                let until = now.elapsed + self.watch.stable_for.unwrap_or(MIN_UNCHANGED);
                self.unstable.insert(path, Unstable { until, version });
            }
        }
    }

    /// Hands over a batch, unless one is in flight or there is nothing to record.
    fn emit_batch(&mut self, host: &mut dyn SourceHost) {
        if self.in_flight.is_some() {
            return;
        }
        let mut seen: Vec<SeenObject> = self.skipped.drain(..self.skipped.len().min(BATCH_SIZE)).collect();
        let mut files = Vec::new();
        while seen.len() < BATCH_SIZE
            && let Some(name) = self.ready.pop_front()
        {
            if !self.ready_set.remove(&name) {
                continue;
            }
            let path = self.watch.folder.join(&name);
            // A file that was removed meanwhile makes no run.
            let Ok(meta) = fs::metadata(&path) else { continue };
            let object = SeenObject { key: key_of(&name), version: version_of(&meta) };
            if self.seen.knows(object) {
                continue;
            }
            seen.push(object);
            // The filter applies to events, not to the seen-set: a changed filter repeats no old file.
            if self.watch.filter.as_ref().is_none_or(|filter| filter.matches("", &name.to_string_lossy())) {
                files.push(payload(&path, &name, &meta));
            }
        }
        // A file that was removed and created again is not gone.
        let present: HashSet<ObjectKey> = seen.iter().map(|object| object.key).collect();
        self.gone.retain(|key| !present.contains(key));
        let gone: Vec<ObjectKey> = self.gone.drain(..self.gone.len().min(BATCH_SIZE)).collect();
        let baseline_done = self.baseline_ready && self.skipped.is_empty();
        if seen.is_empty() && gone.is_empty() && !baseline_done {
            return;
        }
        let events = if self.watch.batch && !files.is_empty() {
            vec![json!({ "folder": self.watch.folder.display().to_string(), "count": files.len(), "files": files })]
        } else {
            files
        };
        self.in_flight = Some(InFlight { seen: seen.clone(), gone: gone.clone(), baseline_done });
        host.emit(Batch { events, seen, gone, baseline_done });
    }

    fn on_recorded(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            self.seen.insert(&batch.seen);
            self.seen.remove(&batch.gone);
            if batch.baseline_done {
                self.baseline_done = true;
                self.baseline_ready = false;
            }
        }
    }

    /// Handles the events in the kernel's queue.
    fn drain_events(&mut self, host: &mut dyn SourceHost) {
        self.has_more_events = false;
        let Some(inotify) = &mut self.inotify else { return };
        let mut changes = Vec::new();
        let result = inotify.drain_events(&mut changes);
        for change in changes {
            if change == Change::Root {
                return self.open(host);
            }
            self.on_change(host.now(), change);
        }
        match result {
            Ok(has_more) => self.has_more_events = has_more,
            Err(errno) => self.fall_back_to_polling(host, &format!("inotify can't be read ({errno})")),
        }
    }

    fn on_change(&mut self, now: Now, change: Change) {
        match change {
            Change::Overflow => {
                log::warn!("{}: the inotify queue overflowed; the whole folder is scanned", self.watch.folder.display());
                self.start_full_scan();
            }
            Change::DirectoryAppeared(path) if self.watch.recursive => {
                self.walks.push_back(Walk::new(&self.watch.folder, path, true));
            }
            Change::DirectoryLeft(_) if self.watch.recursive => {
                self.rescan_at.get_or_insert(now.elapsed + RESCAN_DELAY);
            }
            Change::Complete(path) => self.on_file_complete(now, &path),
            Change::Created(path) => {
                // A link is complete at once; a regular file is reported again when it is closed.
                let meta = fs::symlink_metadata(self.watch.folder.join(&path));
                if meta.is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1) {
                    self.on_file_complete(now, &path);
                }
            }
            Change::Gone(path) => self.on_file_gone(&path),
            Change::Root | Change::DirectoryAppeared(_) | Change::DirectoryLeft(_) => {}
        }
    }
}

impl Source for FileSource {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        let known = host.load_seen(&self.watch.identity())?;
        self.baseline_done = known.baseline_done;
        self.seen = SeenSet::from_snapshot(known.objects);
        self.open(host);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Fd(_) => self.drain_events(host),
            Readiness::Timer => {
                if self.rescan_at.is_some_and(|at| at <= host.now().elapsed) {
                    self.rescan_at = None;
                    if self.inotify.is_none() && !self.watch.folder.is_dir() {
                        return self.open(host);
                    }
                    self.warning = None;
                    self.start_full_scan();
                }
                if self.has_more_events {
                    self.drain_events(host);
                }
            }
            Readiness::Recorded => self.on_recorded(),
            Readiness::NotRecorded => {
                // Nothing of it took effect; a full scan finds it again.
                self.in_flight = None;
                self.skipped.clear();
                self.gone.clear();
                self.rescan_at = Some(host.now().elapsed + RESCAN_DELAY);
            }
            Readiness::Message(_)
            | Readiness::Exited(_)
            | Readiness::NotStarted(_)
            | Readiness::Room
            | Readiness::RunEnded { .. } => {
                debug_assert!(false, "this source has no mailbox and no child, and follows no runs");
            }
        }
        self.work(host);
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
        self.close(host);
    }
}
