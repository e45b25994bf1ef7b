//! The watch as the reactor drives it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use serde_json::{Value, json};

use super::walk::{Item, Walk};
use super::{FileWatch, YOUNG};
use crate::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use crate::model::{Elapsed, Now, WallTime};
use crate::triggers::s3::Existing;
use crate::triggers::watch::hash::{object_key, object_version};
use crate::triggers::watch::seen::{SeenSet, Sight};
use crate::triggers::{FdId, Readiness, Source, SourceHost};

/// Entries read in one turn, events in one batch, keys that leave in one batch.
const PIECE: usize = 1_000;

/// Reads of the kernel's queue in one turn, about a hundred events each.
const READS: usize = 32;

/// How soon a batch that the store refused is looked for again, how soon it is looked for what a folder that was moved
/// away took with it, and how often a folder is read that the kernel will not tell about.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon it is read again what could not be read: no event says when it can be.
const TORN_AGAIN: Duration = Duration::from_secs(600);

/// What is listened to in a watched folder.
fn interest() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// The kernel's messenger.
struct Ears {
    inotify: Inotify,
    fd: FdId,
    /// What each watch is about: a folder relative to the root; `None` is an ancestor of a root that is not there.
    folders: HashMap<WatchDescriptor, Option<PathBuf>>,
}

/// A file that counts once it has not changed for a while.
struct Settling {
    until: Elapsed,
    version: ObjectVersion,
}

/// What the store has been given and not yet acknowledged.
struct UnderWay {
    seen: Vec<SeenObject>,
    gone: Vec<ObjectKey>,
    baseline_done: bool,
}

pub(super) struct FileSource {
    watch: FileWatch,
    seen: SeenSet,
    baseline_done: bool,
    ears: Option<Ears>,
    /// The kernel's queue has more.
    more_to_hear: bool,
    walks: VecDeque<Walk>,
    settling: BTreeMap<PathBuf, Settling>,
    /// Files that count, in the order in which they were found; those that are not in the set are gone again.
    counted: VecDeque<PathBuf>,
    counted_set: HashSet<PathBuf>,
    /// Files of the first reading that are taken as seen.
    skipped: Vec<SeenObject>,
    gone: Vec<ObjectKey>,
    /// The first reading is done, and the store has to be told.
    baseline_ready: bool,
    under_way: Option<UnderWay>,
    /// When the whole folder is read again.
    read_again_at: Option<Elapsed>,
    trouble: Option<String>,
    /// Why the folder is read although the kernel was to tell; it stays so.
    deaf: Option<String>,
}

impl FileSource {
    pub(super) fn new(watch: FileWatch) -> FileSource {
        FileSource {
            watch,
            seen: SeenSet::default(),
            baseline_done: false,
            ears: None,
            more_to_hear: false,
            walks: VecDeque::new(),
            settling: BTreeMap::new(),
            counted: VecDeque::new(),
            counted_set: HashSet::new(),
            skipped: Vec::new(),
            gone: Vec::new(),
            baseline_ready: false,
            under_way: None,
            read_again_at: None,
            trouble: None,
            deaf: None,
        }
    }

    /// Listens anew and reads the whole folder; waits for it if it is not there.
    fn open(&mut self, host: &mut dyn SourceHost) {
        self.close(host);
        self.walks.clear();
        self.read_again_at = None;
        self.trouble = None;
        if self.watch.poll_interval.is_none() {
            match listen(host) {
                Ok(ears) => self.ears = Some(ears),
                Err(error) => self.read_instead(host, &format!("inotify is not to be had ({error})")),
            }
        }
        if self.watch.folder.is_dir() {
            self.read_all();
        } else if !self.wait_for_folder(host) {
            // It was made just now.
            self.read_all();
        }
        self.work(host);
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        if let Some(ears) = self.ears.take() {
            host.drop_fd(ears.fd);
        }
        self.more_to_hear = false;
    }

    fn read_all(&mut self) {
        self.seen.begin_listing();
        self.walks.clear();
        self.walks.push_back(Walk::new(&self.watch.folder, PathBuf::new(), self.watch.recursive));
    }

    /// Listens for the folder to be made; false if it is there after all.
    fn wait_for_folder(&mut self, host: &mut dyn SourceHost) -> bool {
        let folder = self.watch.folder.display();
        self.trouble = Some(format!("there is no folder {folder}; its files make runs once it is there"));
        let Some(ears) = &mut self.ears else {
            self.read_again_at = Some(host.now().elapsed + self.watch.poll_interval.unwrap_or(PATIENCE));
            return true;
        };
        let made =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        for ancestor in self.watch.folder.ancestors().skip(1) {
            if let Ok(wd) = ears.inotify.add_watch(ancestor, made | AddWatchFlags::IN_ONLYDIR) {
                ears.folders.insert(wd, None);
                break;
            }
        }
        let is_there = self.watch.folder.is_dir();
        if is_there {
            self.trouble = None;
        } else if !self.baseline_done {
            // Nothing was there before: whatever comes is new.
            self.baseline_ready = true;
        }
        !is_there
    }

