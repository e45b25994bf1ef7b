//! The watch of a folder as the reactor drives it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde_json::json;

use super::event::{key_of, modified, payload, version_of};
use super::inotify::{Change, Inotify, OF_ANCESTOR, OF_DIRECTORY};
use super::looks::{Looks, Purpose};
use super::near::{Found, Listing, Near, NotNear};
use super::walk::Walk;
use super::{FileWatch, MIN_UNCHANGED};
use crate::helper::{AFTER_HANG, Answer, Entry, EntryKind, FileStat, Request, Response, TIMEOUT, no_answer, path_of};
use crate::model::{Batch, Elapsed, Now, ObjectKey, ObjectVersion, SeenObject, format_duration};
use crate::triggers::watch::Existing;
use crate::triggers::watch::seen::{Lookup, SeenSet};
use crate::triggers::{AskId, Readiness, Source, SourceHost};

/// Entries read in one turn, events in one batch, keys that leave in one batch.
const BATCH_SIZE: usize = 1_000;

/// The delay before the folder is scanned again after a batch that was not stored, or after a directory was moved away;
/// also the poll interval where inotify can't be used.
const RESCAN_DELAY: Duration = Duration::from_secs(30);

/// The delay before a scan that could not read everything is repeated: no event says when it will succeed.
const INCOMPLETE_RESCAN_DELAY: Duration = Duration::from_secs(600);

/// How long a folder is scanned without asking again where it is: its path may lead over another mount by then.
const REOPEN_AFTER: Duration = Duration::from_secs(60);

