//! Clocks that are set, boxes that sleep and boxes without a clock of their own: the real reactor, store and socket,
//! with time handed in through the one seam where the daemon reads it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use firelink::config::{Surroundings, load_text};
use firelink::control::bind;
use firelink::cron::parse_rfc3339;
use firelink::engine::Deadlines;
use firelink::model::{Elapsed, Now, WallTime};
use firelink::reactor::clocks::{Clocks, WallWake};
use firelink::reactor::{Parts, Reactor, Service};
use firelink::store::{Filter, History, Lock, Store};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Time that a test moves.
struct Time {
    now: Now,
    armed: Deadlines,
    set: bool,
    synchronized: bool,
}

/// One hand of it is the daemon's, the other the test's.
#[derive(Clone)]
struct Clock {
    time: Arc<Mutex<Time>>,
    wall: Arc<Bell>,
    elapsed: Arc<Bell>,
}

/// Readable once it was rung, like a timerfd.
struct Bell {
    ring: UnixStream,
    heard: UnixStream,
}

impl Bell {
    fn new() -> Arc<Bell> {
        let (ring, heard) = UnixStream::pair().unwrap();
        ring.set_nonblocking(true).unwrap();
        heard.set_nonblocking(true).unwrap();
        Arc::new(Bell { ring, heard })
    }

    fn ring(&self) {
        (&self.ring).write_all(b"!").unwrap();
    }

    fn take(&self) {
        while matches!((&self.heard).read(&mut [0; 64]), Ok(1..)) {}
    }
}

impl Clock {
    fn at(wall: &str) -> Clock {
        let now = Now { wall: parse_rfc3339(wall).expect("an instant"), elapsed: Elapsed::from_nanos(1_000_000_000) };
        let armed = Deadlines { wall: None, elapsed: None };
        Clock {
            time: Arc::new(Mutex::new(Time { now, armed, set: false, synchronized: false })),
            wall: Bell::new(),
            elapsed: Bell::new(),
        }
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap()
    }

    fn ring(&self, time: &Time) {
        if time.set || time.armed.wall.is_some_and(|at| at <= time.now.wall) {
            self.wall.ring();
        }
        if time.armed.elapsed.is_some_and(|at| at <= time.now.elapsed) {
            self.elapsed.ring();
        }
    }

    /// Time goes by; asleep or awake makes no difference to these two clocks.
    fn pass(&self, by: Duration) {
        let mut time = self.time();
        time.now = Now { wall: time.now.wall + by, elapsed: time.now.elapsed + by };
        self.ring(&time);
    }

    /// Somebody sets the wall clock.
    fn set(&self, wall: &str) {
        let mut time = self.time();
        time.now.wall = parse_rfc3339(wall).expect("an instant");
        time.set = true;
        self.ring(&time);
    }
}

impl Clocks for Clock {
    fn now(&self) -> Now {
        self.time().now
    }

    fn arm(&mut self, deadlines: Deadlines) -> std::io::Result<()> {
        let mut time = self.time();
        time.armed = deadlines;
        // Like a timerfd: a deadline in the past fires at once.
        self.ring(&time);
        Ok(())
    }

    fn wall_fd(&self) -> RawFd {
        self.wall.heard.as_raw_fd()
    }

    fn elapsed_fd(&self) -> RawFd {
        self.elapsed.heard.as_raw_fd()
    }

    fn take_wall(&mut self) -> std::io::Result<WallWake> {
        self.wall.take();
        Ok(if std::mem::take(&mut self.time().set) { WallWake::ClockSet } else { WallWake::Due })
    }

    fn take_elapsed(&mut self) -> std::io::Result<()> {
        self.elapsed.take();
        Ok(())
    }

    fn is_synchronized(&self) -> bool {
        self.time().synchronized
    }
}

/// A daemon on this clock, and a connection that follows it.
struct Daemon {
    clock: Clock,
    stream: BufReader<UnixStream>,
    thread: JoinHandle<()>,
}

