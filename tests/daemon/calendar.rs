//! `simulate` and `next` over the days on which clocks change.

use super::support::{Place, text};

const BERLIN: &str = r#"
timezone: Europe/Berlin
jobs:
  - { name: fixed, trigger: cron, schedule: "30 2 * * *", command: "exit 1" }
  - { name: half, trigger: cron, schedule: "*/30 1-3 * * *" }
  - { name: grid, trigger: { type: interval, every: 90m } }
  - { name: after, depends_on: [fixed] }
"#;

fn simulated(place: &Place, from: &str, to: &str) -> String {
    place.prints(&["simulate", "firelink.yaml", "--from", from, "--to", to])
}

#[test]
fn a_spring_day_in_berlin_makes_up_the_fixed_time_right_after_the_gap() {
    let place = Place::new(BERLIN);
    insta::assert_snapshot!(simulated(&place, "2026-03-29T00:00:00+01:00", "2026-03-29T05:00:00+02:00"), @r"
    2026-03-29T01:00:00+01:00       1  half                  succeeded
    2026-03-29T01:30:00+01:00       2  half                  succeeded
    2026-03-29T01:30:00+01:00       3  grid                  succeeded
    2026-03-29T03:00:00+02:00       5  half                  succeeded
    2026-03-29T03:00:00+02:00       4  fixed                 succeeded
    2026-03-29T03:00:00+02:00       6  after                 succeeded
    2026-03-29T03:30:00+02:00       7  half                  succeeded
    2026-03-29T04:00:00+02:00       8  grid                  succeeded
    ");
}

#[test]
fn an_autumn_day_in_berlin_runs_the_fixed_time_once_and_the_others_in_both_hours() {
    let place = Place::new(BERLIN);
    insta::assert_snapshot!(simulated(&place, "2026-10-25T01:00:00+02:00", "2026-10-25T04:00:00+01:00"), @r"
    2026-10-25T01:00:00+02:00       1  half                  succeeded
    2026-10-25T01:30:00+02:00       2  half                  succeeded
    2026-10-25T02:00:00+02:00       3  half                  succeeded
    2026-10-25T02:30:00+02:00       5  half                  succeeded
    2026-10-25T02:30:00+02:00       6  grid                  succeeded
    2026-10-25T02:30:00+02:00       4  fixed                 succeeded
    2026-10-25T02:30:00+02:00       7  after                 succeeded
    2026-10-25T02:00:00+01:00       8  half                  succeeded
    2026-10-25T02:30:00+01:00       9  half                  succeeded
    2026-10-25T03:00:00+01:00      10  half                  succeeded
    2026-10-25T03:00:00+01:00      11  grid                  succeeded
    2026-10-25T03:30:00+01:00      12  half                  succeeded
    ");
}

#[test]
fn as_json_each_step_is_a_line_with_its_keys() {
    let place = Place::new("timezone: UTC\njobs: [{ name: daily, trigger: cron, schedule: \"0 6 * * *\", command: ls }]");
    let from =
        ["simulate", "firelink.yaml", "--from", "2026-01-01T06:00:00Z", "--to", "2026-01-02T06:00:00Z", "--format", "json"];
    let printed = place.prints(&from);
    let lines: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let what: Vec<&str> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["scheduled", "started", "ended"], "the first instant counts, the last does not");
    assert_eq!(lines[2]["at"], "2026-01-01T06:00:00+00:00");
    let mut keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["at", "job", "reason", "run", "state", "what"]);
    let backwards =
        place.firelink(&["simulate", "firelink.yaml", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"]);
    assert_eq!(backwards.status.code(), Some(2));
    assert!(text(&backwards.stderr).contains("must be later"), "{}", text(&backwards.stderr));
}

#[test]
fn next_shows_the_coming_firings_of_a_configuration() {
    let place = Place::new(BERLIN);
    let after =
        ["next", "firelink.yaml", "--after", "2026-03-28T12:00:00Z", "--format", "json", "--job", "fixed", "--count", "2"];
    assert_eq!(place.json(&after), serde_json::json!(["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]));
    let all = place.json(&["next", "firelink.yaml", "--after", "2026-03-29T01:00:00Z", "--format", "json", "--count", "3"]);
    assert_eq!(all[0]["job"], "half");
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    let unknown = place.firelink(&["next", "firelink.yaml", "--job", "fixd"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean `fixed`?"), "{}", text(&unknown.stderr));
}
