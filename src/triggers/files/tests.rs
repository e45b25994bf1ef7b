//! The source under a host of its own, which answers for the helper process.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

use super::FileWatch;
use super::source::FileSource;
use crate::exec::spec::Action;
use crate::helper::{Answer, Entry, EntryKind, FileStat, Request, Response};
use crate::model::{Batch, Elapsed, Now, SeenSnapshot, StateWord, WallTime};
use crate::triggers::watch::Existing;
use crate::triggers::{AskId, ChildPipes, FdId, Mailbox, Readiness, Source, SourceHost};

#[derive(Default)]
struct Host {
    now: Elapsed,
    wake: Option<Elapsed>,
    /// What was asked and not taken by the test.
    asked: Vec<(AskId, Request)>,
    last_ask: u64,
    batches: Vec<Batch>,
    warning: Option<String>,
    polls: Vec<bool>,
}

impl SourceHost for Host {
    fn now(&self) -> Now {
        Now { wall: WallTime::from_secs(1_000_000), elapsed: self.now }
    }
    fn watch_fd(&mut self, _: OwnedFd) -> io::Result<FdId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn fd(&self, _: FdId) -> Option<BorrowedFd<'_>> {
        None
    }
    fn drop_fd(&mut self, _: FdId) {}
    fn ask_files(&mut self, request: &Request, _: Option<OwnedFd>) -> AskId {
        self.last_ask += 1;
        self.asked.push((AskId(self.last_ask), request.clone()));
        AskId(self.last_ask)
    }
    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.wake = at;
    }
    fn emit(&mut self, batch: Batch) {
        self.batches.push(batch);
    }
    fn load_seen(&mut self, _: &str) -> Result<SeenSnapshot, String> {
        Ok(SeenSnapshot { baseline_done: false, objects: Vec::new() })
    }
    fn warn(&mut self, warning: Option<String>) {
        self.warning = warning;
    }
    fn polled(&mut self, works: bool) {
        self.polls.push(works);
    }
    fn start_child(&mut self, _: &Action) -> Result<ChildPipes, String> {
        Err("it has no child".into())
    }
    fn end_child(&mut self) {}
    fn room(&mut self) -> usize {
        usize::MAX
    }
    fn is_written(&self) -> bool {
        true
    }
    fn follow_mounts(&mut self) {}
    fn follow_runs(&mut self) {}
    fn state_of_run(&mut self, _: &serde_json::Value) -> Result<Option<StateWord>, String> {
        Ok(None)
    }
    fn mailbox(&mut self) -> Mailbox {
        Mailbox::new(std::sync::Arc::new(|_| {}))
    }
    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A source that is polled, and its host.
struct Scene {
    source: FileSource,
    host: Host,
}

impl Scene {
    fn new(folder: &Path) -> Scene {
        let watch = FileWatch {
            folder: folder.into(),
            recursive: true,
            filter: None,
            stable_for: None,
            poll_interval: Some(Duration::from_secs(10)),
            existing: Existing::Process,
            batch: false,
        };
        let mut scene = Scene { source: FileSource::new(watch), host: Host::default() };
        scene.source.start(&mut scene.host).unwrap();
        scene
    }

    /// The only request that is to be answered.
    fn asked(&mut self) -> (AskId, Request) {
        let mut asked = std::mem::take(&mut self.host.asked);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    fn respond(&mut self, ask: AskId, response: Response) {
        self.source.ready(&mut self.host, Readiness::Files { ask, response });
    }

    fn answer(&mut self, ask: AskId, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            self.respond(ask, Response::Answer(answer, None));
        }
    }

    /// Says where the folder is.
    fn locate(&mut self, path: &Path, is_local: bool) {
        let (ask, request) = self.asked();
        assert!(matches!(request, Request::Locate(_)), "{request:?}");
        self.answer(ask, [Answer::Located { path: path.into(), is_local }, Answer::Done]);
    }

    /// Answers the next request, which lists this directory.
    fn list(&mut self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let (ask, request) = self.asked();
        let Request::List { path: listed, .. } = request else { panic!("{request:?}") };
        assert_eq!(listed.components().collect::<PathBuf>(), Path::new(path));
        self.answer(ask, answers);
    }

