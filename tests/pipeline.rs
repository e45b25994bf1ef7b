//! firelink end to end with a bucket: the real binary, a real S3 server that checks signatures, real children.

#![cfg(feature = "s3")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/s3.rs"]
mod s3;

use std::collections::{BTreeMap, BTreeSet};

use daemon::Place;
use s3::S3Server;

/// The example from which every document starts, with a shorter interval.
fn three_jobs() -> String {
    let example = include_str!("../examples/three-jobs.yaml");
    let polled = example.replace("input/\"\n", "input/\"\n    poll_interval: 1s\n");
    assert_ne!(example, polled);
    polled
}

#[test]
fn the_three_jobs_of_the_design_run_as_it_says() {
    let server = S3Server::start("my-bucket");
    server.put("my-bucket", "input/old", b"was there before");
    let place = Place::new(&three_jobs()).with_env(server.env());
    let mut daemon = place.start();
    daemon.wait_for_log("jobB: the first scan is done");
    let mut events = daemon.follow();
    assert!(daemon.job("jobA")["next_at"].as_str().is_some_and(|at| at.contains("T18:00:00")));

    server.put("my-bucket", "input/new", b"1");
    server.put("my-bucket", "elsewhere/new", b"1");
    assert_eq!(events.ended("jobB")["state"], "succeeded");
    assert_eq!(daemon.job("jobC")["waiting_for"], serde_json::json!(["jobA"]));
    daemon.trigger("jobA");
    assert_eq!(events.ended("jobC")["state"], "succeeded");

    // Not again until both have something new.
    daemon.trigger("jobA");
    assert_eq!(daemon.job("jobC")["waiting_for"], serde_json::json!(["jobB"]));
    server.put("my-bucket", "input/new", b"changed");
    assert_eq!(events.ended("jobC")["state"], "succeeded");
    daemon.terminate();
    let count = |job: &str| place.states(job).len();
    assert_eq!((count("jobA"), count("jobB"), count("jobC")), (2, 2, 2));
    let objects: Vec<String> = place.history(&["--job", "jobB"]).iter().map(|run| run["event"]["key"].to_string()).collect();
    assert_eq!(objects, ["\"input/new\"", "\"input/new\""]);
}

#[test]
fn what_a_bucket_holds_while_the_daemon_is_off_is_found_at_its_next_start() {
    let server = S3Server::start("my-bucket");
    let place = Place::new(&three_jobs()).with_env(server.env());
    let mut daemon = place.start();
    daemon.wait_for_log("jobB: the first scan is done");
    daemon.terminate();
    server.put("my-bucket", "input/while-off", b"1");
    let daemon = place.start();
    let mut follower = daemon.follow();
    while daemon.job("jobB")["last_run"].is_null() {
        follower.ended("jobB");
    }
    assert_eq!(daemon.job("jobB")["last_run"]["event"]["key"], "input/while-off");
}

const EACH_OBJECT: &str = r#"
jobs:
  - name: each
    trigger: { type: watch, source: "s3://box/in/", poll_interval: 1s, existing: process }
    command: 'echo "$FIRELINK_OBJECT_KEY" >> ran'
    concurrency: allow
    output: { keep_runs: 100000 }
"#;

/// One round: so many new objects, a daemon that is killed after it has begun so many runs, and one that finishes.
fn crash_round(place: &Place, server: &S3Server, round: usize, objects: usize, begun: usize) {
    server.put_all("box", (0..objects).map(|n| format!("in/{round}-{n:05}")));
    let daemon = place.start();
    let mut events = daemon.follow();
    for _ in 0..begun {
        events.wait("a run that begins", |event| event["what"] == "started");
    }
    daemon.crash();

    let daemon = place.start();
    let mut events = daemon.follow();
    let ended = |place: &Place| {
        let runs = place.history(&[]);
        let open = runs.iter().any(|run| run["state"] == "pending" || run["state"] == "running");
        runs.len() >= (round + 1) * objects && !open
    };
    while !ended(place) {
        events.wait("the end of a run", |event| event["what"] == "ended");
    }
    daemon.terminate();
}

#[test]
fn a_crash_in_the_middle_of_a_poll_neither_loses_nor_doubles_an_object() {
    let server = S3Server::start("box");
    let place = Place::new(EACH_OBJECT).with_env(server.env());
    const OBJECTS: usize = 1_000;
    let rounds = [0, 1, 250, 999];
    for (round, begun) in rounds.into_iter().enumerate() {
        crash_round(&place, &server, round, OBJECTS, begun);
    }
    let runs = place.history(&[]);
    let mut by_key: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for run in &runs {
        by_key.entry(run["event"]["key"].as_str().unwrap().to_owned()).or_default().push(run["state"].as_str().unwrap());
    }
    assert_eq!(by_key.len(), rounds.len() * OBJECTS, "every object has a run");
    let ran = place.lines("ran");
    let ran_once: BTreeSet<&String> = ran.iter().collect();
    assert_eq!(ran.len(), ran_once.len(), "no object was handed to two processes");
    for (key, states) in &by_key {
        match states[..] {
            ["succeeded"] => assert!(ran_once.contains(key), "{key} succeeded without running"),
            // Its process was alive, or about to be, when the daemon died: nobody knows how it ended.
            ["lost"] => {}
            _ => panic!("{key}: {states:?}"),
        }
    }
    let lost = by_key.values().filter(|states| states[..] == ["lost"]).count();
    assert!(lost <= 32 * rounds.len(), "no more are lost than ran at once: {lost}");
}

#[test]
fn an_unreadable_bucket_is_a_warning_and_stops_nothing_else() {
    let server = S3Server::start("box");
    let config = r#"
jobs:
  - { name: here, trigger: manual, command: "true" }
  - { name: none, trigger: { type: watch, source: "s3://no-such-bucket/", poll_interval: 1s } }
  - name: down
    trigger: { type: watch, source: { s3: box/, endpoint: "http://127.0.0.1:9" }, poll_interval: 1s }
"#;
    let place = Place::new(config).with_env(server.env());
    let mut daemon = place.start();
    // Each retry of one may come before the first failure of the other.
    let none = daemon.wait_for_log_ever("none: s3://");
    assert!(none.contains("no-such-bucket") && none.contains("create it"), "{none}");
    let down = daemon.wait_for_log_ever("down: s3://");
    assert!(down.contains("127.0.0.1:9"), "{down}");
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("no-such-bucket") && warnings.contains("127.0.0.1:9"), "{warnings}");
    assert_eq!(daemon.trigger("here")["state"], "succeeded");
    server.add_bucket("no-such-bucket");
    server.put("no-such-bucket", "a", b"");
    daemon.wait_for_log("none: the first scan is done");
    // The warning goes when the poll has ended, which is after its objects are stored.
    daemon.wait_for_log_ever("works again");
    assert!(!daemon.status()["warnings"].to_string().contains("no-such-bucket"));
    daemon.terminate();
}
