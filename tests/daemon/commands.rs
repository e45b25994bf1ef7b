//! What people type: exit codes, and the JSON that programs rely on.

use super::support::{Place, text};

#[test]
fn exit_codes_tell_usage_failure_and_absence_apart() {
    let place = Place::new("jobs: [{ name: bad, trigger: manual, command: \"exit 4\" }]");
    for (args, code) in [
        (&["check", "firelink.yaml"][..], 0),
        (&["check", "nowhere.yaml"], 2),
        (&["run", "nowhere.yaml"], 2),
        (&["frobnicate"], 2),
        (&["ctl", "status"], 3),
        (&["stop"], 3),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let output = place.firelink(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert_eq!(output.stderr.is_empty(), code == 0, "diagnostics go to stderr: {args:?}");
    }
    let daemon = place.start();
    for (args, code) in [
        (&["ctl", "trigger", "bad", "--wait"][..], 1),
        (&["ctl", "trigger", "bsd"], 1),
        (&["ctl", "cancel", "99"], 1),
        (&["ctl", "logs", "99"], 1),
        (&["status"], 0),
        (&["status", "--format", "xml"], 2),
    ] {
        let output = place.firelink(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
    let typo = place.firelink(&["ctl", "trigger", "bsd"]);
    assert!(text(&typo.stderr).contains("did you mean `bad`?"), "{}", text(&typo.stderr));
    drop(daemon);
}

#[test]
fn json_has_the_keys_that_programs_rely_on() {
    let place = Place::new(
        "timezone: UTC\njobs: [{ name: daily, trigger: cron, schedule: \"0 18 * * *\" }, { name: now, trigger: manual, command: [\"true\"] }]",
    );
    let daemon = place.start();
    let run = daemon.trigger("now");
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let run_keys = [
        "attempt",
        "ended_at",
        "event",
        "exit_code",
        "id",
        "job",
        "log",
        "reason",
        "scheduled_at",
        "signal",
        "started_at",
        "state",
        "trigger",
    ];
    assert_eq!(keys(&run), run_keys);
    let status = daemon.status();
    assert_eq!(keys(&status), ["active", "config", "jobs", "pid", "started_at", "state_error", "version", "warnings"]);
    assert_eq!(keys(&status["jobs"][0]), ["enabled", "last_run", "name", "next_at", "paused", "state", "trigger", "waiting_for"]);
    assert!(status["jobs"][0]["next_at"].as_str().is_some_and(|at| at.contains("T18:00:00")), "{status}");
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(keys(&place.history(&[])[0]), run_keys);
    let report = place.json(&["check", "firelink.yaml", "--format", "json"]);
    assert_eq!((report["ok"].as_bool(), report["jobs"].as_u64()), (Some(true), Some(2)));
    place.write("bad.yaml", "jobs:\n  - name: a\n    timeout: 5\n");
    let output = place.firelink(&["check", "bad.yaml", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(keys(&report["errors"][0]), ["column", "file", "help", "line", "message"]);
    assert_eq!((report["errors"][0]["line"].as_u64(), report["errors"][0]["column"].as_u64()), (Some(3), Some(14)));
}

#[test]
fn history_is_read_without_a_daemon_and_narrowed() {
    let place = Place::new(
        "jobs: [{ name: good, trigger: manual, command: \"true\" }, { name: bad, trigger: manual, command: \"false\" }]",
    );
    let daemon = place.start();
    for job in ["good", "bad", "good"] {
        daemon.trigger(job);
    }
    daemon.terminate();
    assert_eq!(place.history(&[]).len(), 3);
    assert_eq!(place.history(&["--job", "good"]).len(), 2);
    assert_eq!(place.history(&["--state", "failed"]).len(), 1);
    let state = place.state_dir().display().to_string();
    let text = place.prints(&["history", "--state-dir", &state, "--limit", "1"]);
    assert!(text.contains("good") && !text.contains("bad"), "the newest comes first: {text}");
}

#[test]
fn a_past_run_is_shown_with_its_attempts_and_the_end_of_its_output() {
    let place = Place::new(
        "jobs:\n  - { name: a, trigger: manual, command: 'seq $((100 * FIRELINK_ATTEMPT)); test $FIRELINK_ATTEMPT -gt 1', \
         retry: { attempts: 2, delay: 1ms } }\n",
    );
    let daemon = place.start();
    daemon.trigger("a");
    daemon.trigger("a");
    let state = place.state_dir().display().to_string();
    let history = |more: &[&str]| [&["history", "--state-dir", &state], more].concat().join(" ");
    let of = |more: &[&str]| place.prints(&history(more).split(' ').collect::<Vec<_>>());
    let shown = of(&["--run", "1", "--tail", "2"]);
    assert!(shown.contains("attempt 1 ended ") && shown.contains(": exit code 1\n"), "{shown}");
    assert!(shown.ends_with("\n\n  199\n  200\n"), "{shown}");
    let whole: serde_json::Value = serde_json::from_str(&of(&["--run", "1", "--format", "json"])).unwrap();
    assert_eq!((&whole["id"], &whole["attempts"][0]["exit_code"]), (&1.into(), &1.into()), "{whole}");
    assert_eq!(whole["output"].as_array().map(Vec::len), Some(10));
    assert_eq!(of(&["--since", "1h"]).lines().count(), 3);
    assert_eq!(of(&["--until", "1h"]).lines().count(), 1);
    assert_eq!(of(&["--since", "2000-01-01T00:00:00Z", "--state", "succeeded"]).lines().count(), 3);
    let wrong = place.firelink(&["history", "--state-dir", &state, "--run", "9"]);
    assert_eq!(wrong.status.code(), Some(1));
    let wrong = place.firelink(&["history", "--state-dir", &state, "--since", "noon"]);
    assert_eq!((wrong.status.code(), text(&wrong.stderr).contains("invalid time `noon`")), (Some(2), true));
}

#[test]
fn the_state_is_checked_on_demand_also_while_a_daemon_runs() {
    let place = Place::new("jobs:\n  - { name: a, trigger: manual }\n");
    let state = place.state_dir().display().to_string();
    let check = |more: &[&str]| place.firelink(&[&["check", "--state", "--state-dir", &state], more].concat());
    assert_eq!(check(&[]).status.code(), Some(1), "there is none yet");
    let daemon = place.start();
    daemon.trigger("a");
    assert_eq!(text(&check(&[]).stdout), format!("{state}: the state is intact\n"));
    daemon.terminate();
    let conn = rusqlite::Connection::open(place.state_dir().join("state.db")).unwrap();
    conn.execute_batch("UPDATE runs SET job = 9").unwrap();
    drop(conn);
    let output = check(&["--format", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["ok"]), (Some(1), &false.into()));
    assert_eq!(told["errors"][0], "run 1 belongs to a job that is not known");
}
