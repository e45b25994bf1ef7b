//! SIGKILL at random times, repeatedly, under load: a schedule each second, intervals, a graph, retries, files and objects that
//! arrive. Then the history is compared with what the jobs' processes logged themselves.
//!
//! The same with a disk that is full for the state from time to time, while jobs continue in memory.
//!
//! `FIRELINK_STRESS_CRASHES=500` and `FIRELINK_STRESS_FULL=500` make that many rounds, `FIRELINK_SEED=n` replays the times
//! and the load.

#![allow(clippy::expect_used, clippy::print_stderr, clippy::unwrap_used, reason = "a test may panic, and says its seed")]

#[path = "support/daemon.rs"]
mod daemon;
#[cfg(feature = "s3")]
#[path = "support/s3.rs"]
mod s3;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Stdio;
use std::time::{Duration, Instant};

use daemon::{Place, TEST_TIMEOUT};
use firelink::store::JOURNAL;
use serde_json::Value;

/// Each process writes its run and attempt down before it does anything else.
const CONFIG: &str = r#"
timezone: UTC
max_parallel: 8
grace: 1h
defaults:
  command: 'echo "$FIRELINK_RUN_ID $FIRELINK_ATTEMPT" >> ran'
  output: { keep_runs: 1000000 }
jobs:
  - { name: second, trigger: cron, schedule: "* * * * * *", concurrency: queue }
  - { name: slow, trigger: interval, every: 150ms, concurrency: queue, command: 'echo "$FIRELINK_RUN_ID $FIRELINK_ATTEMPT" >> ran; sleep 0.05; echo done' }
  - { name: grid, trigger: interval, every: 70ms }
  - { name: behind, depends_on: [grid] }
  - { name: both, depends_on: [grid, slow] }
  - { name: chain, depends_on: [behind] }
  - name: flaky
    trigger: interval
    every: 90ms
    command: 'echo "$FIRELINK_RUN_ID $FIRELINK_ATTEMPT" >> ran; test $((FIRELINK_RUN_ID % 3)) -gt 0 || test $FIRELINK_ATTEMPT -gt 1'
    retry: { attempts: 3, delay: 20ms }
  - { name: files, trigger: watch, source: inbox, existing: process }
"#;

#[cfg(feature = "s3")]
const BUCKET: &str = r#"  - { name: objects, trigger: watch, source: "s3://my-bucket/in/", existing: process, poll_interval: 1s }
"#;