    /// The kernel does not tell: the folder is read now and then.
    fn read_instead(&mut self, host: &mut dyn SourceHost, why: &str) {
        self.close(host);
        self.watch.poll_interval.get_or_insert(PATIENCE);
        self.deaf = Some(format!("{}: {why}; the folder is read every 30s instead", self.watch.folder.display()));
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now();
        self.walk(host, now);
        self.settle(now);
        self.hand_over(host);
        let walks = !self.walks.is_empty() || self.more_to_hear;
        let next = if walks { Some(now.elapsed) } else { self.settling.values().map(|one| one.until).min() };
        let next = [next, self.read_again_at].into_iter().flatten().min();
        host.wake_at(next);
        let told: Vec<&str> = [&self.deaf, &self.trouble].into_iter().filter_map(Option::as_deref).collect();
        host.warn((!told.is_empty()).then(|| told.join("; ")));
    }

    fn walk(&mut self, host: &mut dyn SourceHost, now: Now) {
        for _ in 0..PIECE {
            let Some(walk) = self.walks.front_mut() else { return };
            match walk.next() {
                Some(Item::Folder(folder)) => self.listen_to(host, folder),
                Some(Item::File(path, meta)) => self.found(now, &path, &meta),
                Some(Item::Trouble(folder, error)) => {
                    let folder: PathBuf = self.watch.folder.join(folder).components().collect();
                    self.trouble = Some(format!("{} can't be read: {error}", folder.display()));
                }
                None => {
                    if let Some(walk) = self.walks.pop_front().filter(|walk| walk.is_whole) {
                        host.polled(!walk.is_torn);
                        self.read_through(now, walk.is_torn);
                    }
                }
            }
        }
    }

    /// The whole folder has been read; what was not found is gone, unless some of it could not be read.
    fn read_through(&mut self, now: Now, is_torn: bool) {
        if !self.baseline_done {
            self.baseline_ready = true;
        }
        if !is_torn {
            let mut cursor = 0;
            loop {
                let gone = self.seen.next_unlisted(&mut cursor, PIECE);
                if gone.is_empty() {
                    break;
                }
                self.gone.extend(gone);
            }
        }
        if let Some(wait) = self.watch.poll_interval.or(is_torn.then_some(TORN_AGAIN)) {
            self.read_again_at = Some(now.elapsed + wait);
        }
    }

