//! Many at once, and children that behave as badly as children can.
//!
//! `FIRELINK_STRESS_RUNS=10000` makes the second test as long as the design asks for; by default it is shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use super::support::Place;

#[test]
fn a_thousand_jobs_due_in_one_instant_all_run_in_the_order_of_their_names() {
    const JOBS: usize = 1_000;
    // All are due at one instant, which comes when the first one lets them.
    let mut config = String::from("max_parallel: 32\njobs:\n  - { name: go, trigger: manual }\n");
    for index in (0..JOBS).rev() {
        let _ = writeln!(config, "  - {{ name: j{index:04}, depends_on: [go], command: [\"true\"] }}");
    }
    let place = Place::new(&config);
    let daemon = place.start();
    let mut events = daemon.follow();
    place.prints(&["ctl", "trigger", "go"]);
    for _ in 0..JOBS {
        events.wait("the end of a run", |event| event["what"] == "ended" && event["job"] != "go");
    }
    let mut started = Vec::new();
    let (mut alive, mut most) = (0, 0);
    for event in &events.seen {
        match event["what"].as_str() {
            Some("started") => {
                started.push(event["job"].as_str().unwrap().to_owned());
                alive += 1;
            }
            Some("ended") if event["job"] != "go" => {
                assert_eq!(event["state"], "succeeded", "{event}");
                alive -= 1;
            }
            _ => {}
        }
        most = most.max(alive);
    }
    assert_eq!(started.len(), JOBS);
    assert!(started.is_sorted(), "in the order of their names");
    assert_eq!(started.iter().collect::<BTreeSet<_>>().len(), JOBS, "none twice");
    assert!(most <= 32, "{most} at once");
}

/// What a child does, by the number of its run.
const MISCHIEF: &str = r#"
n=$((FIRELINK_RUN_ID % 10))
case $n in
0) exit 0 ;;
1) exit 7 ;;
2) kill -SEGV $$ ;;
3) kill -KILL $$ ;;
4) trap '' TERM; while :; do read -r _ < /proc/uptime; done ;;
5) setsid sh -c 'exec sleep 1000' & exit 0 ;;
6) (setsid sh -c 'sleep 1000; :' &) ; exit 0 ;;
7) sleep 1000 & exit 0 ;;
8) exec >&- 2>&-; exit 0 ;;
9) head -c 300000 /dev/zero; exit 0 ;;
esac
"#;

fn expected(run: u64) -> (&'static str, Option<&'static str>) {
    match run % 10 {
        1 => ("failed", None),
        2 => ("failed", Some("SIGSEGV")),
        3 => ("failed", Some("SIGKILL")),
        4 => ("timed_out", Some("SIGKILL")),
        _ => ("succeeded", None),
    }
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Every process whose parent is this one: (pid, state).
pub fn children(pid: u32) -> Vec<(String, char)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next().unwrap_or("?"), fields.next().unwrap_or("0"));
        if name.bytes().all(|byte| byte.is_ascii_digit()) && parent == pid.to_string() {
            found.push((name, state.chars().next().unwrap_or('?')));
        }
    }
    found
}

/// Processes that carry this daemon's mark in their environment.
fn marked(place: &Place) -> usize {
    let mark = format!("FIRELINK_STATE_DIR={}", place.state_dir().display());
    let environments = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let environments = environments.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments.filter(|env| env.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())).count()
}

#[test]
fn whatever_children_do_each_run_ends_rightly_and_nothing_is_left() {
    let runs: u64 = std::env::var("FIRELINK_STRESS_RUNS").map_or(600, |text| text.parse().expect("a number"));
    let place = Place::new(
        r#"
max_parallel: 32
jobs:
  - { name: child, trigger: manual, concurrency: allow }
  # Those that never end have a timeout of their own, in which a busy machine gets as far as their trap: the others may
  # take what time it gives them.
  - { name: endless, trigger: manual, concurrency: allow, timeout: 1s, kill_grace: 50ms }
defaults:
  executor: { type: sh, script: mischief.sh }
  output: { max_size: 64KiB, keep_runs: 1000000 }
"#,
    );
    place.write("mischief.sh", MISCHIEF);
    let daemon = place.start();
    let mut events = daemon.follow();
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    // The first hundred warm up what is allocated once.
    let (mut before, mut done) = ((0, 0), 0);
    let mut triggered = 0;
    while triggered < runs {
        let batch = (runs - triggered).min(100);
        for run in triggered + 1..=triggered + batch {
            let job = if expected(run).0 == "timed_out" { "endless" } else { "child" };
            writeln!(stream, "{{\"v\":1,\"cmd\":\"trigger\",\"job\":\"{job}\"}}").unwrap();
            std::io::BufRead::read_line(&mut std::io::BufReader::with_capacity(1 << 16, &stream), &mut String::new()).unwrap();
        }
        for _ in 0..batch {
            events.wait("the end of a run", |event| event["what"] == "ended");
        }
        events.seen.clear();
        triggered += batch;
        done += 1;
        if done == 1 {
            before = (resident_kib(daemon.pid()), descriptors(daemon.pid()));
        }
    }
    // The last runs' processes are reaped, and the last peer's connection is closed, in a later turn than the answer to it.
    let deadline = std::time::Instant::now() + super::support::TEST_TIMEOUT;
    let settled = || children(daemon.pid()).is_empty() && marked(&place) == 0 && descriptors(daemon.pid()) <= before.1;
    while !settled() && std::time::Instant::now() < deadline {
        daemon.status();
    }
    let (memory, open) = (resident_kib(daemon.pid()), descriptors(daemon.pid()));
    // A run's end is reported before its process is reaped: there may have been one more.
    assert!(open <= before.1, "no more descriptors than before: {}, then {open}", before.1);
    assert!(memory <= before.0 + 1_024, "memory stays flat: {} KiB, then {memory}", before.0);
    assert_eq!(children(daemon.pid()), [], "no child and no zombie is left");
    assert_eq!(marked(&place), 0, "no process of a run is left");
    daemon.terminate();
    let mut by_number: BTreeMap<u64, (String, Option<String>)> = BTreeMap::new();
    for run in place.history(&[]) {
        let signal = run["signal"].as_str().map(str::to_owned);
        by_number.insert(run["id"].as_u64().unwrap(), (run["state"].as_str().unwrap().to_owned(), signal));
    }
    assert_eq!(by_number.len() as u64, runs);
    for (run, (state, signal)) in by_number {
        assert_eq!((state.as_str(), signal.as_deref()), expected(run), "run {run}");
    }
}
