//! Whatever comes in, nothing panics, nothing hangs, and what is read means what is written.
//!
//! Each target takes bytes and states laws. `FIRELINK_FUZZ=seconds` goes on that long for each; without it a number of
//! inputs is tried that takes a second or two. `FIRELINK_INPUT=n` tries one input again.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints the input")]

#[path = "fuzz/crontab.rs"]
mod crontab;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "support/random.rs"]
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use firelink::config::{Surroundings, check_text, look_here};
use firelink::control::protocol::{parse_request, request_line};
use firelink::control::{Connection, Input, REQUEST_LIMIT};
use firelink::cron::{Schedule, Zone, parse_rfc3339};
use firelink::model::{Elapsed, WallTime, format_duration, format_size, parse_duration, parse_size};
use firelink::triggers::seams;
use firelink::triggers::watch::NameFilter;

/// No input of a few kilobytes may take longer, on a machine that does ten other things, in a debug build.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn fuzz(corpus: &[&[u8]], inputs: u64, law: impl Fn(&[u8])) {
    let begun = Instant::now();
    let seconds = number("FIRELINK_FUZZ").map(Duration::from_secs);
    let one = number("FIRELINK_INPUT");
    let mut at = one.unwrap_or(0);
    loop {
        let bytes = mutate::input(corpus, at);
        let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| law(bytes))).is_err();
        let started = Instant::now();
        if fails(&bytes) {
            let shortest = mutate::shorten(bytes, fails);
            println!("input {at} (FIRELINK_INPUT={at}), at its shortest: {:?}", String::from_utf8_lossy(&shortest));
            law(&shortest);
            panic!("it fails no more");
        }
        assert!(started.elapsed() < TEST_TIMEOUT, "input {at} takes {:?}", started.elapsed());
        at += 1;
        let over = seconds.map_or(at >= inputs, |seconds| begun.elapsed() >= seconds);
        if one.is_some() || over {
            println!("{at} inputs in {:?}", begun.elapsed());
            return;
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CONFIGS: &[&[u8]] = &[
    include_bytes!("../examples/three-jobs.yaml"),
    include_bytes!("../examples/s3-pipeline.yaml"),
    include_bytes!("../examples/executors.yaml"),
    include_bytes!("../examples/plugins.yaml"),
    b"timezone: Europe/Berlin\nmax_parallel: 4\ndefaults: { timeout: 1h }\nstate: { durability: full, commit_every: 30s }\njobs:\n  - &x { name: a, \
      trigger: interval, every: 5m, retry: { attempts: 3, delay: 5s, backoff: exponential, max_delay: 5m, jitter: true } }\n  - { <<: *x, name: b, \
      depends_on: [a], condition: any_failure, success_exit_codes: [0, 3], limits: { memory: 64MiB, open_files: 10 }, umask: \"077\" }\n",
];

#[test]
fn any_configuration_is_loaded_or_refused_with_a_place_for_each_error() {
    let around = Surroundings { start_dir: "/nowhere".into(), machine_seed: 1, uid: 65_534 };
    fuzz(CONFIGS, 1_200, |bytes| {
        let text = text(bytes);
        let lines = text.lines().count().max(1) + 1;
        let Err(refused) = check_text(Path::new("f.yaml"), &text, &around, &look_here) else { return };
        assert!(!refused.0.is_empty(), "refused without a diagnostic");
        for one in &refused.0 {
            assert!(!one.message.contains("bug of firelink"), "the YAML readers disagree on line {}", one.line);
            assert!(one.line <= lines, "line {} of {lines}: {}", one.line, one.message);
            assert!(!one.message.is_empty() && !one.rendered.is_empty());
            assert!(one.rendered.len() < 64 * 1024, "a message of {} bytes", one.rendered.len());
        }
    });
}

#[test]
fn any_schedule_fires_later_than_now_and_only_then() {
    let corpus: &[&[u8]] = &[
        b"0 18 * * *",
        b"*/5 * * * * *",
        b"30 2 29 2 *",
        b"0-59/7 1,2,3 * jan-dec mon-fri",
        b"@hourly",
        b"0 0 */2 * 7",
        b"5-5/3 0 31 1 *",
    ];
    let zones: Vec<Zone> =
        ["UTC", "Europe/Berlin", "Australia/Lord_Howe"].iter().map(|name| Zone::parse(name).unwrap()).collect();
    fuzz(corpus, 4_000, |bytes| {
        let Ok(schedule) = Schedule::parse(&text(bytes)) else { return };
        for zone in &zones {
            let mut at = WallTime::from_secs(1_772_000_000 + bytes.len() as i64 * 3_333_333);
            for _ in 0..4 {
                let Some(next) = schedule.next_after(at, *zone) else { break };
                assert!(next > at, "{next} is not after {at}");
                let just_before = WallTime::from_nanos(next.as_nanos() - 1);
                assert_eq!(schedule.next_after(just_before, *zone), Some(next), "nothing fires between {at} and {next}");
                at = next;
            }
        }
    });
}

#[test]
fn any_duration_and_size_is_refused_or_means_what_it_prints() {
    let corpus: &[&[u8]] = &[b"250ms", b"10s", b"1h30m", b"2d", b"64KiB", b"10MiB", b"1MB", b"1.5h", b"0s", b"999999999d"];
    fuzz(corpus, 20_000, |bytes| {
        let text = text(bytes);
        if let Ok(duration) = parse_duration(&text) {
            let printed = format_duration(duration);
            let again = parse_duration(&printed).unwrap_or_else(|error| panic!("{text} prints as {printed}: {error:?}"));
            assert_eq!(again, duration, "{text} prints as {printed}");
        }
        if let Ok(size) = parse_size(&text) {
            let printed = format_size(size);
            assert_eq!(parse_size(&printed).ok(), Some(size), "{text} prints as {printed}");
        }
    });
}

#[test]
fn any_instant_is_refused_or_reads_back() {
    let corpus: &[&[u8]] =
        &[b"2026-03-29T02:30:00Z", b"2026-03-29T02:30:00.123456789+05:30", b"1969-12-31T23:59:60-00:01", b"2262-04-11T23:47:16Z"];
    fuzz(corpus, 20_000, |bytes| {
        if let Ok(at) = parse_rfc3339(&text(bytes)) {
            assert_eq!(parse_rfc3339(&at.to_string()).ok(), Some(at), "{at}");
        }
    });
}

#[test]
fn any_pattern_is_refused_or_matches_quickly() {
    let corpus: &[&[u8]] = &[b"*.tar.gz*", b"logs/**/*.{json,csv}", b"[!a-z]?x", b"*a*a*a*a*a*a*a*a*b", b"{{{a,b},c},d}"];
    let long = "a".repeat(400);
    fuzz(corpus, 1_000, |bytes| {
        if let Ok(filter) = NameFilter::parse(&text(bytes)) {
            for key in ["", "a", "in/x.tar.gz", "in/logs/2026/a.json", &long, "in/\u{fc}\n"] {
                let once = filter.matches("in/", key);
                assert_eq!(filter.matches("in/", key), once);
            }
        }
    });
}

#[test]
fn any_request_is_refused_or_reads_back() {
    let corpus: &[&[u8]] = &[
        br#"{"v":1,"cmd":"status"}"#,
        br#"{"v":1,"cmd":"status","job":"a"}"#,
        br#"{"v":1,"cmd":"trigger","job":"a","wait":true,"force":false,"with_deps":true}"#,
        br#"{"v":1,"cmd":"cancel","run":7}"#,
        br#"{"v":1,"cmd":"logs","of":"a","wait":true}"#,
        br#"{"v":1,"cmd":"pause"}"#,
        br#"{"v":1,"cmd":"stop","now":true}"#,
        br#"{"v":1,"cmd":"reload"}"#,
    ];
    fuzz(corpus, 6_000, |bytes| match parse_request(bytes) {
        Ok(request) => assert_eq!(parse_request(request_line(&request).trim_end().as_bytes()).ok(), Some(request)),
        Err(reply) => assert_eq!(reply.to_line().matches('\n').count(), 1, "an answer is one line"),
    });
}

#[test]
fn a_connection_gives_the_same_lines_however_the_bytes_arrive() {
    let corpus: &[&[u8]] = &[b"{\"v\":1}\n{\"v\":2}\n", b"\n\n\n", b"no end"];
    fuzz(corpus, 1_500, |bytes| {
        let whole = lines_of(&[bytes]);
        let pieces: Vec<&[u8]> = bytes.chunks(1 + bytes.len() % 7).collect();
        assert_eq!(lines_of(&pieces), whole);
        assert!(whole.iter().all(|line| line.len() <= REQUEST_LIMIT));
    });
}

fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let now = Elapsed::from_nanos(1);
    let mut peer = Connection::default();
    let mut lines = Vec::new();
    for piece in pieces {
        peer.received(piece, now);
        while let Input::Line(line) = peer.next_line(now) {
            lines.push(line);
        }
    }
    lines
}