    fn listen_to(&mut self, host: &mut dyn SourceHost, folder: PathBuf) {
        let Some(ears) = &mut self.ears else { return };
        match ears.inotify.add_watch(&self.watch.folder.join(&folder), interest()) {
            Ok(wd) => {
                ears.folders.insert(wd, Some(folder));
            }
            // It is gone again, or no folder any more.
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::ENOSPC) => {
                self.read_instead(host, "too many folders for inotify (raise fs.inotify.max_user_watches)");
            }
            Err(errno) => self.read_instead(host, &format!("inotify refuses {} ({errno})", folder.display())),
        }
    }

    /// A reading has found a file.
    fn found(&mut self, now: Now, path: &Path, meta: &Metadata) {
        let seen = SeenObject { key: key_of(path), version: version_of(meta) };
        if matches!(self.seen.sight(seen), Sight::Known | Sight::Repeated) || self.is_awaited(path) {
            return;
        }
        if !self.baseline_done && !self.baseline_ready && self.watch.existing == Existing::Skip {
            self.skipped.push(seen);
            return;
        }
        let young = modified(meta) + YOUNG > now.wall;
        match self.watch.stable_for.or(young.then_some(YOUNG)) {
            Some(period) => {
                self.settling.insert(path.to_owned(), Settling { until: now.elapsed + period, version: seen.version });
            }
            None => self.count(path.to_owned()),
        }
    }

    /// The kernel has told of a file that is whole.
    fn told(&mut self, now: Now, path: &Path) {
        match (self.watch.stable_for, fs::metadata(self.watch.folder.join(path))) {
            (_, Err(_)) => {}
            (_, Ok(meta)) if !meta.is_file() => {}
            (Some(period), Ok(meta)) => {
                let settling = Settling { until: now.elapsed + period, version: version_of(&meta) };
                self.settling.insert(path.to_owned(), settling);
            }
            (None, Ok(_)) => {
                self.settling.remove(path);
                self.count(path.to_owned());
            }
        }
    }

    fn count(&mut self, name: PathBuf) {
        if self.counted_set.insert(name.clone()) {
            self.counted.push_back(name);
        }
    }

    fn is_awaited(&self, name: &Path) -> bool {
        self.counted_set.contains(name) || self.settling.contains_key(name)
    }

    fn vanished(&mut self, path: &Path) {
        self.settling.remove(path);
        self.counted_set.remove(path);
        self.gone.push(key_of(path));
    }

    /// Files that have not changed for long enough count.
    fn settle(&mut self, now: Now) {
        let due: Vec<PathBuf> =
            self.settling.iter().filter(|(_, one)| one.until <= now.elapsed).map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(settling) = self.settling.remove(&name) else { continue };
            let Ok(meta) = fs::metadata(self.watch.folder.join(&name)) else { continue };
            let version = version_of(&meta);
            if version == settling.version {
                self.count(name);
            } else {
                let until = now.elapsed + self.watch.stable_for.unwrap_or(YOUNG);
                self.settling.insert(name, Settling { until, version });
            }
        }
    }

    /// Gives the store what has come together, unless it still has something to acknowledge.
    fn hand_over(&mut self, host: &mut dyn SourceHost) {
        if self.under_way.is_some() {
            return;
        }
        let mut seen: Vec<SeenObject> = self.skipped.drain(..self.skipped.len().min(PIECE)).collect();
        let mut files = Vec::new();
        while seen.len() < PIECE
            && let Some(name) = self.counted.pop_front()
        {
            if !self.counted_set.remove(&name) {
                continue;
            }
            let path = self.watch.folder.join(&name);
            // A file that is gone before anyone could be told of it makes no run.
            let Ok(meta) = fs::metadata(&path) else { continue };
            let object = SeenObject { key: key_of(&name), version: version_of(&meta) };
            if self.seen.knows(object) {
                continue;
            }
            seen.push(object);
            // The filter decides about events, not about what is seen: a changed filter repeats no old file.
            if self.watch.filter.as_ref().is_none_or(|filter| filter.matches("", &name.to_string_lossy())) {
                files.push(describe(&path, &name, &meta));
            }
        }
        // A file that left and came again is there, however many that left are to be told of before it.
        let here: HashSet<ObjectKey> = seen.iter().map(|object| object.key).collect();
        self.gone.retain(|key| !here.contains(key));
        let gone: Vec<ObjectKey> = self.gone.drain(..self.gone.len().min(PIECE)).collect();
        let baseline_done = self.baseline_ready && self.skipped.is_empty();
        if seen.is_empty() && gone.is_empty() && !baseline_done {
            return;
        }
        let events = match files {
            files if self.watch.batch && !files.is_empty() => {
                vec![json!({ "folder": self.watch.folder.display().to_string(), "count": files.len(), "files": files })]
            }
            files => files,
        };
        self.under_way = Some(UnderWay { seen: seen.clone(), gone: gone.clone(), baseline_done });
        host.emit(Batch { events, seen, gone, baseline_done });
    }

    fn recorded(&mut self) {
        if let Some(done) = self.under_way.take() {
            self.seen.insert(&done.seen);
            self.seen.remove(&done.gone);
            if done.baseline_done {
                self.baseline_done = true;
                self.baseline_ready = false;
            }
        }
    }

    /// Reads what the kernel has to tell.
    fn hear(&mut self, host: &mut dyn SourceHost) {
        self.more_to_hear = false;
        for _ in 0..READS {
            let Some(ears) = &self.ears else { return };
            match ears.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        if self.heard(host.now(), event) {
                            return self.open(host);
                        }
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(errno) => return self.read_instead(host, &format!("inotify can't be read ({errno})")),
            }
        }
        self.more_to_hear = true;
    }

    /// One event; true if everything must begin anew.
    fn heard(&mut self, now: Now, event: InotifyEvent) -> bool {
        let is = |flag| event.mask.contains(flag);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            log::warn!("{}: more happened than the kernel could tell; it is read as a whole", self.watch.folder.display());
            self.read_all();
            return false;
        }
        let Some(ears) = &mut self.ears else { return false };
        let Some(folder) = ears.folders.get(&event.wd).cloned() else { return false };
        // Something happened beside a folder that is not there: perhaps it is now.
        let Some(folder) = folder else { return true };
        let is_root = folder.as_os_str().is_empty();
        let ended = is(AddWatchFlags::IN_IGNORED) || is(AddWatchFlags::IN_DELETE_SELF) || is(AddWatchFlags::IN_UNMOUNT);
        if ended || is_root && is(AddWatchFlags::IN_MOVE_SELF) {
            ears.folders.remove(&event.wd);
            return is_root;
        }
        let Some(name) = &event.name else { return false };
        let path = folder.join(name);
        if is(AddWatchFlags::IN_ISDIR) {
            if self.watch.recursive && (is(AddWatchFlags::IN_CREATE) || is(AddWatchFlags::IN_MOVED_TO)) {
                self.walks.push_back(Walk::new(&self.watch.folder, path, true));
            } else if is(AddWatchFlags::IN_MOVED_FROM) {
                self.forget_folder(&path);
                if self.watch.recursive {
                    self.read_again_at.get_or_insert(now.elapsed + PATIENCE);
                }
            }
        } else if is(AddWatchFlags::IN_CLOSE_WRITE) || is(AddWatchFlags::IN_MOVED_TO) {
            self.told(now, &path);
        } else if is(AddWatchFlags::IN_CREATE) {
            // A link is whole at once; anything else is told again when it is closed.
            let meta = fs::symlink_metadata(self.watch.folder.join(&path));
            if meta.is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1) {
                self.told(now, &path);
            }
        } else if is(AddWatchFlags::IN_DELETE) || is(AddWatchFlags::IN_MOVED_FROM) {
            self.vanished(&path);
        }
        false
    }

    /// A folder was moved away: what happens in it is no business of this watch any more.
    fn forget_folder(&mut self, moved: &Path) {
        let Some(ears) = &mut self.ears else { return };
        let below = |folder: &Option<PathBuf>| folder.as_ref().is_some_and(|folder| folder.starts_with(moved));
        let watches: Vec<WatchDescriptor> = ears.folders.iter().filter(|(_, folder)| below(folder)).map(|(wd, _)| *wd).collect();
        for wd in watches {
            ears.folders.remove(&wd);
            // It fails only for a watch that the kernel has dropped itself.
            let _ = ears.inotify.rm_watch(wd);
        }
    }
}

