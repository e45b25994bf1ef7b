//! One or several real daemons at one queue.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemon::{Daemon, Place, TEST_TIMEOUT};
use super::server::SqsServer;

fn place(server: &SqsServer, more: &str) -> Place {
    let source = format!("{{ sqs: \"{}\" }}", server.queue());
    let config = format!(
        "defaults: {{ output: {{ keep_runs: 100000 }} }}\njobs: [{{ name: each, trigger: {{ type: watch, source: {source}{more} }} }}]"
    );
    Place::new(&config).with_env(server.env())
}

fn notification(key: &str) -> String {
    let s3 = json!({ "bucket": { "name": "box" }, "object": { "key": key, "size": 3, "eTag": "e" } });
    json!({ "Records": [{ "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3 }] }).to_string()
}

/// Waits for this many runs that succeeded, and none open; how many each message has had.
fn runs_by_message(place: &Place, at_least: usize) -> BTreeMap<String, usize> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let runs = place.history(&[]);
        if runs.iter().filter(|run| run["state"] == "succeeded").count() >= at_least {
            return count(&runs);
        }
        assert!(Instant::now() < deadline, "{} runs of {at_least}", runs.len());
    }
}

fn count(runs: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for run in runs {
        *counts.entry(run["event"]["message_id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn an_object_notification_sets_the_variables_of_a_watch() {
    let server = SqsServer::start();
    let place = place(&server, ", filter: \"*.csv\"");
    let config = place.read("firelink.yaml").replace("{ name: each,", "{ name: each, command: 'env > seen',");
    place.write("firelink.yaml", &config);
    let daemon = place.start();
    let mut follower = daemon.follow();
    server.send(&notification("in/b.txt"));
    server.send(&notification("in/a+b.csv"));
    follower.ended("each");
    server.wait("both deletions", |server| server.deleted().len() == 2);
    let seen = place.lines("seen");
    for line in
        ["FIRELINK_OBJECT_BUCKET=box", "FIRELINK_OBJECT_KEY=in/a b.csv", "FIRELINK_OBJECT_SIZE=3", "FIRELINK_OBJECT_ETAG=e"]
    {
        assert!(seen.iter().any(|var| var == line), "{line} in {seen:#?}");
    }
    assert_eq!(place.history(&[]).len(), 1, "the filter takes one of them");
    daemon.terminate();
}

#[test]
fn a_message_is_deleted_after_a_successful_run_and_delivered_again_after_a_failed_one() {
    let server = SqsServer::start();
    let place = place(&server, ", ack: after_success");
    let command = "command: 'echo > begun; read -r code < answer; exit $code',";
    let config = place.read("firelink.yaml").replace("{ name: each,", &format!("{{ name: each, {command}"));
    place.write("firelink.yaml", &config);
    place.make_pipe("begun");
    place.make_pipe("answer");
    let daemon = place.start();
    let mut follower = daemon.follow();
    let id = server.send("work");
    place.hear("begun");
    assert_eq!(server.deleted(), Vec::<String>::new());
    place.write("answer", "1\n");
    assert_eq!(follower.ended("each")["state"], "failed");
    server.bring_back();
    place.hear("begun");
    assert_eq!(server.deleted(), Vec::<String>::new());
    place.write("answer", "0\n");
    assert_eq!(follower.ended("each")["state"], "succeeded");
    server.wait("its deletion", |server| server.deleted() == [id.clone()]);
    assert_eq!(place.states("each"), ["failed", "succeeded"]);
    daemon.terminate();
}

#[test]
fn two_daemons_share_a_queue_and_each_message_makes_one_run() {
    const MESSAGES: usize = 300;
    let server = SqsServer::start();
    let places = [place(&server, ""), place(&server, "")];
    let daemons: Vec<Daemon<'_>> = places.iter().map(Place::start).collect();
    let ids: Vec<String> = (0..MESSAGES).map(|n| server.send(&n.to_string())).collect();
    server.wait("all deletions", |server| server.deleted().len() == MESSAGES);
    daemons.into_iter().for_each(|daemon| drop(daemon.terminate()));
    let counts: Vec<BTreeMap<String, usize>> = places.iter().map(|place| count(&place.history(&[]))).collect();
    for id in &ids {
        let runs: usize = counts.iter().filter_map(|counts| counts.get(id)).sum();
        assert_eq!(runs, 1, "{id}");
    }
}

#[test]
fn a_daemon_that_crashes_repeatedly_makes_one_run_of_each_message() {
    const ROUNDS: u64 = 12;
    let server = SqsServer::start();
    // What a dead daemon had received comes back soon.
    server.hide_for(Duration::from_millis(300));
    let place = place(&server, "");
    let state = place.state_dir().display().to_string();
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let args = ["run", "firelink.yaml", "--state-dir", &state, "--log-level", "off"];
        let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("firelink starts");
        // Killed at a moment that differs with what has happened: after so many requests of its own.
        let (asked, most) = (server.asked("ReceiveMessage") + server.asked("DeleteMessageBatch"), 2 + round % 7);
        sent.extend((0..30).map(|n| server.send(&format!("{round}/{n}"))));
        server.wait("requests", |server| {
            (server.asked("ReceiveMessage") + server.asked("DeleteMessageBatch") - asked) as u64 >= most
        });
        child.kill().expect("a daemon to kill");
        child.wait().expect("a child");
    }
    let daemon = place.start();
    server.wait("an empty queue", |server| server.is_empty());
    let counts = runs_by_message(&place, sent.len());
    daemon.terminate();
    let expected: BTreeMap<String, usize> = sent.into_iter().map(|id| (id, 1)).collect();
    assert_eq!(counts, expected);
}

#[test]
fn a_missing_queue_is_a_warning_in_time() {
    let server = SqsServer::start();
    for _ in 0..100 {
        server.refuse("ReceiveMessage", 400, "QueueDoesNotExist", "The specified queue does not exist.");
    }
    let place = place(&server, "");
    let began = Instant::now();
    let mut daemon = place.start();
    let line = daemon.wait_for_log("no such queue at 127.0.0.1:");
    assert!(began.elapsed() < Duration::from_secs(10) && line.contains("correct `source`"), "{line}");
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("no such queue"), "{warnings}");
    daemon.terminate();
}