    /// The paths of the next request, which looks at files.
    fn looks(&mut self) -> (AskId, Vec<PathBuf>) {
        match self.asked() {
            (ask, Request::Stat(paths)) => (ask, paths),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn advance(&mut self, by: Duration) {
        self.host.now = self.host.now + by;
        if self.host.wake.is_some_and(|at| at <= self.host.now) {
            self.source.ready(&mut self.host, Readiness::Timer);
        }
    }

    /// The names of the events so far.
    fn events(&self) -> Vec<String> {
        let events = self.host.batches.iter().flat_map(|batch| &batch.events);
        events.map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    }

    fn warning(&self) -> &str {
        self.host.warning.as_deref().unwrap_or_default()
    }
}

fn stat(size: u64) -> FileStat {
    FileStat { mode: 0o100_644, is_link: false, links: 1, inode: size, size, mtime: 1, mtime_nanos: 0 }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry { name: name.into(), kind }
}

#[test]
fn a_folder_that_may_hang_is_listed_and_looked_at_by_the_helper_process_alone() {
    let mut scene = Scene::new(Path::new("/far"));
    scene.locate(Path::new("/far"), false);
    let entries = vec![entry("a", EntryKind::File(stat(1))), entry("link", EntryKind::Link), entry("sub", EntryKind::Directory)];
    // The link can be looked at before the directory below is read.
    let (ask, request) = scene.asked();
    assert!(matches!(request, Request::List { .. }), "{request:?}");
    scene.answer(ask, [Answer::Entries(entries)]);
    let (look, paths) = scene.looks();
    assert_eq!(paths, ["/far/link", "/far/a"].map(PathBuf::from));
    scene.answer(ask, [Answer::Done]);
    scene.list("/far/sub", [Answer::Entries(vec![entry("b", EntryKind::File(stat(2)))]), Answer::Done]);
    assert!(scene.host.polls.is_empty(), "the scan waits for what the link is");
    scene.answer(look, [Answer::Stats(vec![Ok(FileStat { is_link: true, ..stat(3) }), Ok(stat(1))]), Answer::Done]);
    assert_eq!(scene.host.polls, [true]);
    // As they are when they become events.
    let (ask, paths) = scene.looks();
    assert_eq!(paths, ["/far/sub/b", "/far/link"].map(PathBuf::from));
    scene.answer(ask, [Answer::Stats(vec![Err(libc::ENOENT), Ok(stat(4))]), Answer::Done]);
    assert_eq!(scene.events(), ["a", "link"], "one was removed meanwhile");
    let batch = &scene.host.batches[0];
    assert!((batch.seen.len(), batch.baseline_done, &batch.events[1]["size"]) == (2, true, &serde_json::json!(4)));
}

#[test]
fn a_removed_directory_is_skipped_and_an_unreadable_one_makes_the_scan_incomplete() {
    for (errno, is_complete) in [(libc::ENOENT, true), (libc::EACCES, false)] {
        let mut scene = Scene::new(Path::new("/far"));
        scene.locate(Path::new("/far"), false);
        scene.list("/far", [Answer::Entries(vec![entry("sub", EntryKind::Directory)]), Answer::Done]);
        scene.list("/far/sub", [Answer::Failed(errno)]);
        assert_eq!(scene.host.polls, [is_complete]);
        assert_eq!(scene.warning().contains("/far/sub can't be read: Permission denied"), !is_complete);
    }
}

#[test]
fn a_missing_root_makes_the_scan_incomplete() {
    let mut scene = Scene::new(Path::new("/far"));
    scene.locate(Path::new("/far"), false);
    scene.list("/far", [Answer::Failed(libc::ENOENT)]);
    assert_eq!((&scene.host.polls[..], scene.warning().contains("/far can't be read")), (&[false][..], true));
}

#[test]
fn what_hangs_is_tried_again_later_and_later_and_at_once_when_it_answers() {
    let mut scene = Scene::new(Path::new("/far"));
    let mut last = AskId(0);
    for delay in [30, 60, 120, 240, 480, 600, 600] {
        let (ask, request) = scene.asked();
        assert_eq!(request, Request::Locate("/far".into()));
        scene.respond(ask, Response::Hung);
        assert!(scene.warning().contains("/far can't be watched: it did not answer within 5s; it is tried again in "));
        scene.advance(Duration::from_secs(delay) - Duration::from_millis(1));
        assert!(scene.host.asked.is_empty(), "too early, after {delay} s");
        scene.advance(Duration::from_millis(1));
        last = ask;
    }
    let (ask, _) = scene.asked();
    scene.respond(ask, Response::Unavailable("there is no process".into()));
    assert!(scene.warning().contains("there is no process"));
    scene.respond(last, Response::Recovered);
    scene.advance(Duration::ZERO);
    scene.locate(Path::new("/far"), false);
    scene.list("/far", [Answer::Done]);
    assert_eq!((scene.warning(), scene.host.polls.last()), ("", Some(&true)));
}

#[test]
fn one_file_that_hangs_is_left_out_and_the_others_are_looked_at_later() {
    let mut scene = Scene::new(Path::new("/far"));
    scene.locate(Path::new("/far"), false);
    let files = ["a", "b", "c"].map(|name| entry(name, EntryKind::File(stat(1)))).to_vec();
    scene.list("/far", [Answer::Entries(files), Answer::Done]);
    let (ask, paths) = scene.looks();
    assert_eq!(paths.len(), 3);
    scene.answer(ask, [Answer::Stats(vec![Ok(stat(1))])]);
    scene.respond(ask, Response::Hung);
    assert!(scene.warning().contains("/far/b can't be watched"), "{}", scene.warning());
    scene.advance(Duration::from_secs(30));
    scene.locate(Path::new("/far"), false);
    // It is listed again while the last one is looked at.
    let asked = std::mem::take(&mut scene.host.asked);
    let look = asked.into_iter().find_map(|(ask, request)| match request {
        Request::Stat(paths) => Some((ask, paths)),
        _ => None,
    });
    let (ask, paths) = look.expect("a request");
    assert_eq!(paths, [Path::new("/far/c")]);
    scene.answer(ask, [Answer::Stats(vec![Ok(stat(1))]), Answer::Done]);
    assert_eq!(scene.events(), ["a", "c"]);
}

#[test]
fn a_local_folder_is_looked_at_here_until_something_is_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    // Long ago, so that nobody can still be writing to it.
    std::fs::File::create(path.join("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut scene = Scene::new(&path);
    scene.locate(&path, true);
    assert!(scene.host.asked.is_empty(), "{:?}", scene.host.asked);
    assert_eq!((&scene.host.polls[..], scene.events()), (&[true][..], vec!["a".to_owned()]));
    scene.source.ready(&mut scene.host, Readiness::MountsChanged);
    // The time for a scan, which waits.
    scene.advance(Duration::from_secs(10));
    assert_eq!(scene.host.polls, [true]);
    scene.locate(&path, true);
    scene.advance(Duration::from_secs(10));
    assert_eq!((scene.host.polls.len(), scene.host.asked.len()), (2, 0));
    // Something that may hang was mounted over it.
    scene.source.ready(&mut scene.host, Readiness::MountsChanged);
    scene.locate(&path, false);
    scene.locate(&path, false);
    let (_, request) = scene.asked();
    assert!(matches!(request, Request::List { .. }), "{request:?}");
}

#[test]
fn mounts_that_come_and_go_keep_a_folder_neither_from_being_watched_nor_from_being_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let mut scene = Scene::new(&path);
    scene.locate(&path, true);
    for _ in 0..3 {
        scene.source.ready(&mut scene.host, Readiness::MountsChanged);
    }
    // The first answer is about a time before the last change.
    scene.locate(&path, true);
    scene.locate(&path, true);
    assert!(scene.host.asked.is_empty(), "{:?}", scene.host.asked);
    for _ in 0..3 {
        scene.source.ready(&mut scene.host, Readiness::MountsChanged);
    }
    let (ask, _) = scene.asked();
    scene.respond(ask, Response::Hung);
    assert!(scene.warning().contains("can't be watched: it did not answer within 5s"), "{}", scene.warning());
}
