//! A bucket behind a bad link: the real daemon, a real S3 server, and a proxy that injects faults between them.

#![cfg(feature = "s3")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the seed that replays a failure")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/random.rs"]
mod random;
#[path = "support/s3.rs"]
mod s3;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use daemon::{Daemon, Place, TEST_TIMEOUT};
use hostile::{Hostile, Reply};
use proxy::{Fault, Proxy};
use random::Random;
use s3::S3Server;
use serde_json::Value;

/// A watch for each prefix, named like it. A job without a command is a run all the same.
fn watches(endpoint: &str, prefixes: &[String], existing: impl Fn(usize) -> &'static str) -> String {
    let mut config = String::from("defaults: { output: { keep_runs: 100000 } }\njobs:\n");
    for (n, prefix) in prefixes.iter().enumerate() {
        let source = format!("{{ s3: box/{prefix}, endpoint: \"{endpoint}\", timeout: 1s }}");
        let existing = existing(n);
        let name = prefix.trim_end_matches('/');
        config += &format!(
            "  - {{ name: {name}, trigger: {{ type: watch, source: {source}, poll_interval: 1s, existing: {existing} }} }}\n"
        );
    }
    config
}

/// How many runs each object has had, once none is open and there are as many as expected.
fn runs_by_object(place: &Place, at_least: usize) -> BTreeMap<String, usize> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let runs = place.history(&[]);
        let is_open = |run: &Value| run["state"] == "pending" || run["state"] == "running";
        if runs.len() >= at_least && !runs.iter().any(is_open) {
            let mut counts = BTreeMap::new();
            for run in runs {
                assert_eq!(run["state"], "succeeded", "{run}");
                *counts.entry(run["event"]["key"].as_str().expect("a key").to_owned()).or_default() += 1;
            }
            return counts;
        }
        assert!(Instant::now() < deadline, "{} runs of {at_least}", runs.len());
    }
}

/// Each object has as many runs as expected: one for each of its states.
fn assert_each_once(place: &Place, expected: &BTreeMap<String, usize>) {
    let found = runs_by_object(place, expected.values().sum());
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let wrong = keys.into_iter().map(|key| (key, found.get(key), expected.get(key))).filter(|(_, found, right)| found != right);
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "of {} objects these have the wrong number of runs: {wrong:?}", expected.len());
}

/// Asks for the warnings until this holds for them.
fn wait_for_warnings(daemon: &Daemon<'_>, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let warnings: Vec<String> = serde_json::from_value(daemon.status()["warnings"].clone()).expect("texts");
        if holds(&warnings) {
            return warnings;
        }
        assert!(Instant::now() < deadline, "{what}: {warnings:#?}");
    }
}

/// Seconds of the processor that a process has used (proc_pid_stat(5); its unit is a hundredth on all of Linux's ports).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that lives");
    let (_, fields) = stat.rsplit_once(") ").expect("its name in parentheses");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