/// The watched folder itself. Only the helper process looks at its path, which may hang.
enum Root {
    /// It is opened at the next scan.
    Closed,
    /// The helper process was asked to open it; a watch of a directory above it was added before.
    Opening { ask: AskId, was_missing: bool },
    /// It does not exist. The helper process was asked to watch a directory above it.
    WatchingAncestor(AskId),
    /// It does not exist, and an event will say that it may.
    Missing,
    /// Only local file systems lead to it.
    Near(Near),
    /// It was near, at this path. Something was mounted since, and the helper process was asked where it is now; `again` if
    /// something else was mounted meanwhile.
    Checking { ask: AskId, path: PathBuf, again: bool },
    /// It may hang.
    Far,
}

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
    root: Root,
    opened_at: Elapsed,
    walks: VecDeque<Walk>,
    /// The directory of the first walk that the helper process reads.
    far_listing: Option<(AskId, PathBuf)>,
    looks: Looks,
    unstable: BTreeMap<PathBuf, Unstable>,
    /// Files that make events, in the order in which they were found; those not in `ready_set` have been removed since.
    ready: VecDeque<PathBuf>,
    ready_set: HashSet<PathBuf>,
    /// Files that make events, as they were when they were looked at for that.
    fresh: VecDeque<(PathBuf, FileStat)>,
    /// Files of the first scan that count as seen.
    skipped: Vec<SeenObject>,
    gone: Vec<ObjectKey>,
    /// The first scan is complete, and the store does not know it yet.
    baseline_ready: bool,
    in_flight: Option<InFlight>,
    /// When the whole folder is scanned again.
    rescan_at: Option<Elapsed>,
    /// How often something has hung, since the last scan that was complete.
    hangs: u32,
    /// A problem that the next scan may find solved.
    warning: Option<String>,
    /// A problem that this scan has found.
    scan_warning: Option<String>,
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
            root: Root::Closed,
            opened_at: Elapsed::default(),
            walks: VecDeque::new(),
            far_listing: None,
            looks: Looks::default(),
            unstable: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_set: HashSet::new(),
            fresh: VecDeque::new(),
            skipped: Vec::new(),
            gone: Vec::new(),
            baseline_ready: false,
            in_flight: None,
            rescan_at: None,
            hangs: 0,
            warning: None,
            scan_warning: None,
            poll_fallback_reason: None,
        }
    }

    /// Opens a new inotify instance and the folder; once that is open, the whole of it is scanned.
    fn open(&mut self, host: &mut dyn SourceHost) {
        self.close(host);
        self.rescan_at = None;
        if self.watch.poll_interval.is_none() {
            match Inotify::open(host) {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(error) => self.fall_back_to_polling(host, &format!("inotify is not available ({error})")),
            }
        }
        self.ask_to_open(host, false);
        self.work(host);
    }

    fn ask_to_open(&mut self, host: &mut dyn SourceHost, was_missing: bool) {
        let ask = host.ask_files(&Request::Locate(self.watch.folder.clone()), None);
        self.root = Root::Opening { ask, was_missing };
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        self.close_inotify(host);
        self.root = Root::Closed;
        self.walks.clear();
        self.far_listing = None;
        self.looks.take_back();
    }

    fn close_inotify(&mut self, host: &mut dyn SourceHost) {
        if let Some(inotify) = self.inotify.take() {
            inotify.close(host);
        }
        self.has_more_events = false;
    }

    fn start_full_scan(&mut self) {
        self.seen.begin_listing();
        self.walks.clear();
        self.far_listing = None;
        self.scan_warning = None;
        self.walks.push_back(Walk::new(PathBuf::new(), self.watch.recursive));
    }

    /// An answer of the helper process.
    fn on_response(&mut self, host: &mut dyn SourceHost, ask: AskId, response: Response) {
        match &self.root {
            Root::Checking { ask: of, .. } if *of == ask => return self.on_checked(host, response),
            Root::Opening { ask: of, was_missing } if *of == ask => {
                let was_missing = *was_missing;
                return self.on_opened(host, response, was_missing);
            }
            Root::WatchingAncestor(of) if *of == ask => return self.on_ancestor_watched(host, response),
            _ => {}
        }
        if self.far_listing.as_ref().is_some_and(|(of, _)| *of == ask) {
            self.on_listed(host, response);
        } else if self.looks.is_asked(ask) {
            self.on_looked_at(host, response);
        } else if let (Response::Recovered, true) = (response, self.hangs > 0) {
            self.rescan_at = Some(host.now().elapsed);
        }
    }

    fn on_opened(&mut self, host: &mut dyn SourceHost, response: Response, was_missing: bool) {
        let folder = self.watch.folder.clone();
        match response {
            Response::Answer(Answer::Located { path, is_local }, _) => {
                self.root = if is_local { Root::Near(Near::new(path)) } else { Root::Far };
                self.opened_at = host.now().elapsed;
                self.warning = None;
                self.start_full_scan();
            }
            Response::Answer(Answer::Failed(_), _) if was_missing => {
                self.root = Root::Missing;
                if !self.baseline_done {
                    // There are no existing files: all that come are new.
                    self.baseline_ready = true;
                }
            }
            Response::Answer(Answer::Failed(_), _) => self.wait_for_folder(host),
            Response::Answer(..) | Response::Recovered => {}
            Response::Hung => self.on_hang(host, &folder, &hung()),
            Response::Unavailable(why) => self.on_hang(host, &folder, &why),
        }
    }

    /// Something was mounted: no path is looked at before it is known where it leads now.
    fn check_root(&mut self, host: &mut dyn SourceHost) {
        let path = match &mut self.root {
            Root::Near(near) => near.path().to_owned(),
            // Asked again for each of them, it would not get an answer where mounts come and go all the time.
            Root::Checking { again, .. } => {
                *again = true;
                return;
            }
            Root::Closed | Root::Opening { .. } | Root::WatchingAncestor(_) | Root::Missing | Root::Far => return,
        };
        self.ask_to_check(host, path);
    }

    fn ask_to_check(&mut self, host: &mut dyn SourceHost, path: PathBuf) {
        let ask = host.ask_files(&Request::Locate(self.watch.folder.clone()), None);
        self.root = Root::Checking { ask, path, again: false };
    }

    fn on_checked(&mut self, host: &mut dyn SourceHost, response: Response) {
        let Root::Checking { path: was, again, .. } = &self.root else { return };
        match response {
            Response::Answer(Answer::Located { path, is_local: true }, _) if path == *was => match again {
                true => self.ask_to_check(host, path),
                false => self.root = Root::Near(Near::new(path)),
            },
            Response::Answer(Answer::Located { .. } | Answer::Failed(_), _) => self.open(host),
            Response::Answer(..) | Response::Recovered => {}
            Response::Hung => self.on_hang(host, &self.watch.folder.clone(), &hung()),
            Response::Unavailable(why) => self.on_hang(host, &self.watch.folder.clone(), &why),
        }
    }

    /// Waits until the folder is created.
    fn wait_for_folder(&mut self, host: &mut dyn SourceHost) {
        let folder = self.watch.folder.display();
        self.warning = Some(format!("the folder {folder} does not exist; it is watched as soon as it does"));
        let shared = self.inotify.as_ref().and_then(|inotify| inotify.share().ok());
        let Some(inotify) = shared else {
            self.root = Root::Closed;
            self.rescan_at = Some(host.now().elapsed + self.watch.poll_interval.unwrap_or(RESCAN_DELAY));
            return;
        };
        let request = Request::WatchAncestor { path: self.watch.folder.clone(), mask: OF_ANCESTOR.bits() };
        self.root = Root::WatchingAncestor(host.ask_files(&request, Some(inotify)));
    }

    fn on_ancestor_watched(&mut self, host: &mut dyn SourceHost, response: Response) {
        let folder = self.watch.folder.clone();
        match response {
            Response::Answer(Answer::Watched(watched), _) => match (watched, &mut self.inotify) {
                (Ok(watch), Some(inotify)) => inotify.added(watch, None),
                // No event will say when the folder exists.
                _ => self.rescan_at = Some(host.now().elapsed + RESCAN_DELAY),
            },
            // It may exist by now.
            Response::Answer(Answer::Done | Answer::Failed(_), _) => self.ask_to_open(host, true),
            Response::Answer(..) | Response::Recovered => {}
            Response::Hung => self.on_hang(host, &folder, &hung()),
            Response::Unavailable(why) => self.on_hang(host, &folder, &why),
        }
    }

    /// Something does not answer. Below a local folder that is a part of it, which is left out until the next scan; else it is
    /// all of it, and nothing is asked until then.
    fn on_hang(&mut self, host: &mut dyn SourceHost, path: &Path, why: &dyn Display) {
        self.hangs = self.hangs.saturating_add(1);
        let delay = AFTER_HANG.delay_after(self.hangs, || 0);
        let path: PathBuf = path.components().collect();
        let warning = format!("{} can't be watched: {why}; it is tried again in {}", path.display(), format_duration(delay));
        self.warning = Some(warning.clone());
        let at = host.now().elapsed + delay;
        let is_part = path != self.watch.folder.components().collect::<PathBuf>();
        if is_part && matches!(self.root, Root::Near(_) | Root::Checking { .. }) {
            self.scan_warning = Some(warning);
            self.rescan_at = Some(self.rescan_at.map_or(at, |rescan| rescan.min(at)));
            if let Some(walk) = self.walks.front_mut() {
                walk.is_incomplete = true;
            }
        } else {
            host.polled(false);
            self.close(host);
            self.rescan_at = Some(at);
        }
    }

    fn fall_back_to_polling(&mut self, host: &mut dyn SourceHost, why: &str) {
        self.close_inotify(host);
        self.watch.poll_interval.get_or_insert(RESCAN_DELAY);
        self.poll_fallback_reason = Some(format!("{}: {why}; polling every 30s instead", self.watch.folder.display()));
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now();
        self.walk(host, now);
        self.promote_unchanged(now);
        self.emit_batch(host, now);
        self.ask_for_looks(host);
        let next = if self.can_walk() || self.has_more_events {
            Some(now.elapsed)
        } else {
            self.unstable.values().map(|file| file.until).min()
        };
        if let Root::Near(near) = &mut self.root {
            near.close();
        }
        host.wake_at([next, self.rescan_at].into_iter().flatten().min());
        let warnings: Vec<&str> = [&self.poll_fallback_reason, &self.warning].into_iter().filter_map(Option::as_deref).collect();
        host.warn((!warnings.is_empty()).then(|| warnings.join("; ")));
    }

    /// True if the scan goes on without an answer of the helper process.
    fn can_walk(&self) -> bool {
        let waits = |walk: &Walk| walk.is_exhausted() && self.looks.has(Purpose::Listed);
        matches!(self.root, Root::Near(_) | Root::Far)
            && self.far_listing.is_none()
            && self.walks.front().is_some_and(|walk| !waits(walk))
    }

    fn walk(&mut self, host: &mut dyn SourceHost, now: Now) {
        for _ in 0..BATCH_SIZE {
            if !self.can_walk() {
                return;
            }
            let Some(walk) = self.walks.front_mut() else { return };
            if let Some((directory, listing)) = &mut walk.reading {
                match listing.next() {
                    Some(Found::Directory(name)) => {
                        let path = directory.join(name);
                        walk.found_directory(path);
                    }
                    Some(Found::File(name, stat)) => {
                        let path = directory.join(name);
                        self.on_file_listed(now, &path, &stat);
                    }
                    Some(Found::Link(name)) => {
                        let path = directory.join(name);
                        self.look(now, Purpose::Listed, path);
                    }
                    Some(Found::Unreadable) => walk.is_incomplete = true,
                    None => walk.reading = None,
                }
            } else if let Some(directory) = walk.next_directory() {
                self.read_directory(host, directory);
            } else if let Some(walk) = self.walks.pop_front().filter(|walk| walk.is_from_root) {
                host.polled(!walk.is_incomplete);
                self.finish_full_scan(now, walk.is_incomplete);
            }
        }
    }

    /// Watches a directory, then reads it: what appears in between is found.
    fn read_directory(&mut self, host: &mut dyn SourceHost, directory: PathBuf) {
        let opened = match &self.root {
            Root::Near(near) => near.open_dir(&directory),
            _ => Err(NotNear::Far),
        };
        let listing = opened.and_then(|fd| {
            if let Some(inotify) = &mut self.inotify {
                let watched = inotify.watch(&path_of(&fd), directory.clone());
                self.on_watched(host, &directory, watched);
            }
            Ok(Listing::open(&fd)?)
        });
        match listing {
            Ok(listing) => {
                if let Some(walk) = self.walks.front_mut() {
                    walk.reading = Some((directory, listing));
                }
            }
            Err(NotNear::Failed(errno)) => self.on_unreadable(&directory, errno),
            Err(NotNear::Far) => {
                let inotify = self.inotify.as_ref().and_then(|inotify| inotify.share().ok());
                let request = Request::List { path: self.watch.folder.join(&directory), mask: OF_DIRECTORY.bits() };
                self.far_listing = Some((host.ask_files(&request, inotify), directory));
            }
        }
    }

    /// The helper process has read, or is reading, a directory.
    fn on_listed(&mut self, host: &mut dyn SourceHost, response: Response) {
        let Some((ask, directory)) = self.far_listing.take() else { return };
        let path = self.watch.folder.join(&directory);
        match response {
            Response::Answer(Answer::Done, _) => return,
            Response::Answer(Answer::Failed(errno), _) => return self.on_unreadable(&directory, Errno::from_raw(errno)),
            Response::Hung => return self.on_hang(host, &path, &hung()),
            Response::Unavailable(why) => return self.on_hang(host, &path, &why),
            Response::Answer(Answer::Watched(Ok(watch)), _) => {
                if let Some(inotify) = &mut self.inotify {
                    inotify.added(watch, Some(directory.clone()));
                }
            }
            Response::Answer(Answer::Watched(Err(errno)), _) => {
                self.on_watched(host, &directory, Err(Errno::from_raw(errno)));
            }
            Response::Answer(Answer::Entries(entries), _) => {
                let now = host.now();
                entries.into_iter().for_each(|entry| self.on_entry(now, &directory, entry));
            }
            Response::Answer(..) | Response::Recovered => {}
        }
        self.far_listing = Some((ask, directory));
    }

    fn on_entry(&mut self, now: Now, directory: &Path, Entry { name, kind }: Entry) {
        let path = directory.join(name);
        match kind {
            EntryKind::File(stat) => self.on_file_listed(now, &path, &stat),
            EntryKind::Link => self.look(now, Purpose::Listed, path),
            EntryKind::Directory | EntryKind::Unreadable => {
                let Some(walk) = self.walks.front_mut() else { return };
                if kind == EntryKind::Directory {
                    walk.found_directory(path);
                } else {
                    walk.is_incomplete = true;
                }
            }
        }
    }

    fn on_unreadable(&mut self, directory: &Path, errno: Errno) {
        // A removed directory took its files with it; but the root may be a file system that is not mounted now.
        if errno == Errno::ENOENT && !directory.as_os_str().is_empty() {
            return;
        }
        let path: PathBuf = self.watch.folder.join(directory).components().collect();
        let error = std::io::Error::from(errno);
        self.warning = Some(format!("{} can't be read: {error}", path.display()));
        self.scan_warning.clone_from(&self.warning);
        if let Some(walk) = self.walks.front_mut() {
            walk.is_incomplete = true;
        }
    }

    /// Looks at a file: here if that can't hang, else by the helper process.
    fn look(&mut self, now: Now, purpose: Purpose, path: PathBuf) {
        let looked = match &self.root {
            Root::Near(near) => near.stat(&path),
            _ => Err(NotNear::Far),
        };
        match looked {
            Ok(stat) => self.on_stat(now, purpose, path, Some(stat)),
            Err(NotNear::Failed(_)) => self.on_stat(now, purpose, path, None),
            Err(NotNear::Far) => self.looks.add(purpose, path),
        }
    }

    fn ask_for_looks(&mut self, host: &mut dyn SourceHost) {
        if matches!(self.root, Root::Near(_) | Root::Far)
            && let Some((request, files)) = self.looks.next_request(&self.watch.folder)
        {
            self.looks.asked(host.ask_files(&request, None), files);
        }
    }

    /// The helper process has looked at files.
    fn on_looked_at(&mut self, host: &mut dyn SourceHost, response: Response) {
        let why = match response {
            Response::Answer(Answer::Stats(stats), _) => {
                for stat in stats {
                    if let Some((purpose, path)) = self.looks.next_answered() {
                        self.on_stat(host.now(), purpose, path, stat.ok());
                    }
                }
                return;
            }
            Response::Answer(Answer::Done | Answer::Failed(_), _) => return drop(self.looks.finish()),
            Response::Answer(..) | Response::Recovered => return,
            Response::Hung => hung(),
            Response::Unavailable(why) => why,
        };
        // The next scan finds it again.
        let Some((_, culprit)) = self.looks.next_answered() else { return drop(self.looks.finish()) };
        if matches!(self.root, Root::Near(_)) {
            self.looks.finish();
        }
        let culprit = self.watch.folder.join(culprit);
        self.on_hang(host, &culprit, &why);
    }

    /// A file was looked at; `None` if it is not there, or can't be looked at.
    fn on_stat(&mut self, now: Now, purpose: Purpose, path: PathBuf, stat: Option<FileStat>) {
        let Some(stat) = stat else { return };
        match purpose {
            Purpose::Listed if stat.is_file() => self.on_file_listed(now, &path, &stat),
            Purpose::Created if !stat.is_link && stat.links <= 1 => {}
            Purpose::Created | Purpose::Complete if stat.is_file() => self.on_file_complete(now, path, &stat),
            Purpose::Unchanged(version) if version == version_of(&stat) => self.mark_ready(path),
            Purpose::Unchanged(_) => {
                let until = now.elapsed + self.watch.stable_for.unwrap_or(MIN_UNCHANGED);
                self.unstable.insert(path, Unstable { until, version: version_of(&stat) });
            }
            Purpose::Emit => self.fresh.push_back((path, stat)),
            Purpose::Listed | Purpose::Created | Purpose::Complete => {}
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
        self.warning = self.scan_warning.take();
        let after_hang = (is_incomplete && self.hangs > 0).then(|| AFTER_HANG.delay_after(self.hangs, || 0));
        if !is_incomplete {
            self.hangs = 0;
        }
        let wait = self.watch.poll_interval.or(after_hang).or(is_incomplete.then_some(INCOMPLETE_RESCAN_DELAY));
        if let Some(wait) = wait {
            self.rescan_at = Some(now.elapsed + wait);
        }
    }

    fn on_watched(&mut self, host: &mut dyn SourceHost, directory: &Path, watched: Result<(), Errno>) {
        match watched {
            // ENOENT, ENOTDIR: it was removed meanwhile.
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::ENOSPC) => {
                self.fall_back_to_polling(host, "too many folders for inotify (raise fs.inotify.max_user_watches)");
            }
            Err(errno) => {
                self.fall_back_to_polling(host, &format!("inotify can't watch {} ({errno})", directory.display()));
            }
        }
    }

    /// A scan has found a file.
    fn on_file_listed(&mut self, now: Now, path: &Path, stat: &FileStat) {
        let seen = SeenObject { key: key_of(path), version: version_of(stat) };
        if matches!(self.seen.look_up(seen), Lookup::Known | Lookup::Repeated) || self.is_pending(path) {
            return;
        }
        if !self.baseline_done && !self.baseline_ready && self.watch.existing == Existing::Skip {
            self.skipped.push(seen);
            return;
        }
        let is_young = modified(stat) + MIN_UNCHANGED > now.wall;
        match self.watch.stable_for.or(is_young.then_some(MIN_UNCHANGED)) {
            Some(period) => {
                self.unstable.insert(path.to_owned(), Unstable { until: now.elapsed + period, version: seen.version });
            }
            None => self.mark_ready(path.to_owned()),
        }
    }

    /// inotify has reported a file that is complete.
    fn on_file_complete(&mut self, now: Now, path: PathBuf, stat: &FileStat) {
        if let Some(period) = self.watch.stable_for {
            self.unstable.insert(path, Unstable { until: now.elapsed + period, version: version_of(stat) });
        } else {
            self.unstable.remove(&path);
            self.mark_ready(path);
        }
    }

    fn on_file_gone(&mut self, path: &Path) {
        self.unstable.remove(path);
        self.ready_set.remove(path);
        self.fresh.retain(|(fresh, _)| fresh != path);
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
            if let Some(file) = self.unstable.remove(&path) {
                self.look(now, Purpose::Unchanged(file.version), path);
            }
        }
    }

    /// Hands over a batch, unless one is in flight or there is nothing to record.
    fn emit_batch(&mut self, host: &mut dyn SourceHost, now: Now) {
        if self.in_flight.is_some() || self.looks.has(Purpose::Emit) {
            return;
        }
        let mut looked_at = self.skipped.len().min(BATCH_SIZE) + self.fresh.len();
        while looked_at < BATCH_SIZE
            && let Some(name) = self.ready.pop_front()
        {
            // A file that was removed meanwhile makes no run.
            if self.ready_set.remove(&name) {
                looked_at += 1;
                self.look(now, Purpose::Emit, name);
            }
        }
        if self.looks.has(Purpose::Emit) {
            return;
        }
        let mut seen: Vec<SeenObject> = self.skipped.drain(..self.skipped.len().min(BATCH_SIZE)).collect();
        let mut present: HashSet<ObjectKey> = seen.iter().map(|object| object.key).collect();
        let mut files = Vec::new();
        while seen.len() < BATCH_SIZE
            && let Some((name, stat)) = self.fresh.pop_front()
        {
            let object = SeenObject { key: key_of(&name), version: version_of(&stat) };
            if self.seen.knows(object) {
                continue;
            }
            if !present.insert(object.key) {
                // Complete once more before this batch: the next one has it, unless nothing has changed.
                self.mark_ready(name);
                continue;
            }
            seen.push(object);
            // The filter applies to events, not to the seen-set: a changed filter repeats no old file.
            if self.watch.filter.as_ref().is_none_or(|filter| filter.matches("", &name.to_string_lossy())) {
                files.push(payload(&self.watch.folder.join(&name), &name, &stat));
            }
        }
        // A file that was removed and created again is not gone.
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

    /// True if the folder has to be opened before a scan: it is not, or its path may lead elsewhere by now.
    fn must_open(&self, now: Elapsed) -> bool {
        match &self.root {
            Root::Closed | Root::Missing => true,
            Root::Opening { .. } | Root::WatchingAncestor(_) | Root::Checking { .. } => false,
            Root::Near(_) | Root::Far if now.since(self.opened_at) >= REOPEN_AFTER => true,
            Root::Near(near) => !near.exists(),
            Root::Far => false,
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
                self.walks.push_back(Walk::new(path, true));
            }
            Change::DirectoryLeft(_) if self.watch.recursive => {
                self.rescan_at.get_or_insert(now.elapsed + RESCAN_DELAY);
            }
            Change::Complete(path) => self.look(now, Purpose::Complete, path),
            // A link is complete at once; a regular file is reported again when it is closed.
            Change::Created(path) => self.look(now, Purpose::Created, path),
            Change::Gone(path) => self.on_file_gone(&path),
            Change::Root | Change::DirectoryAppeared(_) | Change::DirectoryLeft(_) => {}
        }
    }
}

fn hung() -> String {
    format!("it {}", no_answer())
}

impl Source for FileSource {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        let known = host.load_seen(&self.watch.identity())?;
        self.baseline_done = known.baseline_done;
        self.seen = SeenSet::from_snapshot(known.objects);
        host.follow_mounts();
        self.open(host);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Fd(_) => self.drain_events(host),
            Readiness::Timer => {
                if self.rescan_at.is_some_and(|at| at <= host.now().elapsed) {
                    self.rescan_at = None;
                    if self.must_open(host.now().elapsed) {
                        return self.open(host);
                    }
                    match self.root {
                        Root::Near(_) | Root::Far => self.start_full_scan(),
                        // Once that is known, which is soon.
                        Root::Checking { .. } => self.rescan_at = Some(host.now().elapsed + TIMEOUT),
                        Root::Closed | Root::Opening { .. } | Root::WatchingAncestor(_) | Root::Missing => {}
                    }
                }
                if self.has_more_events {
                    self.drain_events(host);
                }
            }
            Readiness::MountsChanged => self.check_root(host),
            Readiness::Files { ask, response } => self.on_response(host, ask, response),
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
