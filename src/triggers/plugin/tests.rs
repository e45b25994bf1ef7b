//! The source under a host of its own: real pipes, a clock that moves when told to, a store that refuses when told to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::json;

use super::super::Restart;
use super::*;
use crate::exec::spec::Action;
use crate::model::SeenSnapshot;
use crate::model::{Now, StateWord, WallTime};
use crate::triggers::{ChildPipes, Mailbox, Spread};

struct Host {
    now: Elapsed,
    fds: BTreeMap<u32, OwnedFd>,
    next: u32,
    /// The plugin's ends of its pipes.
    child: Option<(File, File)>,
    starts: usize,
    ends: usize,
    refuses: Option<String>,
    room: usize,
    batch: Option<Batch>,
    wake: Option<Elapsed>,
    warning: Option<String>,
}

impl Host {
    fn pipe(&mut self) -> (FdId, File) {
        let (reader, writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        self.next += 1;
        self.fds.insert(self.next, reader);
        (FdId(self.next), File::from(OwnedFd::from(writer)))
    }
}

impl SourceHost for Host {
    fn now(&self) -> Now {
        Now { wall: WallTime::from_secs(0), elapsed: self.now }
    }
    fn watch_fd(&mut self, _: OwnedFd) -> io::Result<FdId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn fd(&self, id: FdId) -> Option<BorrowedFd<'_>> {
        self.fds.get(&id.0).map(AsFd::as_fd)
    }
    fn drop_fd(&mut self, id: FdId) {
        assert!(self.fds.remove(&id.0).is_some(), "only what is open is closed");
    }
    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.wake = at;
    }
    fn emit(&mut self, batch: Batch) {
        assert!(!batch.events.is_empty() && self.batch.replace(batch).is_none(), "one batch at a time, and none for nothing");
    }
    fn load_seen(&mut self, _: &str) -> Result<SeenSnapshot, String> {
        Err("a plugin has seen nothing".into())
    }
    fn start_child(&mut self, _: &Action) -> Result<ChildPipes, String> {
        self.starts += 1;
        if let Some(reason) = &self.refuses {
            return Err(reason.clone());
        }
        let ((stdout, out), (stderr, err)) = (self.pipe(), self.pipe());
        assert!(self.child.replace((out, err)).is_none(), "one child at a time");
        Ok(ChildPipes { stdout, stderr })
    }
    fn end_child(&mut self) {
        self.ends += 1;
    }
    fn room(&mut self) -> usize {
        self.room
    }
    fn warn(&mut self, warning: Option<String>) {
        self.warning = warning;
    }
    fn is_written(&self) -> bool {
        true
    }
    fn follow_runs(&mut self) {}
    fn state_of_run(&mut self, _: &Value) -> Result<Option<StateWord>, String> {
        Ok(None)
    }
    fn mailbox(&mut self) -> Mailbox {
        unreachable!("a plugin has no thread")
    }
    #[cfg(feature = "s3")]
    fn runtime(&mut self) -> io::Result<tokio::runtime::Handle> {
        unreachable!("a plugin has no runtime")
    }
}

/// A source, its host, and all that was stored.
struct Bench {
    host: Host,
    source: PluginSource,
    stored: Vec<Value>,
    /// The sizes of the batches.
    batches: Vec<usize>,
}

impl Bench {
    fn start(restart: Restart) -> Bench {
        let host = Host {
            now: Elapsed::from_nanos(1),
            fds: BTreeMap::new(),
            next: 0,
            child: None,
            starts: 0,
            ends: 0,
            refuses: None,
            room: usize::MAX,
            batch: None,
            wake: None,
            warning: None,
        };
        let spread = Spread::from_offset(Duration::ZERO);
        let plugin = Plugin { job: "a".into(), action: Action::Shell("x".into()), restart, spread };
        let mut bench = Bench { host, source: PluginSource::new(plugin), stored: Vec::new(), batches: Vec::new() };
        bench.source.start(&mut bench.host).unwrap();
        bench
    }

    /// The plugin writes, and everything that follows happens.
    fn writes(&mut self, text: impl AsRef<[u8]>) {
        self.host.child.as_mut().expect("a plugin that lives").0.write_all(text.as_ref()).unwrap();
        self.told();
        self.settle();
    }

    /// The reactor tells of the pipe.
    fn told(&mut self) {
        let fds: Vec<u32> = self.host.fds.keys().copied().collect();
        for fd in fds {
            self.source.ready(&mut self.host, Readiness::Fd(FdId(fd)));
        }
    }

    /// Stores what is handed over and wakes the source while it wants to be woken at once.
    fn settle(&mut self) {
        loop {
            if let Some(batch) = self.host.batch.take() {
                assert!(batch.events.len() <= self.host.room.max(1), "no more than there is room for");
                self.host.room -= batch.events.len().min(self.host.room);
                self.batches.push(batch.events.len());
                self.stored.extend(batch.events);
                self.source.ready(&mut self.host, Readiness::Recorded);
            } else if self.host.wake.take_if(|at| *at <= self.host.now).is_some() {
                self.source.ready(&mut self.host, Readiness::Timer);
            } else {
                return;
            }
        }
    }