impl Daemon {
    fn start(dir: &Path, config: &str, clock: &Clock) -> Daemon {
        let (ready, is_ready) = channel();
        let (dir, config, its_clock) = (dir.to_owned(), config.to_owned(), clock.clone());
        let socket: PathBuf = dir.join("socket");
        let path = socket.clone();
        let thread = std::thread::spawn(move || {
            let around = Surroundings { start_dir: dir.clone(), machine_seed: 1, uid: 65_534 };
            let config = load_text(Path::new("f.yaml"), &config, &around).expect("a right configuration");
            let state_dir = dir.join("state");
            let lock = Lock::take(&state_dir).expect("the lock");
            let opened = Store::open(&state_dir, config.durability, "one boot".into()).expect("the store");
            let parts = Parts {
                config,
                store: opened.store,
                lock,
                state_dir,
                surroundings: around,
                socket: bind(&path).expect("the socket"),
                clocks: its_clock,
                seed: 1,
                warnings: opened.warnings,
                service: Service::default(),
            };
            let reactor = Reactor::new(parts).expect("a reactor");
            ready.send(()).unwrap();
            reactor.run().expect("an orderly end");
        });
        is_ready.recv_timeout(Duration::from_secs(60)).expect("the daemon starts");
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"v\":1,\"cmd\":\"events\"}\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut daemon = Daemon { clock: clock.clone(), stream: BufReader::new(stream), thread };
        // From here on it is heard.
        daemon.heard();
        daemon
    }

    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ask(&mut self, cmd: &str, heard: &mut Vec<String>) {
        self.stream.get_mut().write_all(format!("{{\"v\":1,\"cmd\":\"{cmd}\"}}\n").as_bytes()).unwrap();
        loop {
            let line = self.line();
            if line.get("ok").is_some() {
                return;
            }
            let word = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            match (word("what").as_str(), word("state").as_str()) {
                ("ended", state) => heard.push(format!("{} {state}", word("job"))),
                ("missed", _) => heard.push(format!("{} missed", word("job"))),
                ("triggered" | "started", _) => {}
                (other, _) => heard.push(other.to_owned()),
            }
        }
    }

    /// Everything that happened until now: the daemon has taken note of the clock and armed its timers for what comes
    /// next. A peer may be answered before the turn that did so is over, and these jobs have no processes, so a few answers
    /// later everything that followed is done.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut settled = 0;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while settled < 4 {
            self.ask("status", &mut heard);
            let time = self.clock.time();
            let due = time.armed.wall.is_some_and(|at| at <= time.now.wall)
                || time.armed.elapsed.is_some_and(|at| at <= time.now.elapsed);
            settled = if time.set || due { 0 } else { settled + 1 };
            assert!(std::time::Instant::now() < deadline, "the daemon never comes to rest: {heard:?}");
        }
        heard
    }

    fn pass(&mut self, by: Duration) -> Vec<String> {
        self.clock.pass(by);
        self.heard()
    }

    fn set(&mut self, wall: &str) -> Vec<String> {
        self.clock.set(wall);
        self.heard()
    }

    fn stop(mut self) {
        self.ask("stop", &mut Vec::new());
        self.thread.join().expect("an orderly end");
    }
}

const NOTHING: [&str; 0] = [];

fn hourly(catch_up: &str) -> String {
    format!("timezone: UTC\njobs: [{{ name: hourly, trigger: {{ type: cron, schedule: \"0 * * * *\", catch_up: {catch_up} }} }}]")
}

#[test]
fn a_clock_set_forward_past_deadlines_makes_no_burst_unless_it_is_asked_for() {
    for (catch_up, expected) in [
        ("none", vec!["clock_set", "hourly missed"]),
        ("last", vec!["clock_set", "hourly missed", "hourly succeeded"]),
        ("all", vec!["clock_set", "hourly succeeded", "hourly succeeded", "hourly succeeded"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start(dir.path(), &hourly(catch_up), &Clock::at("2026-03-01T09:30:00Z"));
        assert_eq!(daemon.set("2026-03-01T12:30:00Z"), expected, "{catch_up}");
        assert_eq!(daemon.pass(29 * MINUTE), NOTHING);
        assert_eq!(daemon.pass(MINUTE), ["hourly succeeded"], "{catch_up}: the next one is on time");
        daemon.stop();
    }
}

#[test]
fn a_small_step_over_a_deadline_still_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), &hourly("none"), &Clock::at("2026-03-01T09:59:50Z"));
    assert_eq!(daemon.set("2026-03-01T10:00:30Z"), ["clock_set", "hourly succeeded"]);
    assert_eq!(daemon.pass(HOUR), ["hourly succeeded"]);
    daemon.stop();
}

#[test]
fn a_clock_set_back_fires_no_deadline_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), &hourly("all"), &Clock::at("2026-03-01T09:59:00Z"));
    assert_eq!(daemon.pass(2 * MINUTE), ["hourly succeeded"]);
    assert_eq!(daemon.set("2026-03-01T09:30:00Z"), ["clock_set"]);
    assert_eq!(daemon.pass(45 * MINUTE), NOTHING, "10:00 ran already");
    assert_eq!(daemon.pass(45 * MINUTE), ["hourly succeeded"], "11:00 did not");
    daemon.stop();
}