#[test]
fn every_fault_is_a_warning_costs_next_to_nothing_and_loses_no_object() {
    let cases = [
        ("drop/", Fault::Drop, "can't be reached"),
        ("lost/", Fault::DropAnswer, "can't be reached"),
        ("silent/", Fault::Silence, "does not answer in time"),
        ("half/", Fault::HalfAnswer, "it ends in the middle; did the connection break?"),
        ("cut/", Fault::HalfListing, "it ends in the middle; did the connection break?"),
        ("denied/", Fault::Refuse(403, "AccessDenied"), "access to bucket `box` denied for these credentials"),
        ("broken/", Fault::Refuse(500, "InternalError"), "answered 500 InternalError"),
        ("slow/", Fault::Refuse(503, "SlowDown"), "asks to slow down"),
        ("mangled/", Fault::Malformed, "it is not the XML of a listing"),
        ("endless/", Fault::Endless, "it repeats itself"),
        ("void/", Fault::EndlessEmpty, "it repeats itself"),
    ];
    let prefixes: Vec<String> = cases.iter().map(|(prefix, _, _)| (*prefix).to_owned()).collect();
    let server = S3Server::start("box");
    prefixes.iter().for_each(|prefix| server.put_all("box", (0..4).map(|n| format!("{prefix}{n}"))));
    let proxy = Proxy::start(&server.endpoint());
    let place = Place::new(&watches(&proxy.endpoint(), &prefixes, |_| "skip")).with_env(server.env());
    let daemon = place.start();
    // The second listing begins when the first is recorded.
    proxy.wait_for_each(&prefixes, TEST_TIMEOUT, |count| count.whole >= 2);

    proxy.decide(move |prefix, _| cases.iter().find(|(of, _, _)| *of == prefix).map_or(Fault::Pass, |(_, fault, _)| *fault));
    let (began, cpu) = (Instant::now(), cpu_seconds(daemon.pid()));
    // A listing that the change of mind overtook may have found these: once is once.
    prefixes.iter().for_each(|prefix| server.put("box", &format!("{prefix}new"), b"x"));
    let told = |warnings: &[String], (prefix, _, text): &(&str, Fault, &str)| {
        let start = format!("{}: s3://box/{prefix}: ", prefix.trim_end_matches('/'));
        warnings.iter().any(|warning| warning.starts_with(&start) && warning.contains(text) && warning.contains("next try in"))
    };
    wait_for_warnings(&daemon, "a warning for each", |warnings| cases.iter().all(|case| told(warnings, case)));
    proxy.wait_for_each(&prefixes, TEST_TIMEOUT, |count| count.decided >= 3);
    let (took, cpu) = (began.elapsed(), cpu_seconds(daemon.pid()) - cpu);
    assert!(cpu < 1.0 + took.as_secs_f64() / 4.0, "{cpu} s of CPU time in {took:?}: something is busy");
    for prefix in &prefixes {
        // The wait doubles from a second: as many polls as there were seconds would be too many.
        let decided = proxy.count(prefix).decided;
        assert!((decided as u64) <= took.as_secs() + 2, "{prefix}: {decided} polls in {took:?}");
    }
    assert!(daemon.job("drop")["last_run"].is_null(), "nothing gets through");

    proxy.decide(|_, _| Fault::Pass);
    proxy.wait_for_each(&prefixes, TEST_TIMEOUT, |count| count.whole >= 2);
    wait_for_warnings(&daemon, "every warning goes", |warnings| warnings.is_empty());
    let expected: BTreeMap<String, usize> = prefixes.iter().map(|prefix| (format!("{prefix}new"), 1)).collect();
    assert_each_once(&place, &expected);
    daemon.terminate();
}

/// Polls of each watch that faults may strike; afterwards all is well.
const STRUCK: usize = 4;

fn fault(random: &mut Random) -> Fault {
    match random.below(12) {
        0 => Fault::Drop,
        1 => Fault::DropAnswer,
        2 => Fault::Delay(Duration::from_millis(10 + random.below(400) as u64)),
        3 => Fault::Silence,
        4 => Fault::HalfAnswer,
        5 => Fault::HalfListing,
        6 => Fault::Refuse(403, "AccessDenied"),
        7 => Fault::Refuse(500, "InternalError"),
        8 => Fault::Refuse(503, "SlowDown"),
        9 => Fault::Malformed,
        10 => Fault::Endless,
        _ => Fault::EndlessEmpty,
    }
}

/// What becomes of one watch's requests: each listing has two pages, and ends with the first that is struck. Two bad
/// polls are followed by a good one, because each doubles the wait for the next.
fn story(random: &mut Random) -> Vec<Fault> {
    let mut requests = Vec::new();
    let mut bad = 0;
    for _ in 0..STRUCK {
        let is_struck = bad < 2 && random.below(4) > 0;
        bad = if is_struck { bad + 1 } else { 0 };
        if random.below(2) == 0 || !is_struck {
            requests.push(Fault::Pass);
        }
        requests.push(if is_struck { fault(random) } else { Fault::Pass });
    }
    requests
}

/// Two pages a prefix, so that faults strike before, between and after pages that were recorded.
const OBJECTS: usize = 1_100;