    fn ends(&mut self, exit: Exit) {
        self.host.child = None;
        self.told();
        self.source.ready(&mut self.host, Readiness::Exited(exit));
        self.settle();
    }

    /// Time passes until the source wants to be woken; returns how long that was.
    fn sleeps(&mut self) -> Duration {
        let at = self.host.wake.expect("a deadline");
        let slept = at.since(self.host.now);
        self.host.now = at;
        self.settle();
        slept
    }

    fn warning(&self) -> &str {
        self.host.warning.as_deref().unwrap_or_default()
    }
}

#[test]
fn each_line_of_json_is_an_event_and_a_bad_one_is_told_with_its_number_and_dropped() {
    let mut bench = Bench::start(Restart::Always);
    bench.writes("{\"a\": 1}\n[2]\r\n\n  \n\"three\"\nnull\n4.5\n");
    assert_eq!(bench.stored, [json!({"a": 1}), json!([2]), json!("three"), json!(null), json!(4.5)]);
    assert_eq!(bench.host.warning, None);
    bench.writes("{\"b\": \n5\n");
    assert_eq!(
        bench.warning(),
        "line 8 of the plugin was dropped: it is not JSON (EOF while parsing a value at column 6): `{\"b\":`"
    );
    bench.writes(b"\"\xff\"\n6 7\n8\n");
    assert!(bench.warning().starts_with("line 11 of the plugin was dropped: it is not JSON (trailing characters at column 3)"));
    assert!(bench.warning().ends_with("; 2 before it were dropped too"), "{}", bench.warning());
    assert_eq!(bench.stored[5..], [json!(5), json!(8)]);
    bench.sleeps();
    assert_eq!(bench.host.warning, None, "after an hour it is old news");
    assert_eq!(bench.host.wake, None, "and nothing wakes a daemon whose plugin is silent");
}

#[test]
fn a_line_is_at_most_64_kib_and_what_is_longer_is_dropped_whole() {
    let mut bench = Bench::start(Restart::Always);
    let of_size = |size: usize| format!("\"{}\"", "x".repeat(size - 2));
    for part in format!("{}\n{}\n1\n", of_size(LONGEST_LINE), of_size(LONGEST_LINE + 1)).as_bytes().chunks(20_000) {
        bench.writes(part);
    }
    assert_eq!(bench.stored, [json!("x".repeat(LONGEST_LINE - 2)), json!(1)]);
    assert!(
        bench.warning().contains("line 2 of the plugin was dropped: it is longer than 64 KiB: `\"xxx"),
        "{}",
        bench.warning()
    );
    assert!(bench.warning().len() < 200);
}