fn listen(host: &mut dyn SourceHost) -> io::Result<Ears> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // The host waits on a second descriptor of the same queue and closes that one.
    let fd = host.watch_fd(inotify.as_fd().try_clone_to_owned()?)?;
    Ok(Ears { inotify, fd, folders: HashMap::new() })
}

fn version_of(meta: &Metadata) -> ObjectVersion {
    object_version(&format!("{}.{:09}:{}", meta.mtime(), meta.mtime_nsec(), meta.ino()), meta.size())
}

fn modified(meta: &Metadata) -> WallTime {
    let nanos = u64::try_from(meta.mtime_nsec()).unwrap_or(0);
    WallTime::from_secs(meta.mtime()) + Duration::from_nanos(nanos)
}

fn key_of(name: &Path) -> ObjectKey {
    object_key(name.as_os_str().as_bytes())
}

/// JSON holds text alone: what a name has besides is shown as replacement characters, and told as bytes.
fn describe(path: &Path, name: &Path, meta: &Metadata) -> Value {
    let modified = modified(meta).to_string();
    let mut told = json!({
        "path": path.to_string_lossy(), "name": name.to_string_lossy(), "size": meta.size(), "modified": modified,
    });
    if path.to_str().is_none() {
        told["path_bytes"] = path.as_os_str().as_bytes().into();
    }
    told
}

/// The path that an event tells, to the byte.
pub(in crate::triggers) fn path_of(event: &Value) -> Option<OsString> {
    let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match event["path_bytes"].as_array() {
        Some(bytes) => Some(OsString::from_vec(bytes.iter().map(byte).collect::<Option<_>>()?)),
        None => event["path"].as_str().map(OsString::from),
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
            Readiness::Fd(_) => self.hear(host),
            Readiness::Timer => {
                if self.read_again_at.is_some_and(|at| at <= host.now().elapsed) {
                    self.read_again_at = None;
                    if self.ears.is_none() && !self.watch.folder.is_dir() {
                        return self.open(host);
                    }
                    self.trouble = None;
                    self.read_all();
                }
                if self.more_to_hear {
                    self.hear(host);
                }
            }
            Readiness::Recorded => self.recorded(),
            Readiness::NotRecorded => {
                // Nothing of it took effect; a whole reading finds it again.
                self.under_way = None;
                self.skipped.clear();
                self.gone.clear();
                self.read_again_at = Some(host.now().elapsed + PATIENCE);
            }
            Readiness::Message(_) | Readiness::Exited(_) | Readiness::Room | Readiness::RunEnded { .. } => {
                debug_assert!(false, "no other thread and no child knows this source");
            }
        }
        self.work(host);
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
        self.close(host);
    }
}