#[test]
fn a_step_there_and_back_forgets_nothing_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), &hourly("none"), &Clock::at("2026-03-01T09:30:00Z"));
    // A year too far, and right again a second later.
    assert_eq!(daemon.set("2027-03-01T09:30:00Z"), ["clock_set", "hourly missed"]);
    assert_eq!(daemon.set("2026-03-01T09:30:01Z"), ["clock_set"]);
    assert_eq!(daemon.pass(30 * MINUTE), ["hourly succeeded"], "10:00 never came, and now it does");
    assert_eq!(daemon.pass(HOUR), ["hourly succeeded"]);
    daemon.stop();
}

#[test]
fn a_board_without_a_clock_that_learns_the_time_starts_no_burst() {
    let dir = tempfile::tempdir().unwrap();
    let config = "timezone: UTC\njobs: [{ name: often, trigger: cron, schedule: \"*/5 * * * * *\" }]";
    let mut daemon = Daemon::start(dir.path(), config, &Clock::at("1970-01-01T00:00:07Z"));
    assert_eq!(daemon.pass(Duration::from_secs(3)), ["often succeeded"]);
    // What is due within `grace` before the new time still runs, once: it is `forbid` for the others.
    let heard = daemon.set("2026-03-01T09:30:02Z");
    let ran = heard.iter().filter(|line| line.ends_with("succeeded")).count();
    assert!(ran <= 12, "no more than a minute's worth: {ran}");
    assert!(heard.contains(&"often missed".to_owned()), "{heard:?}");
    assert_eq!(daemon.pass(Duration::from_secs(3)), ["often succeeded"]);
    daemon.stop();
}

#[test]
fn what_a_job_misses_is_pruned_also_if_it_never_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = hourly("none").replace("hourly, trigger", "hourly, output: { keep_runs: 5 }, trigger");
    let mut daemon = Daemon::start(dir.path(), &config, &Clock::at("2026-03-01T09:30:00Z"));
    for year in 2027..2033 {
        // Ten missed deadlines and one row for those before them.
        assert_eq!(daemon.set(&format!("{year}-03-01T09:30:00Z")), ["clock_set", "hourly missed"]);
        assert_eq!(daemon.pass(MINUTE), NOTHING);
        let history = History::open(&dir.path().join("state")).unwrap().unwrap();
        let kept = history.query(&Filter { limit: 100, ..Filter::default() }).unwrap();
        assert_eq!(kept.len(), 5, "{year}: {kept:?}");
    }
    daemon.stop();
}

#[test]
fn the_state_is_tidied_between_two_deadlines_that_are_far_enough_from_each_other() {
    // Pages in the log of the database.
    let log = |dir: &Path| -> i64 {
        let conn = rusqlite::Connection::open(dir.join("state/state.db")).unwrap();
        conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap()
    };
    for (every, longest) in [("10s", 900..1_000), ("400ms", 1_900..2_000), ("100ms", 2_200..3_000)] {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("jobs: [{{ name: grid, trigger: {{ type: interval, every: {every} }} }}]");
        let period = firelink::model::parse_duration(every).unwrap();
        let mut daemon = Daemon::start(dir.path(), &config, &Clock::at("2026-03-01T09:30:00Z"));
        let (mut most, mut emptied) = (0, false);
        while most < 2_200 && !emptied {
            let before = log(dir.path());
            most = most.max(before);
            daemon.pass(period);
            emptied = log(dir.path()) < before;
        }
        assert!(longest.contains(&most), "{every}: {most} pages");
        assert_eq!(emptied, most < 2_200, "{every}");
        daemon.stop();
    }
}

#[test]
fn elapsed_deadlines_do_not_move_with_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let config = "jobs: [{ name: grid, trigger: { type: interval, every: 10s } }]";
    let mut daemon = Daemon::start(dir.path(), config, &Clock::at("2026-03-01T09:30:00Z"));
    assert_eq!(daemon.pass(Duration::from_secs(9)), NOTHING);
    assert_eq!(daemon.set("2031-01-01T00:00:00Z"), ["clock_set"]);
    assert_eq!(daemon.set("2001-01-01T00:00:00Z"), ["clock_set"]);
    assert_eq!(daemon.pass(Duration::from_secs(1)), ["grid succeeded"]);
    assert_eq!(daemon.pass(Duration::from_secs(10)), ["grid succeeded"]);
    daemon.stop();
}