#[test]
fn a_plugins_lines_are_the_same_however_they_arrive() {
    let corpus: &[&[u8]] = &[b"{\"a\":1}\n{\"b\":2}\n", b"\r\n\n", b"one\ntwo without an end", &[b'x'; 300]];
    fuzz(corpus, 4_000, |bytes| {
        let whole = seams::plugin_lines(64, &[bytes]);
        let pieces: Vec<&[u8]> = bytes.chunks(1 + bytes.len() % 11).collect();
        let cut = seams::plugin_lines(64, &pieces);
        assert_eq!(cut.len(), whole.len());
        for (one, other) in cut.iter().zip(&whole) {
            assert_eq!(one, other);
            assert!(one.1.len() <= 64);
        }
    });
}

#[cfg(feature = "s3")]
#[test]
fn a_listing_is_believed_only_if_it_is_whole() {
    const LISTING: &[u8] = b"<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><!-- c -->\
        <IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key><Size>1</Size><ETag>\"x\"</ETag></Contents><Contents/></ListBucketResult>";
    assert!(seams::is_whole_listing(LISTING));
    for end in 0..LISTING.len() {
        assert!(!seams::is_whole_listing(&LISTING[..end]), "cut at {end}");
    }
    fuzz(&[LISTING, b"<ListBucketResult/>", b"<Error><Code>x</Code></Error>"], 6_000, |bytes| {
        if seams::is_whole_listing(bytes) {
            let roots: [&[u8]; 2] = [b"<ListBucketResult", b"</ListBucketResult"];
            let begins = |at: &usize| roots.iter().any(|root| bytes[*at..].starts_with(root));
            let last = (0..bytes.len()).rfind(begins).expect("it has a root");
            assert!(!seams::is_whole_listing(&bytes[..last]), "without its last tag it is not whole");
        }
    });
}
