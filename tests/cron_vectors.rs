//! The vectors of `tests/data/cron-vectors.jsonl`, on which two independent implementations agree: in this process, and
//! through `firelink next`.

#![expect(clippy::expect_used, reason = "the helpers of a test may panic like the tests themselves")]
#![expect(unsafe_code, reason = "a test changes its environment, in a process of its own")]

use std::process::{Command, Output};

use firelink::cli::next::{NextFormat, NextRequest, render_next};
use firelink::cron::{Schedule, Upcoming, Zone, parse_rfc3339};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Vector {
    id: String,
    schedule: String,
    timezone: String,
    after: String,
    count: usize,
    expect: Vec<String>,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> =
        include_str!("data/cron-vectors.jsonl").lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(vectors.len(), 239);
    vectors
}

fn firelink(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firelink")).args(args).env_remove("TZ").output().expect("the binary starts")
}

#[test]
fn every_vector_fires_when_both_references_say() {
    for vector in vectors() {
        let request = NextRequest {
            schedule: &vector.schedule,
            timezone: Ok(&vector.timezone),
            after: Ok(&vector.after),
            count: vector.count,
            format: NextFormat::Json,
        };
        let printed = render_next(&request).unwrap_or_else(|error| panic!("{vector:?}: {error}"));
        let found: Vec<String> = serde_json::from_str(&printed).expect("a JSON array");
        assert_eq!(found, vector.expect, "{}: `{}` in {} after {}", vector.id, vector.schedule, vector.timezone, vector.after);
    }
}

#[test]
fn the_binary_prints_every_vector_as_one_line_of_json() {
    for vector in vectors() {
        let count = vector.count.to_string();
        let output = firelink(&[
            "next",
            "--schedule",
            &vector.schedule,
            "--timezone",
            &vector.timezone,
            "--after",
            &vector.after,
            "--count",
            &count,
            "--format",
            "json",
        ]);
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(0), "{vector:?}");
        assert_eq!(printed.matches('\n').count(), 1, "{printed}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&printed).expect("a JSON array"), vector.expect, "{}", vector.id);
    }
}

#[test]
fn text_is_one_instant_a_line() {
    let output = firelink(&[
        "next",
        "--schedule",
        "0 18 * * *",
        "--timezone",
        "Europe/Berlin",
        "--after",
        "2026-10-24T00:00:00Z",
        "--count",
        "2",
    ]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2026-10-24T18:00:00+02:00\n2026-10-25T18:00:00+01:00\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_wrong_schedule_zone_instant_or_count_exits_with_2_and_says_what_is_wrong() {
    for (args, expect) in [
        (
            &["--schedule", "0 60 * * *"][..],
            "error: hour: `60` is too large\n  0 60 * * *\n    ^^\nhelp: hours go from 0 to 23\n",
        ),
        (
            &["--schedule", "@daily", "--timezone", "Europe/Berln"],
            "error: `Europe/Berln` is not a time zone\nhelp: did you mean `Europe/Berlin`?\n",
        ),
        (
            &["--schedule", "@daily", "--after", "yesterday"],
            "error: `yesterday` is not an RFC 3339 instant\nhelp: write a date, a time and an offset, like \
             `2026-03-29T01:59:00+01:00` or `2026-03-29T00:59:00Z`\n",
        ),
        (&["--schedule", "@daily", "--count", "100001"], "error: 100001 firings are too many\nhelp: ask for 100000 at most\n"),
    ] {
        let output = firelink(&[&["next"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expect);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_2() {
    for args in [&["next"][..], &["next", "--schedule"], &["nxt"], &[], &["next", "--schedule", "@daily", "--format", "xml"]] {
        let output = firelink(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

/// Boxes without zoneinfo carry their zone as a POSIX string, which has rules but no name (tzset(3)).
#[test]
fn a_posix_string_in_tz_is_the_systems_zone() {
    let output = Command::new(env!("CARGO_BIN_EXE_firelink"))
        .args(["next", "--schedule", "30 2 28-30 3 *", "--after", "2026-03-01T00:00:00Z", "--count", "3"])
        .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        .output()
        .expect("the binary starts");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2026-03-28T02:30:00+01:00\n2026-03-29T03:00:00+02:00\n2026-03-30T02:30:00+02:00\n"
    );
}

/// The variable that tells the test below that it is the child, with `TZ` set.
const IN_CHILD: &str = "FIRELINK_TEST_SYSTEM_ZONE";

#[test]
fn the_systems_zone_keeps_its_rules_when_the_environment_changes() {
    const NAME: &str = "the_systems_zone_keeps_its_rules_when_the_environment_changes";
    if std::env::var_os(IN_CHILD).is_none() {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args([NAME, "--exact", "--nocapture"])
            .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            .env(IN_CHILD, "1")
            .output()
            .expect("the test starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("compared 4000 firings"), "{output:?}");
        return;
    }
    let (system, berlin) = (Zone::system(), Zone::parse("Europe/Berlin").expect("a zone"));
    // SAFETY: this process runs this test alone, and no other thread reads the environment.
    unsafe { std::env::set_var("TZ", "Asia/Tokyo") };
    assert_eq!(system.name(), "local");
    assert_eq!(Zone::system().name(), "Asia/Tokyo", "the next load of a configuration sees the change");
    let mut compared = 0;
    // Since 1996 Berlin has had the rules of the POSIX text.
    for (schedule, after) in [("30 2 * * *", "2024-01-01T00:00:00Z"), ("*/20 1-3 * 3,10 0", "2096-01-01T00:00:00Z")] {
        let schedule = [Schedule::parse(schedule).expect("a schedule")];
        let after = parse_rfc3339(after).expect("an instant");
        for (ours, named) in Upcoming::new(&schedule, system, after).zip(Upcoming::new(&schedule, berlin, after)).take(2_000) {
            assert_eq!(system.rfc3339(ours), berlin.rfc3339(named));
            compared += 1;
        }
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("TZ", "CET-1CEST,M3.5.0,M10.5.0/3") };
    assert_eq!(Zone::system(), system, "equal rules are an equal zone");
    println!("compared {compared} firings");
}