#[test]
fn after_a_sleep_an_interval_fires_once_and_a_missed_schedule_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = "timezone: UTC\njobs:\n  - { name: grid, trigger: { type: interval, every: 10s } }\n  - { name: hourly, trigger: cron, schedule: \"0 * * * *\" }";
    let mut daemon = Daemon::start(dir.path(), config, &Clock::at("2026-03-01T09:30:00Z"));
    let mut heard = daemon.pass(8 * HOUR + Duration::from_secs(3));
    heard.sort();
    assert_eq!(heard, ["grid succeeded", "hourly missed"]);
    assert_eq!(daemon.pass(Duration::from_secs(6)), NOTHING, "the grid stays where it was");
    assert_eq!(daemon.pass(Duration::from_secs(1)), ["grid succeeded"]);
    daemon.stop();
}

#[test]
fn nothing_fires_by_the_calendar_until_the_clock_is_synchronized() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("wait_for_clock: 5m\n{}", hourly("last"));
    let clock = Clock::at("1970-01-01T00:59:00Z");
    let mut daemon = Daemon::start(dir.path(), &config, &clock);
    assert_eq!(daemon.pass(2 * MINUTE), NOTHING, "01:00 of a clock that nobody trusts");
    clock.time().synchronized = true;
    // The first start knows of no deadline before it, so there is nothing to catch up with.
    assert_eq!(daemon.set("2026-03-01T09:59:00Z"), ["clock_ready"]);
    assert_eq!(daemon.pass(MINUTE), ["hourly succeeded"]);
    daemon.stop();

    // Off for three hours; up with the wrong time.
    let clock = Clock::at("1970-01-01T00:00:10Z");
    let mut daemon = Daemon::start(dir.path(), &config, &clock);
    assert_eq!(daemon.pass(MINUTE), NOTHING);
    clock.time().synchronized = true;
    assert_eq!(daemon.set("2026-03-01T13:30:00Z"), ["clock_ready", "hourly missed", "hourly succeeded"]);
    daemon.stop();
}

#[test]
fn a_clock_that_is_never_synchronized_is_believed_when_the_wait_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("wait_for_clock: 5m\n{}", hourly("none"));
    let mut daemon = Daemon::start(dir.path(), &config, &Clock::at("2026-03-01T09:50:00Z"));
    for _ in 0..4 {
        assert_eq!(daemon.pass(MINUTE), NOTHING);
    }
    assert_eq!(daemon.pass(MINUTE), ["clock_ready"]);
    assert_eq!(daemon.pass(5 * MINUTE), ["hourly succeeded"]);
    daemon.stop();
}

#[test]
fn a_restart_in_the_same_second_fires_nothing_twice_and_one_after_the_deadline_fires_it_late() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::at("2026-03-01T09:59:59Z");
    let mut daemon = Daemon::start(dir.path(), &hourly("none"), &clock);
    assert_eq!(daemon.pass(Duration::from_secs(1)), ["hourly succeeded"]);
    daemon.stop();
    let mut daemon = Daemon::start(dir.path(), &hourly("none"), &clock);
    assert_eq!(daemon.heard(), NOTHING);
    daemon.stop();
    // Off from 10:00:00 to 11:00:30: within `grace`.
    clock.pass(HOUR + Duration::from_secs(30));
    let daemon = Daemon::start(dir.path(), &hourly("none"), &clock);
    daemon.stop();
    let history = firelink::store::History::open(&dir.path().join("state")).expect("the history").expect("a state");
    let runs = history.query(&firelink::store::Filter { limit: 10, ..Default::default() }).expect("runs");
    assert_eq!(runs.len(), 2, "10:00 and 11:00, each once");
}

#[test]
fn an_autumn_overlap_runs_a_fixed_time_once_also_across_a_restart_in_it() {
    // Berlin sets its clocks from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
    let config = "timezone: Europe/Berlin\njobs:\n  - { name: fixed, trigger: cron, schedule: \"30 2 * * *\" }\n  - { name: wild, trigger: cron, schedule: \"*/30 * * * *\" }";
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::at("2026-10-25T02:29:00+02:00");
    let mut daemon = Daemon::start(dir.path(), config, &clock);
    assert_eq!(daemon.pass(MINUTE), ["fixed succeeded", "wild succeeded"]);
    daemon.stop();
    let mut daemon = Daemon::start(dir.path(), config, &clock);
    assert_eq!(daemon.pass(30 * MINUTE), ["wild succeeded"], "02:00, the second time");
    daemon.stop();
    let mut daemon = Daemon::start(dir.path(), config, &clock);
    assert_eq!(daemon.pass(30 * MINUTE), ["wild succeeded"], "02:30 again, and the fixed job ran already");
    daemon.stop();
}

#[test]
fn the_wall_clock_can_be_read_as_text() {
    assert_eq!(WallTime::from_secs(0).to_string(), "1970-01-01T00:00:00Z");
}