/// The same jobs, none of which is due by itself before the test is over.
fn calm(config: &str) -> String {
    let calm = config.replace("\"* * * * * *\"", "\"0 0 29 2 *\"");
    ["150ms", "70ms", "90ms"].iter().fold(calm, |text, every| text.replace(&format!("every: {every}"), "every: 10d"))
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A daemon's directory, and the threads that bring it work.
struct Scene {
    config: String,
    place: Place,
    #[cfg(feature = "s3")]
    server: s3::S3Server,
}

/// What has arrived so far.
struct Arrivals {
    random: Random,
    files: usize,
    objects: usize,
}

impl Arrivals {
    fn new() -> Arrivals {
        let seed = number("FIRELINK_SEED", u64::from(std::process::id()));
        eprintln!("FIRELINK_SEED={seed}");
        Arrivals { random: Random(seed), files: 0, objects: 0 }
    }

    /// Brings files and objects at random times within a random time of up to so many milliseconds.
    fn go_on(&mut self, scene: &Scene, most_millis: u64) {
        let end = Instant::now() + Duration::from_millis(self.random.below(most_millis));
        for _ in 0..self.random.below(4) {
            self.files += 1;
            let (from, to) = (format!("staging/{}", self.files), format!("inbox/{}", self.files));
            scene.place.write(&from, "x");
            std::fs::rename(scene.place.path(&from), scene.place.path(&to)).unwrap();
            #[cfg(feature = "s3")]
            {
                self.objects += 1;
                scene.server.put("my-bucket", &format!("in/{}", self.objects), b"x");
            }
            std::thread::sleep(Duration::from_millis(self.random.below(60)));
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }
}

impl Scene {
    fn new(config: &str) -> Scene {
        #[cfg(feature = "s3")]
        let server = s3::S3Server::start("my-bucket");
        #[cfg(feature = "s3")]
        let config = [config, BUCKET].concat();
        #[cfg(not(feature = "s3"))]
        let config = config.to_owned();
        let place = Place::new(&config);
        #[cfg(feature = "s3")]
        let place = place.with_env(server.env());
        std::fs::create_dir(place.path("inbox")).unwrap();
        std::fs::create_dir(place.path("staging")).unwrap();
        place.write("ran", "");
        Scene {
            config,
            place,
            #[cfg(feature = "s3")]
            server,
        }
    }

    /// Lets all runs end without load, and then checks the history.
    fn end(&self, daemon: daemon::Daemon<'_>, arrived: &Arrivals) {
        let (place, files, objects) = (&self.place, arrived.files, arrived.objects);
        let events = |history: &[Value], job: &str| history.iter().filter(|run| run["job"] == job).count();
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let history = place.history(&[]);
            if events(&history, "files") >= files && events(&history, "objects") >= objects {
                break;
            }
            assert!(Instant::now() < deadline, "{files} files, {objects} objects: {}", daemon.status()["warnings"]);
            std::thread::sleep(Duration::from_millis(50));
        }
        // Jobs are not paused, which would keep queued runs, but get a deadline far away.
        place.write("firelink.yaml", &calm(&self.config));
        place.prints(&["ctl", "reload"]);
        let deadline = Instant::now() + TEST_TIMEOUT;
        while daemon.status()["active"].as_array().is_some_and(|active| !active.is_empty()) {
            assert!(Instant::now() < deadline, "{}", daemon.status()["active"]);
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.terminate();
        let checked = Checked::of(place);
        eprintln!("{}", checked.summary());
        checked.each_process_is_of_one_attempt();
        checked.runs_ended();
        checked.each_second_was_dealt_with_once();
        checked.each_arrival_made_one_run("files", "path", files);
        checked.each_arrival_made_one_run("objects", "key", objects);
        checked.dependencies_were_kept("behind", &["grid"]);
        checked.dependencies_were_kept("both", &["grid", "slow"]);
        checked.dependencies_were_kept("chain", &["behind"]);
    }
}

#[test]
fn no_run_is_lost_or_duplicated_by_a_daemon_that_is_killed_repeatedly() {
    let (scene, mut arrivals) = (Scene::new(CONFIG), Arrivals::new());
    let state = scene.place.state_dir().display().to_string();
    let journal = || std::fs::metadata(scene.place.state_dir().join(JOURNAL)).is_ok_and(|file| file.len() > 0);
    let (mut round, rounds) = (0, number("FIRELINK_STRESS_CRASHES", 40));
    let (mut with_journal, mut deadline) = (0, None);
    while round < rounds || with_journal == 0 {
        let mut child = scene
            .place
            .command(&["run", "firelink.yaml", "--state-dir", &state, "--log-level", "off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first files and objects arrive while it starts.
        arrivals.go_on(&scene, 400);
        // On a loaded machine no daemon may get busy within a round: further ones run until they have a journal.
        if round >= rounds {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + TEST_TIMEOUT);
            while !journal() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        with_journal += usize::from(journal());
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        assert!(with_journal > 0 || !is_late, "no daemon is busy enough for a journal");
        round += 1;
    }
    scene.end(scene.place.start(), &arrivals);
}

/// Limits the size of the process's files, which to SQLite is a full disk.
fn room(pid: u32, bytes: u64) {
    let limit = nix::libc::rlimit { rlim_cur: bytes, rlim_max: nix::libc::RLIM_INFINITY };
    let pid = nix::libc::pid_t::try_from(pid).unwrap();
    // SAFETY: the limit is a local that the call reads; the old one is not asked for (prlimit(2)).
    let code = unsafe { nix::libc::prlimit(pid, nix::libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn no_run_is_lost_or_duplicated_by_a_daemon_whose_disk_is_full_repeatedly() {
    // The jobs' own files are below the limit: this is about the state.
    let config = CONFIG.replace("'echo", "'ulimit -S -f unlimited; echo");
    let (scene, mut arrivals) = (Scene::new(&config), Arrivals::new());
    let daemon = scene.place.start();
    let mut reported = 0;
    let has_error = || !daemon.status()["state_error"].is_null();
    for _ in 0..number("FIRELINK_STRESS_FULL", 12) {
        // No space at all, or as much as SQLite's WAL had before.
        room(daemon.pid(), arrivals.random.below(2) * 20_000 + 1);
        arrivals.go_on(&scene, 300);
        reported += usize::from(has_error());
        room(daemon.pid(), nix::libc::RLIM_INFINITY);
        arrivals.go_on(&scene, 200);
    }
    // On a loaded machine it may not have written anything while the disk was full.
    if reported == 0 {
        room(daemon.pid(), 1);
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !has_error() {
            assert!(Instant::now() < deadline, "the full disk is never reported");
        }
        room(daemon.pid(), nix::libc::RLIM_INFINITY);
    }
    scene.end(daemon, &arrivals);
}

struct Checked {
    /// Oldest first.
    runs: Vec<Value>,
    /// The number of starts of each attempt of each run, as the processes logged them.
    ran: HashMap<(u64, u64), usize>,
}

impl Checked {
    fn of(place: &Place) -> Checked {
        let mut runs = place.history(&[]);
        runs.reverse();
        let mut ran: HashMap<(u64, u64), usize> = HashMap::new();
        for line in place.lines("ran") {
            let (run, attempt) = line.split_once(' ').unwrap();
            *ran.entry((run.parse().unwrap(), attempt.parse().unwrap())).or_default() += 1;
        }
        Checked { runs, ran }
    }

    fn summary(&self) -> String {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        self.runs.iter().for_each(|run| *states.entry(run["state"].as_str().unwrap()).or_default() += 1);
        format!("{states:?}, {} processes", self.ran.len())
    }

    fn each_process_is_of_one_attempt(&self) {
        let twice: Vec<_> = self.ran.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "begun more than once: {twice:?}");
        let known: HashMap<u64, &Value> = self.runs.iter().filter_map(|run| Some((run["id"].as_u64()?, run))).collect();
        assert_eq!(known.len(), self.runs.iter().filter(|run| run["id"].is_u64()).count(), "a number is given once");
        for (run, attempt) in self.ran.keys() {
            let record = known.get(run).unwrap_or_else(|| panic!("run {run} ran, and nobody knows it"));
            assert!(*attempt <= record["attempt"].as_u64().unwrap(), "attempt {attempt} of {record}");
        }
    }

    /// No run stays active without a process, and each that succeeded has run.
    fn runs_ended(&self) {
        for run in &self.runs {
            let state = run["state"].as_str().unwrap();
            let began = |attempt: u64| self.ran.contains_key(&(run["id"].as_u64().unwrap_or(0), attempt));
            let attempts = run["attempt"].as_u64().unwrap_or(0);
            match state {
                "succeeded" => assert!(began(attempts), "it never began: {run}"),
                "failed" => assert!(run["job"] == "flaky" && began(attempts), "{run}"),
                "lost" => assert!(attempts > 0, "{run}"),
                "skipped" => assert!(attempts == 0 && run["reason"].is_string(), "{run}"),
                "missed" => panic!("no deadline was missed by more than an hour: {run}"),
                other => panic!("{other}: {run}"),
            }
        }
    }

    /// Downtimes were far shorter than `grace`: from the first to the last, no second was left out and none came twice.
    fn each_second_was_dealt_with_once(&self) {
        let of_job = self.runs.iter().filter(|run| run["job"] == "second");
        let mut seconds: Vec<i64> = of_job
            .map(|run| chrono::DateTime::parse_from_rfc3339(run["scheduled_at"].as_str().unwrap()).unwrap().timestamp())
            .collect();
        seconds.sort_unstable();
        assert!(seconds.len() > 1);
        for pair in seconds.windows(2) {
            assert_eq!(pair[1], pair[0] + 1, "a second was forgotten or came twice");
        }
    }

    fn each_arrival_made_one_run(&self, job: &str, key: &str, count: usize) {
        let of_job: Vec<&Value> = self.runs.iter().filter(|run| run["job"] == job).collect();
        let what: BTreeSet<String> = of_job.iter().map(|run| run["event"][key].to_string()).collect();
        assert_eq!((of_job.len(), what.len()), (count, count), "{job}: runs, different arrivals");
    }

    /// Before each run of a job, each of its upstreams has succeeded since the run before it began.
    fn dependencies_were_kept(&self, job: &str, upstreams: &[&str]) {
        let time = |run: &Value, key: &str| run[key].as_str().map(|text| chrono::DateTime::parse_from_rfc3339(text).unwrap());
        let begun = self.runs.iter().filter(|run| run["job"] == job).filter_map(|run| Some((time(run, "started_at")?, run)));
        let mut before = None;
        let mut begun: Vec<_> = begun.collect();
        begun.sort_by_key(|(at, run)| (*at, run["id"].as_u64()));
        for (at, run) in begun {
            for upstream in upstreams {
                let good = self.runs.iter().any(|up| {
                    up["job"] == *upstream
                        && up["state"] == "succeeded"
                        && time(up, "ended_at").is_some_and(|ended| ended <= at && before.is_none_or(|before| ended >= before))
                });
                assert!(good, "{upstream} had not succeeded since {before:?} when this began: {run}");
            }
            before = Some(at);
        }
    }
}
