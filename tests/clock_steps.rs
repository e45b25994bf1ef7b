//! Clocks that are set, suspended machines and boards without an RTC: the real reactor, store and socket, with time
//! injected at the one place where the daemon reads it.

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
use firelink::reactor::clocks::{Armed, Clocks, WallWake};
use firelink::reactor::{Parts, Reactor, Service};
use firelink::store::{Filter, History, Lock, Store};

const MINUTE: Duration = Duration::from_secs(60);
/// After this long what a test waits for does not come.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Time under a test's control.
struct Time {
    now: Now,
    armed: Deadlines,
    set: bool,
    /// The clock is set to this right before the timers are armed again.
    set_before_arming: Option<WallTime>,
    synchronized: bool,
}

/// A handle on the time, shared by the daemon and the test.
#[derive(Clone)]
struct Clock {
    time: Arc<Mutex<Time>>,
    wall: Arc<Wakeup>,
    elapsed: Arc<Wakeup>,
}

/// A descriptor that becomes readable, like a timerfd.
struct Wakeup {
    write: UnixStream,
    read: UnixStream,
}

impl Wakeup {
    fn new() -> Arc<Wakeup> {
        let (write, read) = UnixStream::pair().unwrap();
        write.set_nonblocking(true).unwrap();
        read.set_nonblocking(true).unwrap();
        Arc::new(Wakeup { write, read })
    }

    fn wake(&self) {
        (&self.write).write_all(b"!").unwrap();
    }

    fn take(&self) {
        while matches!((&self.read).read(&mut [0; 64]), Ok(1..)) {}
    }
}

impl Clock {
    fn at(wall: &str) -> Clock {
        let now = Now { wall: parse_rfc3339(wall).expect("an instant"), elapsed: Elapsed::from_nanos(1_000_000_000) };
        let armed = Deadlines { wall: None, elapsed: None };
        Clock {
            time: Arc::new(Mutex::new(Time { now, armed, set: false, set_before_arming: None, synchronized: false })),
            wall: Wakeup::new(),
            elapsed: Wakeup::new(),
        }
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap()
    }

    fn wake(&self, time: &Time) {
        if time.set || time.armed.wall.is_some_and(|at| at <= time.now.wall) {
            self.wall.wake();
        }
        if time.armed.elapsed.is_some_and(|at| at <= time.now.elapsed) {
            self.elapsed.wake();
        }
    }

    /// Advances both clocks, which count suspended time too.
    fn pass(&self, by: Duration) {
        let mut time = self.time();
        time.now = Now { wall: time.now.wall + by, elapsed: time.now.elapsed + by };
        self.wake(&time);
    }

    /// Sets the wall clock.
    fn set(&self, wall: &str) {
        let mut time = self.time();
        time.now.wall = parse_rfc3339(wall).expect("an instant");
        time.set = true;
        self.wake(&time);
    }
}

impl Clocks for Clock {
    fn now(&self) -> Now {
        self.time().now
    }

    fn arm(&mut self, deadlines: Deadlines) -> std::io::Result<Armed> {
        let mut time = self.time();
        if let Some(wall) = time.set_before_arming.take() {
            time.now.wall = wall;
            time.set = true;
        }
        time.armed = deadlines;
        // Like a timerfd: the answer takes the mark of a clock that was set away, and a deadline in the past fires at once.
        let was_set = std::mem::take(&mut time.set);
        self.wall.take();
        self.wake(&time);
        Ok(if was_set { Armed::ClockSet } else { Armed::AsBefore })
    }

    fn wall_fd(&self) -> RawFd {
        self.wall.read.as_raw_fd()
    }

