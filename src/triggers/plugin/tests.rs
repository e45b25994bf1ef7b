//! The source with a fake host: real pipes, a manual clock, and a store that can fail.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::json;

use super::super::Restart;
use super::*;
use crate::exec::spec::Action;
use crate::helper::Request;
use crate::model::SeenSnapshot;
use crate::model::{Now, StateWord, WallTime};
use crate::triggers::{AskId, ChildPipes, Mailbox, Spread};

struct Host {
    now: Elapsed,
    fds: BTreeMap<u32, OwnedFd>,
    next: u32,
    /// The plugin's ends of its pipes.
    child: Option<(File, File)>,
    starts: usize,
    terminations: usize,
    start_error: Option<String>,
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
        assert!(self.fds.remove(&id.0).is_some(), "only open descriptors are closed");
    }
    fn ask_files(&mut self, _: &Request, _: Option<OwnedFd>) -> AskId {
        unreachable!("it looks at no files")
    }
    fn wake_at(&mut self, at: Option<Elapsed>) {
        self.wake = at;
    }
    fn emit(&mut self, batch: Batch) {
        assert!(!batch.events.is_empty() && self.batch.replace(batch).is_none(), "one batch at a time, and none without events");
    }
    fn load_seen(&mut self, _: &str) -> Result<SeenSnapshot, String> {
        Err("a plugin has no seen-set".into())
    }
    fn start_child(&mut self, _: &Action) -> Result<ChildPipes, String> {
        self.starts += 1;
        if let Some(reason) = &self.start_error {
            return Err(reason.clone());
        }
        let ((stdout, out), (stderr, err)) = (self.pipe(), self.pipe());
        assert!(self.child.replace((out, err)).is_none(), "one child at a time");
        Ok(ChildPipes { stdout, stderr })
    }
    fn end_child(&mut self) {
        self.terminations += 1;
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
    fn follow_mounts(&mut self) {}
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

/// A source, its host, and all stored events.
struct Setup {
    host: Host,
    source: PluginSource,
    stored: Vec<Value>,
    /// The sizes of the batches.
    batches: Vec<usize>,
}

impl Setup {
    fn start(restart: Restart) -> Setup {
        let host = Host {
            now: Elapsed::from_nanos(1),
            fds: BTreeMap::new(),
            next: 0,
            child: None,
            starts: 0,
            terminations: 0,
            start_error: None,
            room: usize::MAX,
            batch: None,
            wake: None,
            warning: None,
        };
        let spread = Spread::from_offset(Duration::ZERO);
        let plugin = Plugin { job: "a".into(), action: Action::Shell("x".into()), restart, spread };
        let mut setup = Setup { host, source: PluginSource::new(plugin), stored: Vec::new(), batches: Vec::new() };
        setup.source.start(&mut setup.host).unwrap();
        setup
    }

    /// The plugin write, and everything that follows happens.
    fn write(&mut self, text: impl AsRef<[u8]>) {
        self.host.child.as_mut().expect("a running plugin").0.write_all(text.as_ref()).unwrap();
        self.notify_readable();
        self.run_until_idle();
    }

    /// Reports both pipes as readable.
    fn notify_readable(&mut self) {
        let fds: Vec<u32> = self.host.fds.keys().copied().collect();
        for fd in fds {
            self.source.ready(&mut self.host, Readiness::Fd(FdId(fd)));
        }
    }

    /// Stores batches and fires timers that are due, until the source is idle.
    fn run_until_idle(&mut self) {
        loop {
            if let Some(batch) = self.host.batch.take() {
                assert!(batch.events.len() <= self.host.room.max(1), "no more events than there is room for");
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

    fn exits(&mut self, exit: Exit) {
        self.host.child = None;
        self.notify_readable();
        self.source.ready(&mut self.host, Readiness::Exited(exit));
        self.run_until_idle();
    }

    /// Advances the clock to the source's timer; returns by how much.
    fn sleep_until_wake(&mut self) -> Duration {
        let at = self.host.wake.expect("a deadline");
        let slept = at.since(self.host.now);
        self.host.now = at;
        self.run_until_idle();
        slept
    }

    fn warning(&self) -> &str {
        self.host.warning.as_deref().unwrap_or_default()
    }
}

#[test]
fn each_line_of_json_is_an_event_and_an_invalid_line_is_dropped_with_a_warning() {
    let mut setup = Setup::start(Restart::Always);
    setup.write("{\"a\": 1}\n[2]\r\n\n  \n\"three\"\nnull\n4.5\n");
    assert_eq!(setup.stored, [json!({"a": 1}), json!([2]), json!("three"), json!(null), json!(4.5)]);
    assert_eq!(setup.host.warning, None);
    setup.write("{\"b\": \n5\n");
    assert_eq!(
        setup.warning(),
        "line 8 of the plugin was dropped: it is not JSON (EOF while parsing a value at column 6): `{\"b\":`"
    );
    setup.write(b"\"\xff\"\n6 7\n8\n");
    assert!(setup.warning().starts_with("line 11 of the plugin was dropped: it is not JSON (trailing characters at column 3)"));
    assert!(setup.warning().ends_with("; 2 before it were dropped too"), "{}", setup.warning());
    assert_eq!(setup.stored[5..], [json!(5), json!(8)]);
    setup.sleep_until_wake();
    assert_eq!(setup.host.warning, None, "the warning expires after an hour");
    assert_eq!(setup.host.wake, None, "an idle plugin causes no wake-up");
}

#[test]
fn a_line_longer_than_64_kib_is_dropped() {
    let mut setup = Setup::start(Restart::Always);
    let of_size = |size: usize| format!("\"{}\"", "x".repeat(size - 2));
    for part in format!("{}\n{}\n1\n", of_size(MAX_LINE), of_size(MAX_LINE + 1)).as_bytes().chunks(20_000) {
        setup.write(part);
    }
    assert_eq!(setup.stored, [json!("x".repeat(MAX_LINE - 2)), json!(1)]);
    assert!(
        setup.warning().contains("line 2 of the plugin was dropped: it is longer than 64 KiB: `\"xxx"),
        "{}",
        setup.warning()
    );
    assert!(setup.warning().len() < 200);
}

#[test]
fn no_more_events_are_read_than_there_is_room_for_and_the_plugin_is_blocked() {
    let mut setup = Setup::start(Restart::Always);
    setup.host.room = 3;
    let writer = setup.host.child.as_ref().unwrap().0.try_clone().unwrap();
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
            setup.notify_readable();
            setup.run_until_idle();
        }
    }
    assert!(written < 10_000, "the plugin blocks in write(2)");
    setup.notify_readable();
    setup.run_until_idle();
    assert_eq!(setup.stored, [json!(0), json!(1), json!(2)]);
    assert_eq!(setup.host.wake, None, "there is no busy loop");
    while (setup.stored.len() as u64) < written {
        setup.host.room = 1_500;
        setup.source.ready(&mut setup.host, Readiness::Room);
        setup.run_until_idle();
    }
    assert_eq!(setup.stored, (0..written).map(|number| json!(number)).collect::<Vec<_>>(), "in order, each once");
    assert!(setup.batches.iter().all(|size| *size <= BATCH_SIZE));
}

#[test]
fn events_that_could_not_be_stored_are_emitted_again_in_order() {
    let mut setup = Setup::start(Restart::Always);
    setup.host.child.as_mut().unwrap().0.write_all(b"1\n2\n").unwrap();
    setup.notify_readable();
    assert!(setup.host.batch.take().is_some());
    setup.source.ready(&mut setup.host, Readiness::NotRecorded);
    setup.write("3\n");
    assert_eq!(setup.stored, Vec::<Value>::new());
    assert_eq!(setup.sleep_until_wake(), RETRY_DELAY);
    assert_eq!(setup.stored, [json!(1), json!(2), json!(3)]);
}

#[test]
fn a_last_line_without_a_newline_is_an_event_if_it_is_valid() {
    let mut setup = Setup::start(Restart::Always);
    setup.write("1\n{\"whole\": true}");
    assert_eq!(setup.stored, [json!(1)]);
    setup.exits(Exit::Code(0));
    assert_eq!(setup.stored[1..], [json!({"whole": true})]);
    setup.sleep_until_wake();
    setup.write("2\n{\"whole\": fal");
    setup.exits(Exit::Signal(9));
    assert_eq!(setup.stored[2..], [json!(2)]);
    assert!(
        setup.warning().contains("line 2 of the plugin was dropped: the plugin exited in the middle of it"),
        "{}",
        setup.warning()
    );
}

#[test]
fn a_last_line_is_not_lost_when_stdout_closes_while_a_batch_is_in_flight() {
    let mut setup = Setup::start(Restart::Always);
    setup.host.child.as_mut().unwrap().0.write_all(b"1\n2").unwrap();
    let (out, err) = setup.host.child.take().unwrap();
    drop(out);
    setup.notify_readable();
    assert!(setup.host.batch.is_some(), "the first batch is in flight");
    drop(err);
    setup.source.ready(&mut setup.host, Readiness::Exited(Exit::Code(0)));
    setup.run_until_idle();
    assert_eq!(setup.stored, [json!(1), json!(2)]);
    assert!(setup.host.fds.is_empty());
}

#[test]
fn restarts_back_off_until_the_plugin_is_stable() {
    let mut setup = Setup::start(Restart::Always);
    let mut waits = Vec::new();
    for _ in 0..5 {
        setup.exits(Exit::Code(7));
        waits.push(setup.sleep_until_wake().as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16]);
    assert_eq!(setup.host.starts, 6);
    assert_eq!(setup.warning(), "the plugin exited with code 7, 5 times in a row; it has been restarted");
    assert_eq!(setup.sleep_until_wake(), STABLE_AFTER);
    assert_eq!((setup.host.warning.clone(), setup.host.wake), (None, None));
    setup.exits(Exit::Code(7));
    assert_eq!(setup.warning(), "the plugin exited with code 7; next start in 1s");
}

#[test]
fn a_plugin_that_can_not_be_started_is_retried() {
    let mut setup = Setup::start(Restart::OnFailure);
    setup.host.start_error = Some("`x` was not found in PATH".into());
    setup.exits(Exit::Code(1));
    assert_eq!((setup.sleep_until_wake().as_secs(), setup.sleep_until_wake().as_secs()), (1, 2));
    assert_eq!(setup.warning(), "the plugin can't be started: `x` was not found in PATH, 3 times in a row; next start in 4s");
    setup.host.start_error = None;
    setup.sleep_until_wake();
    setup.write("1\n");
    assert_eq!(setup.stored, [json!(1)]);
}

#[test]
fn a_plugin_is_not_restarted_against_its_policy() {
    let mut setup = Setup::start(Restart::OnFailure);
    setup.write("1\n");
    setup.exits(Exit::Code(0));
    assert_eq!((setup.host.wake, setup.host.warning.clone(), setup.host.starts), (None, None, 1));
    let mut never = Setup::start(Restart::Never);
    never.exits(Exit::Signal(11));
    assert_eq!((never.host.wake, never.host.starts), (None, 1));
    assert_eq!(never.warning(), "the plugin was killed by SIGSEGV and is not restarted (restart: never)");
}

#[test]
fn a_plugin_that_closes_its_stdout_is_terminated() {
    let mut setup = Setup::start(Restart::Always);
    let (out, _err) = setup.host.child.take().unwrap();
    drop(out);
    setup.notify_readable();
    assert_eq!(setup.host.terminations, 0, "a shell takes a moment to notice that its pipeline has ended");
    assert_eq!(setup.sleep_until_wake(), STDOUT_CLOSED_GRACE);
    assert_eq!(setup.host.terminations, 1);
}

#[test]
fn at_shutdown_all_output_is_read_whether_there_is_room_or_not() {
    let mut setup = Setup::start(Restart::Always);
    setup.host.room = 0;
    setup.write((0..3_000).map(|number| format!("{number}\n")).collect::<String>());
    assert_eq!(setup.stored, Vec::<Value>::new());
    setup.host.room = usize::MAX;
    setup.source.close(&mut setup.host);
    assert_eq!(setup.host.terminations, 1);
    setup.run_until_idle();
    setup.write("\"last words\"\n\"and more\"");
    setup.exits(Exit::Signal(15));
    assert_eq!(setup.stored.len(), 3_002);
    assert_eq!(setup.stored[3_000..], [json!("last words"), json!("and more")]);
    assert_eq!((setup.host.wake, setup.host.starts), (None, 1), "it is not restarted");
    assert!(setup.host.fds.is_empty());
}

#[test]
fn a_quoted_line_has_no_control_character_and_is_bounded() {
    let mut setup = Setup::start(Restart::Always);
    setup.write(format!("a\tb\x1b[1m{}\r\n", "é".repeat(200)));
    let quoted = format!("`a\\tb\u{fffd}[1m{}…`", "é".repeat(53));
    assert!(setup.warning().ends_with(&quoted), "{}", setup.warning());
    setup.write(b"\xff\n");
    assert!(setup.warning().ends_with("; 1 before it were dropped too"), "{}", setup.warning());
    assert!(setup.warning().contains("`\u{fffd}`"), "{}", setup.warning());
}