#[test]
fn a_random_mix_of_faults_neither_loses_nor_duplicates_an_object() {
    let seed = match std::env::var("FIRELINK_TEST_SEED") {
        Ok(seed) => seed.parse().expect("FIRELINK_TEST_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs(),
    };
    println!("FIRELINK_TEST_SEED={seed} replays this");
    let mut random = Random(seed);
    let prefixes: Vec<String> = (0..8).map(|n| format!("p{n}/")).collect();
    let is_processed = |n: usize| n.is_multiple_of(4);
    let server = S3Server::start("box");
    let key = |prefix: &str, n: usize| format!("{prefix}{n:05}");
    prefixes.iter().for_each(|prefix| server.put_all("box", (0..OBJECTS).map(|n| key(prefix, n))));
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for prefix in prefixes.iter().enumerate().filter(|(n, _)| is_processed(*n)).map(|(_, prefix)| prefix) {
        expected.extend((0..OBJECTS).map(|n| (key(prefix, n), 1)));
    }

    let proxy = Proxy::start(&server.endpoint());
    let strike = |random: &mut Random| {
        let stories: BTreeMap<String, Vec<Fault>> = prefixes.iter().map(|prefix| (prefix.clone(), story(random))).collect();
        println!("{stories:?}");
        proxy.decide(move |prefix, nth| stories.get(prefix).and_then(|story| story.get(nth)).copied().unwrap_or(Fault::Pass));
    };
    // After a story two whole polls of two pages come; the second begins when what the first found is recorded.
    // An endless listing is aborted after some forty pages of a thousand keys, which takes a debug build on a busy machine most
    // of a minute.
    let settled = || proxy.wait_for_each(&prefixes, 4 * TEST_TIMEOUT, |count| count.decided >= 2 * STRUCK + 4);

    strike(&mut random);
    let existing = |n: usize| if is_processed(n) { "process" } else { "skip" };
    let place = Place::new(&watches(&proxy.endpoint(), &prefixes, existing)).with_env(server.env());
    let daemon = place.start();
    settled();
    assert_each_once(&place, &expected);

    strike(&mut random);
    for prefix in &prefixes {
        for n in 0..20 {
            // Spread over the whole listing, so that pages shift.
            let new = format!("{}-new-{n}", key(prefix, random.below(OBJECTS)));
            server.put("box", &new, b"x");
            expected.insert(new, 1);
        }
        for n in [3, 500, 999, 1_000, 1_099] {
            server.put("box", &key(prefix, n), b"changed");
            *expected.entry(key(prefix, n)).or_default() += 1;
        }
        for n in [4, 501, 998, 1_001, 1_098] {
            assert!(server.delete("box", &key(prefix, n)));
        }
    }
    settled();
    assert_each_once(&place, &expected);
    wait_for_warnings(&daemon, "every warning goes", |warnings| warnings.is_empty());
    daemon.terminate();
}

/// The box knows within the design's limit of ten seconds what its owner has to do.
fn is_told_in_time(place: &Place, parts: &[&str]) {
    let began = Instant::now();
    let mut daemon = place.start();
    let logged = daemon.wait_for_log("s3://");
    let warnings = wait_for_warnings(&daemon, "a warning", |warnings| !warnings.is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for part in parts {
        assert!(logged.contains(part), "`{part}` in the log: {logged}");
        assert!(warnings.iter().any(|warning| warning.contains(part)), "`{part}` in status: {warnings:?}");
    }
    daemon.terminate();
}

const ONE_WATCH: &str = "jobs: [{ name: each, trigger: { type: watch, source: \"s3://box/\" } }]";

#[test]
fn missing_credentials_are_a_warning_that_names_what_to_set() {
    let server = S3Server::start("box");
    let silent = Hostile::start([]);
    silent.otherwise(Reply::Silence);
    // A metadata service that takes the question and never answers, as where a firewall swallows it.
    let place = Place::new(ONE_WATCH).with_env([
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.endpoint()),
        ("HOME", "/nonexistent".to_owned()),
    ]);
    is_told_in_time(&place, &["no AWS credentials found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "anonymous: true"]);
}

#[test]
fn a_wrong_region_is_a_warning_with_the_right_one() {
    let server = S3Server::start("box");
    let aws = Hostile::start([]);
    let body = "<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>".to_owned();
    let header = ("x-amz-bucket-region".to_owned(), "eu-north-1".to_owned());
    aws.otherwise(Reply::Whole { status: 301, headers: vec![header], body });
    let place = Place::new(ONE_WATCH).with_env(server.env()).with_env([("AWS_ENDPOINT_URL", aws.endpoint())]);
    is_told_in_time(&place, &["bucket `box` is in region eu-north-1, not us-east-1", "set `region` or AWS_REGION"]);
}

#[test]
fn a_missing_bucket_is_a_warning_with_its_name() {
    let server = S3Server::start("another");
    let place = Place::new(ONE_WATCH).with_env(server.env());
    is_told_in_time(&place, &["no bucket `box` at 127.0.0.1:", "create it, or correct `source`"]);
}

#[test]
fn a_clock_that_is_an_hour_behind_is_a_warning_with_the_difference() {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    let server = S3Server::start("box");
    let aws = Hostile::start([]);
    // Half a minute more: what this test takes must not change the minute.
    let there = DateTime::from(std::time::SystemTime::now() + Duration::from_secs(3_630));
    let date = ("date".to_owned(), there.fmt(DateTimeFormat::HttpDate).expect("a date"));
    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>".to_owned();
    aws.otherwise(Reply::Whole { status: 403, headers: vec![date], body });
    let place = Place::new(ONE_WATCH).with_env(server.env()).with_env([("AWS_ENDPOINT_URL", aws.endpoint())]);
    is_told_in_time(&place, &["this machine's clock is 1h behind, too far off for 127.0.0.1:", "set it, for example by NTP"]);
}