    fn elapsed_fd(&self) -> RawFd {
        self.elapsed.read.as_raw_fd()
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
            let config = load_text(Path::new("f.yaml"), &config, &around).expect("a valid configuration");
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
                keeps_old_copy: false,
                service: Service::default(),
            };
            let reactor = Reactor::new(parts).expect("a reactor");
            ready.send(()).unwrap();
            reactor.run().expect("an orderly end");
        });
        is_ready.recv_timeout(Duration::from_secs(60)).expect("the daemon starts");
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"v\":1,\"cmd\":\"events\"}\n").unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let mut daemon = Daemon { clock: clock.clone(), stream: BufReader::new(stream), thread };
        // The subscription is in place once this returns.
        daemon.events();
        daemon
    }

    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ask(&mut self, cmd: &str, events: &mut Vec<String>) {
        self.stream.get_mut().write_all(format!("{{\"v\":1,\"cmd\":\"{cmd}\"}}\n").as_bytes()).unwrap();
        loop {
            let line = self.line();
            if line.get("ok").is_some() {
                return;
            }
            let word = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            match (word("what").as_str(), word("state").as_str()) {
                ("ended", state) => events.push(format!("{} {state}", word("job"))),
                ("missed", _) => events.push(format!("{} missed", word("job"))),
                ("triggered" | "started", _) => {}
                (other, _) => events.push(other.to_owned()),
            }
        }
    }

    /// All events until now, read once the daemon has handled the clock and armed its next timers. A peer may be answered
    /// before that turn ends, and these jobs have no processes, so all effects are done a few answers later.
    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        let mut idle_answers = 0;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while idle_answers < 4 {
            self.ask("status", &mut events);
            let time = self.clock.time();
            let due = time.armed.wall.is_some_and(|at| at <= time.now.wall)
                || time.armed.elapsed.is_some_and(|at| at <= time.now.elapsed);
            idle_answers = if time.set || due { 0 } else { idle_answers + 1 };
            assert!(std::time::Instant::now() < deadline, "the daemon does not become idle: {events:?}");
        }
        events
    }

    fn pass(&mut self, by: Duration) -> Vec<String> {
        self.clock.pass(by);
        self.events()
    }

    fn set(&mut self, wall: &str) -> Vec<String> {
        self.clock.set(wall);
        self.events()
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
fn a_clock_set_forward_past_deadlines_makes_no_burst_without_catch_up_all() {
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
fn a_clock_that_is_set_back_between_the_last_look_and_the_arming_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), &hourly("last"), &Clock::at("2026-03-10T09:30:00Z"));
    daemon.clock.time().set_before_arming = Some(parse_rfc3339("2026-03-01T09:30:00Z").expect("an instant"));
    daemon.clock.pass(30 * MINUTE);
    // Nothing is asked and nothing read meanwhile: either would wake the daemon.
    let expected = parse_rfc3339("2026-03-01T10:00:00Z").ok();
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while daemon.clock.time().armed.wall != expected {
        assert!(std::time::Instant::now() < deadline, "it waits for {:?}", daemon.clock.time().armed.wall);
        std::thread::yield_now();
    }
    assert_eq!(daemon.events(), ["hourly succeeded", "clock_set"]);
    assert_eq!(daemon.pass(30 * MINUTE), ["hourly succeeded"]);
    daemon.stop();
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
fn a_step_forward_and_back_neither_loses_nor_repeats_a_deadline() {
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
fn a_board_without_an_rtc_starts_no_burst_when_its_clock_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let config = "timezone: UTC\njobs: [{ name: often, trigger: cron, schedule: \"*/5 * * * * *\" }]";
    let mut daemon = Daemon::start(dir.path(), config, &Clock::at("1970-01-01T00:00:07Z"));
    assert_eq!(daemon.pass(Duration::from_secs(3)), ["often succeeded"]);
    // Deadlines within `grace` before the new time still run, one of them: `forbid` skips the others.
    let events = daemon.set("2026-03-01T09:30:02Z");
    let ran = events.iter().filter(|line| line.ends_with("succeeded")).count();
    assert!(ran <= 12, "no more than a minute's worth: {ran}");
    assert!(events.contains(&"often missed".to_owned()), "{events:?}");
    assert_eq!(daemon.pass(Duration::from_secs(3)), ["often succeeded"]);
    daemon.stop();
}

#[test]
fn missed_deadlines_are_pruned_also_if_the_job_never_runs() {
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
fn the_store_is_maintained_between_two_deadlines_that_are_far_enough_apart() {
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
fn after_a_suspend_an_interval_fires_once_and_a_missed_schedule_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let config = "timezone: UTC\njobs:\n  - { name: grid, trigger: { type: interval, every: 10s } }\n  - { name: hourly, trigger: cron, schedule: \"0 * * * *\" }";
    let mut daemon = Daemon::start(dir.path(), config, &Clock::at("2026-03-01T09:30:00Z"));
    let mut events = daemon.pass(8 * HOUR + Duration::from_secs(3));
    events.sort();
    assert_eq!(events, ["grid succeeded", "hourly missed"]);
    assert_eq!(daemon.pass(Duration::from_secs(6)), NOTHING, "the grid stays where it was");
    assert_eq!(daemon.pass(Duration::from_secs(1)), ["grid succeeded"]);
    daemon.stop();
}

#[test]
fn no_wall_deadline_fires_until_the_clock_is_synchronized() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("wait_for_clock: 5m\n{}", hourly("last"));
    let clock = Clock::at("1970-01-01T00:59:00Z");
    let mut daemon = Daemon::start(dir.path(), &config, &clock);
    assert_eq!(daemon.pass(2 * MINUTE), NOTHING, "01:00 of a clock that nobody trusts");
    clock.time().synchronized = true;
    // A first start has no cursor, so there is nothing to catch up on.
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
fn a_clock_that_is_never_synchronized_is_trusted_when_the_wait_is_over() {
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
    assert_eq!(daemon.events(), NOTHING);
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