#[test]
fn no_more_is_taken_than_there_is_room_for_and_the_pipe_is_left_alone_meanwhile() {
    let mut bench = Bench::start(Restart::Always);
    bench.host.room = 3;
    let writer = bench.host.child.as_ref().unwrap().0.try_clone().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut written = 0_u64;
    // As much as the pipe and the first read hold.
    loop {
        let mut line = [b' '; 16];
        let text = format!("{written}");
        line[..text.len()].copy_from_slice(text.as_bytes());
        line[15] = b'\n';
        match nix::unistd::write(&writer, &line) {
            Ok(16) => written += 1,
            Ok(_) => unreachable!("lines of 16 bytes fit a pipe without a rest"),
            Err(Errno::EAGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
        if written == 10 {
            bench.told();
            bench.settle();
        }
    }
    assert!(written < 10_000, "the plugin waits in its write");
    bench.told();
    bench.settle();
    assert_eq!(bench.stored, [json!(0), json!(1), json!(2)]);
    assert_eq!(bench.host.wake, None, "nothing is tried again and again");
    while (bench.stored.len() as u64) < written {
        bench.host.room = 1_500;
        bench.source.ready(&mut bench.host, Readiness::Room);
        bench.settle();
    }
    assert_eq!(bench.stored, (0..written).map(|number| json!(number)).collect::<Vec<_>>(), "in order, each once");
    assert!(bench.batches.iter().all(|size| *size <= PIECE));
}

#[test]
fn what_the_store_refuses_is_handed_over_again_and_nothing_behind_it_overtakes() {
    let mut bench = Bench::start(Restart::Always);
    bench.host.child.as_mut().unwrap().0.write_all(b"1\n2\n").unwrap();
    bench.told();
    assert!(bench.host.batch.take().is_some());
    bench.source.ready(&mut bench.host, Readiness::NotRecorded);
    bench.writes("3\n");
    assert_eq!(bench.stored, Vec::<Value>::new());
    assert_eq!(bench.sleeps(), PATIENCE);
    assert_eq!(bench.stored, [json!(1), json!(2), json!(3)]);
}

#[test]
fn a_last_line_without_a_newline_counts_if_it_is_whole() {
    let mut bench = Bench::start(Restart::Always);
    bench.writes("1\n{\"whole\": true}");
    assert_eq!(bench.stored, [json!(1)]);
    bench.ends(Exit::Code(0));
    assert_eq!(bench.stored[1..], [json!({"whole": true})]);
    bench.sleeps();
    bench.writes("2\n{\"whole\": fal");
    bench.ends(Exit::Signal(9));
    assert_eq!(bench.stored[2..], [json!(2)]);
    assert!(
        bench.warning().contains("line 2 of the plugin was dropped: the plugin ended in the middle of it"),
        "{}",
        bench.warning()
    );
}

#[test]
fn a_last_line_is_not_forgotten_when_stdout_closes_before_the_end_and_the_store_is_busy() {
    let mut bench = Bench::start(Restart::Always);
    bench.host.child.as_mut().unwrap().0.write_all(b"1\n2").unwrap();
    let (out, err) = bench.host.child.take().unwrap();
    drop(out);
    bench.told();
    assert!(bench.host.batch.is_some(), "the first line is on its way to the store");
    drop(err);
    bench.source.ready(&mut bench.host, Readiness::Exited(Exit::Code(0)));
    bench.settle();
    assert_eq!(bench.stored, [json!(1), json!(2)]);
    assert!(bench.host.fds.is_empty());
}

#[test]
fn one_that_ends_is_started_again_later_and_later_until_it_has_lived_well() {
    let mut bench = Bench::start(Restart::Always);
    let mut waits = Vec::new();
    for _ in 0..5 {
        bench.ends(Exit::Code(7));
        waits.push(bench.sleeps().as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16]);
    assert_eq!(bench.host.starts, 6);
    assert_eq!(bench.warning(), "the plugin ended with exit code 7, 5 times in a row; it has been started again");
    assert_eq!(bench.sleeps(), LIVED_WELL);
    assert_eq!((bench.host.warning.clone(), bench.host.wake), (None, None));
    bench.ends(Exit::Code(7));
    assert_eq!(bench.warning(), "the plugin ended with exit code 7; next start in 1s");
}

#[test]
fn one_that_can_not_be_started_is_tried_again_too() {
    let mut bench = Bench::start(Restart::OnFailure);
    bench.host.refuses = Some("`x` was not found in PATH".into());
    bench.ends(Exit::Code(1));
    assert_eq!((bench.sleeps().as_secs(), bench.sleeps().as_secs()), (1, 2));
    assert_eq!(bench.warning(), "the plugin can't be started: `x` was not found in PATH, 3 times in a row; next start in 4s");
    bench.host.refuses = None;
    bench.sleeps();
    bench.writes("1\n");
    assert_eq!(bench.stored, [json!(1)]);
}

#[test]
fn one_that_may_end_stays_ended() {
    let mut bench = Bench::start(Restart::OnFailure);
    bench.writes("1\n");
    bench.ends(Exit::Code(0));
    assert_eq!((bench.host.wake, bench.host.warning.clone(), bench.host.starts), (None, None, 1));
    let mut never = Bench::start(Restart::Never);
    never.ends(Exit::Signal(11));
    assert_eq!((never.host.wake, never.host.starts), (None, 1));
    assert_eq!(never.warning(), "the plugin was ended by SIGSEGV and is not started again (restart: never)");
}

#[test]
fn one_that_closes_its_stdout_but_lives_is_ended_after_a_moment() {
    let mut bench = Bench::start(Restart::Always);
    let (out, _err) = bench.host.child.take().unwrap();
    drop(out);
    bench.told();
    assert_eq!(bench.host.ends, 0, "a shell takes a moment to see that its pipeline has ended");
    assert_eq!(bench.sleeps(), SILENCE);
    assert_eq!(bench.host.ends, 1);
}

#[test]
fn at_the_daemon_s_end_all_that_was_written_is_taken_whether_there_is_room_or_not() {
    let mut bench = Bench::start(Restart::Always);
    bench.host.room = 0;
    bench.writes((0..3_000).map(|number| format!("{number}\n")).collect::<String>());
    assert_eq!(bench.stored, Vec::<Value>::new());
    bench.host.room = usize::MAX;
    bench.source.close(&mut bench.host);
    assert_eq!(bench.host.ends, 1);
    bench.settle();
    bench.writes("\"last words\"\n\"and more\"");
    bench.ends(Exit::Signal(15));
    assert_eq!(bench.stored.len(), 3_002);
    assert_eq!(bench.stored[3_000..], [json!("last words"), json!("and more")]);
    assert_eq!((bench.host.wake, bench.host.starts), (None, 1), "it is not started again");
    assert!(bench.host.fds.is_empty());
}

#[test]
fn a_quoted_line_has_no_control_character_and_is_bounded() {
    let mut bench = Bench::start(Restart::Always);
    bench.writes(format!("a\tb\x1b[1m{}\r\n", "é".repeat(200)));
    let quoted = format!("`a\\tb\u{fffd}[1m{}…`", "é".repeat(53));
    assert!(bench.warning().ends_with(&quoted), "{}", bench.warning());
    bench.writes(b"\xff\n");
    assert!(bench.warning().ends_with("; 1 before it were dropped too"), "{}", bench.warning());
    assert!(bench.warning().contains("`\u{fffd}`"), "{}", bench.warning());
}
