//! Runs: from their trigger to their row in the history.

use super::support::{Place, text};

/// The second example of the design, faster: both forms of executors and a job behind them.
const EXECUTORS: &str = r#"
jobs:
  - name: job_A
    trigger: { type: cron, schedule: "*/5 * * * * *", catch_up: last }
    executor: { type: bash, script: a.sh, args: [--verbose] }
  - name: job_B
    trigger: { type: cron, schedule: "*/5 * * * * *" }
    executor: { type: python, script: b.py, args: [--input, data.csv], env: { LOGLEVEL: DEBUG } }
  - name: job_C
    depends_on: [job_A, job_B]
    trigger: { type: after_deps, condition: all_success }
    command: ["/bin/echo", "--all"]
"#;

#[test]
fn every_five_seconds_two_scripts_run_and_then_the_job_behind_them() {
    let place = Place::new(EXECUTORS);
    place.write("a.sh", "echo \"a $1\"; [ ! -e fail ]\n");
    place.write("b.py", "import os, sys\nprint('b', *sys.argv[1:], os.environ['LOGLEVEL'])\n");
    let daemon = place.start();
    let mut events = daemon.follow();
    let first = events.ended("job_C");
    assert_eq!(first["state"], "succeeded");
    let before = events.seen.iter().filter(|event| event["what"] == "ended").map(|event| event["job"].as_str().unwrap());
    let mut before: Vec<&str> = before.collect();
    before.sort_unstable();
    assert_eq!(before, ["job_A", "job_B", "job_C"], "C runs once, after A and B");
    assert_eq!(place.prints(&["ctl", "logs", "job_A"]), "a --verbose\n");
    assert_eq!(place.prints(&["ctl", "logs", "job_B"]), "b --input data.csv DEBUG\n");
    assert_eq!(place.prints(&["ctl", "logs", "job_C"]), "--all\n");

    place.write("fail", "");
    let skipped = events.wait("a skipped run of C", |event| event["job"] == "job_C" && event["state"] == "skipped");
    assert_eq!(skipped["reason"], "upstream job_A failed");
    drop(daemon);
    let runs = place.history(&["--job", "job_A"]);
    let due = |run: &serde_json::Value| run["scheduled_at"].as_str().map(|at| at[17..19].parse::<u32>().unwrap());
    assert!(runs.iter().all(|run| due(run).is_some_and(|second| second % 5 == 0)), "{runs:#?}");
    assert!(runs.iter().any(|run| run["state"] == "failed" && run["exit_code"] == 1));
}

#[test]
fn a_job_sees_its_run_in_its_environment_and_nothing_of_the_daemon() {
    let place = Place::new(
        r#"
timezone: Europe/Berlin
jobs:
  - name: show
    trigger: manual
    command: 'env | grep ^FIRELINK_ | grep -v -e SOCKET -e STATE_DIR -e DAEMON_PID -e OUTPUT | sort; echo "$A|$B|$SECRET"; ls /proc/self/fd | wc -l; pwd; umask; grep SigBlk /proc/self/status'
    env: { A: "1", B: two words }
    env_file: secrets
    cwd: sub
    umask: "027"
"#,
    );
    std::fs::create_dir(place.path("sub")).unwrap();
    place.write("sub/secrets", "SECRET='a b'\n");
    let daemon = place.start();
    let run = daemon.trigger("show");
    assert_eq!((&run["state"], &run["exit_code"], &run["attempt"]), (&"succeeded".into(), &0.into(), &1.into()));
    let shown = place.prints(&["ctl", "logs", &run["id"].to_string()]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "FIRELINK_ATTEMPT=1");
    assert!(lines[1].starts_with("FIRELINK_EVENT="), "{shown}");
    assert_eq!(lines[2], "FIRELINK_JOB=show");
    assert_eq!(lines[3], format!("FIRELINK_RUN_ID={}", run["id"]));
    assert_eq!(lines[4], format!("FIRELINK_SCHEDULED_AT={}", run["scheduled_at"].as_str().unwrap()));
    assert_eq!(lines[5], "FIRELINK_TRIGGER=manual");
    assert_eq!(lines[6], "1|two words|a b");
    // Standard input, output and error, and the one that `ls` opened.
    assert_eq!(lines[7].trim(), "4");
    assert_eq!(lines[8], place.path("sub").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(lines[9], "0027");
    assert_eq!(lines[10].split_whitespace().last(), Some("0000000000000000"));
    let everywhere = [daemon.status().to_string(), format!("{:?}", place.history(&[]))].concat();
    assert!(!everywhere.contains("a b"), "secrets are never shown");
}

#[test]
fn retries_are_attempts_of_one_run() {
    let place = Place::new(
        r#"
jobs:
  - name: third
    trigger: manual
    command: 'echo "attempt $FIRELINK_ATTEMPT"; [ "$FIRELINK_ATTEMPT" = 3 ] || exit 7'
    retry: { attempts: 5, delay: 10ms }
  - name: never
    trigger: manual
    command: "kill -9 $$"
    retry: 2
    defaults_are_not_here: 1
"#,
    );
    let refused = place.firelink(&["check", "firelink.yaml"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("unknown key `defaults_are_not_here`"), "{}", text(&refused.stderr));
    place.write("firelink.yaml", &place.read("firelink.yaml").replace("    defaults_are_not_here: 1\n", ""));
    let daemon = place.start();
    let run = daemon.trigger("third");
    assert_eq!((run["state"].as_str(), run["attempt"].as_u64()), (Some("succeeded"), Some(3)));
    let log = place.prints(&["ctl", "logs", "third"]);
    assert_eq!(log, "attempt 1\n[firelink: attempt 2]\nattempt 2\n[firelink: attempt 3]\nattempt 3\n");
    let run = daemon.trigger("never");
    assert_eq!(
        (run["state"].as_str(), run["attempt"].as_u64(), run["signal"].as_str(), run["exit_code"].as_u64()),
        (Some("failed"), Some(2), Some("SIGKILL"), None)
    );
}

#[test]
fn a_timeout_ends_the_whole_group_even_if_it_ignores_sigterm() {
    let place = Place::new(
        r#"
jobs:
  - name: deaf
    trigger: manual
    command: "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >&2; exec sleep 1000' & echo $$; wait; sleep 1000"
    # Time enough for both to write their numbers on a busy machine.
    timeout: 2s
    kill_grace: 200ms
"#,
    );
    let daemon = place.start();
    let run = daemon.trigger("deaf");
    assert_eq!((run["state"].as_str(), run["signal"].as_str()), (Some("timed_out"), Some("SIGKILL")), "{run}");
    let pids = place.prints(&["ctl", "logs", "deaf"]);
    assert_eq!(pids.lines().count(), 2, "{pids}");
    for pid in pids.lines() {
        super::support::wait_gone(pid);
    }
    drop(daemon);
}

#[test]
fn a_child_that_hands_its_output_to_another_process_can_not_hang_its_run() {
    let place = Place::new(
        r#"
jobs:
  - name: leaver
    trigger: manual
    command: "sleep 1000 & echo $!; exit 3"
"#,
    );
    let daemon = place.start();
    let run = daemon.trigger("leaver");
    assert_eq!((run["state"].as_str(), run["exit_code"].as_u64()), (Some("failed"), Some(3)));
    let pid = place.prints(&["ctl", "logs", "leaver"]);
    super::support::wait_gone(pid.trim());
    drop(daemon);
}

#[test]
fn what_can_not_start_is_a_failed_run_that_says_why() {
    let place = Place::new(
        r#"
jobs:
  - { name: missing, trigger: manual, command: [/nowhere/program] }
  - { name: unknown, trigger: manual, command: [no-such-program-anywhere] }
  - { name: plain, trigger: manual, command: [./plain.txt] }
  - { name: script, trigger: manual, executor: { type: bash, script: none.sh } }
  - { name: folder, trigger: manual, command: [ls], cwd: nowhere }
  - { name: secret, trigger: manual, command: [ls], env_file: none }
"#,
    );
    place.write("plain.txt", "text");
    let daemon = place.start();
    for (job, part) in [
        ("missing", "`/nowhere/program` does not exist"),
        ("unknown", "was not found in PATH"),
        ("plain", "is not executable"),
        ("script", "none.sh does not exist"),
        ("folder", "the working directory"),
        ("secret", "env_file"),
    ] {
        let run = daemon.trigger(job);
        assert_eq!(run["state"], "failed", "{run}");
        assert!(run["reason"].as_str().is_some_and(|reason| reason.contains(part)), "{run}");
    }
    drop(daemon);
    let check = place.firelink(&["check", "firelink.yaml"]);
    assert_eq!(check.status.code(), Some(0), "a script that is not there yet is a warning");
    let warnings = text(&check.stderr);
    for part in ["none.sh does not exist", "plain.txt is not executable", "/nowhere/program does not exist"] {
        assert!(warnings.contains(part), "{warnings}");
    }
}

#[test]
fn a_flood_of_output_is_cut_with_head_and_tail_kept() {
    let place = Place::new(
        r#"
jobs:
  - name: flood
    trigger: manual
    command: "echo first; yes | head -c 20000000; echo last"
    output: { max_size: 64KiB }
  - name: quiet
    trigger: manual
    command: "echo nothing to see"
    output: { capture: on_failure }
  - name: loud
    trigger: manual
    command: "echo it broke; exit 1"
    output: { capture: on_failure }
  - name: silent
    trigger: manual
    command: "echo unheard; exit 1"
    output: { capture: none }
"#,
    );
    let daemon = place.start();
    let run = daemon.trigger("flood");
    assert_eq!(run["state"], "succeeded");
    let log = std::fs::read(run["log"].as_str().unwrap()).unwrap();
    assert!(log.len() <= 64 * 1024, "{}", log.len());
    assert!(log.starts_with(b"first\n") && log.ends_with(b"last\n"));
    assert!(daemon.trigger("quiet")["log"].is_null(), "nothing is written when the run succeeds");
    let run = daemon.trigger("loud");
    assert_eq!(std::fs::read_to_string(run["log"].as_str().unwrap()).unwrap(), "it broke\n");
    assert!(daemon.trigger("silent")["log"].is_null());
}

#[test]
fn a_milestone_succeeds_at_once_and_opens_the_way() {
    let place = Place::new(
        r#"
jobs:
  - { name: gate, trigger: manual }
  - { name: behind, depends_on: [gate], command: "echo open" }
  - { name: last, trigger: manual, depends_on: [behind], command: "echo done" }
"#,
    );
    let daemon = place.start();
    let mut events = daemon.follow();
    assert_eq!(daemon.job("behind")["waiting_for"], serde_json::json!(["gate"]));
    daemon.trigger("gate");
    assert_eq!(events.ended("last")["state"], "succeeded");
    let all = place.json(&["ctl", "trigger", "last", "--with-deps", "--wait", "--format", "json"]);
    assert_eq!(all["state"], "succeeded");
    // A person who asks waits for the dependencies like any trigger, unless by force.
    let asked = place.json(&["ctl", "trigger", "last", "--format", "json"]);
    assert_eq!(asked["state"], "pending");
    let forced = place.json(&["ctl", "trigger", "last", "--force", "--wait", "--format", "json"]);
    assert_eq!(forced["state"], "succeeded");
    drop(daemon);
    assert!(place.states("gate").len() == 2);
}

#[test]
fn a_run_can_be_cancelled_and_a_job_paused() {
    let place = Place::new(
        r#"
jobs:
  - { name: long, trigger: manual, command: "sleep 1000" }
  - { name: held, trigger: manual, command: "true" }
"#,
    );
    let daemon = place.start();
    let mut events = daemon.follow();
    let run = place.json(&["ctl", "trigger", "long", "--format", "json"]);
    events.started("long");
    place.prints(&["ctl", "cancel", &run["id"].to_string()]);
    assert_eq!(events.ended("long")["state"], "cancelled");
    let again = place.firelink(&["ctl", "cancel", &run["id"].to_string()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("has already been cancelled"), "{}", text(&again.stderr));

    place.prints(&["ctl", "pause", "held"]);
    place.prints(&["ctl", "trigger", "held"]);
    let job = daemon.job("held");
    assert_eq!((job["paused"].as_bool(), job["state"].as_str()), (Some(true), Some("pending")));
    place.prints(&["ctl", "resume", "held"]);
    assert_eq!(events.ended("held")["state"], "succeeded");
}

#[test]
fn hooks_follow_a_run_with_its_environment_and_write_into_its_log() {
    let place = Place::new(
        r#"
defaults:
  on_failure: 'echo "$FIRELINK_JOB $FIRELINK_STATE code=$FIRELINK_EXIT_CODE reason=$FIRELINK_REASON" | tee told'
jobs:
  - name: good
    trigger: manual
    command: "echo out; exit 3"
    success_exit_codes: [0, 3]
    on_success: 'echo "well done: $A, exit $FIRELINK_EXIT_CODE"; echo x > told'
    env: { A: b }
  - name: bad
    trigger: manual
    command: "exit 4"
    retry: { attempts: 2, delay: 10ms }
    on_retry: 'echo "attempt $FIRELINK_ATTEMPT failed with $FIRELINK_EXIT_CODE" > retried'
  - name: missing
    trigger: manual
    command: [/nowhere]
    on_failure: [/nowhere/either]
  - name: cancelled
    trigger: manual
    command: "sleep 1000"
"#,
    );
    place.make_pipe("told");
    place.make_pipe("retried");
    let mut daemon = place.start();
    let run = daemon.trigger("good");
    place.hear("told");
    // The hook writes before it tells; its log is whole once the daemon has seen its end.
    assert_eq!(run["state"], "succeeded");
    place.prints(&["ctl", "trigger", "bad"]);
    assert_eq!(place.hear("retried"), "attempt 1 failed with 4");
    assert_eq!(place.hear("told"), "bad failed code=4 reason=");
    daemon.trigger("missing");
    daemon.wait_for_log("on_failure could not be started: `/nowhere/either` does not exist");
    let run = place.json(&["ctl", "trigger", "cancelled", "--format", "json"]);
    place.prints(&["ctl", "cancel", &run["id"].to_string()]);
    daemon.terminate();
    let log = std::fs::read_to_string(run_log(&place, "good")).unwrap();
    assert_eq!(log, "out\n[firelink: on_success]\nwell done: b, exit 3\n");
    let log = std::fs::read_to_string(run_log(&place, "bad")).unwrap();
    assert_eq!(log, "bad failed code=4 reason=\n");
}

fn run_log(place: &Place, job: &str) -> String {
    place.history(&["--job", job])[0]["log"].as_str().expect("a log").to_owned()
}

#[test]
fn a_hook_that_does_not_end_holds_the_daemon_for_seconds_only() {
    let place =
        Place::new("jobs: [{ name: a, trigger: manual, command: \"true\", on_success: \"echo $$ > pid; exec sleep 1000\" }]");
    place.make_pipe("pid");
    let daemon = place.start();
    daemon.trigger("a");
    let pid = place.hear("pid");
    daemon.terminate();
    assert!(!super::support::is_alive(&pid));
}

#[test]
fn a_failed_run_can_be_tried_again_with_all_that_was_skipped_because_of_it() {
    let place = Place::new(
        r#"
jobs:
  - { name: first, trigger: manual, command: "test -e fixed" }
  - { name: other, trigger: manual }
  - { name: both, depends_on: [first, other], command: "true" }
  - { name: last, depends_on: [both], command: "true" }
"#,
    );
    let daemon = place.start();
    daemon.trigger("other");
    let failed = daemon.trigger("first");
    assert_eq!(failed["state"], "failed");
    let number = failed["id"].to_string();
    assert_eq!((place.states("both"), place.states("last")), (vec!["skipped".to_owned()], vec!["skipped".to_owned()]));
    assert_eq!(place.history(&["--job", "last"])[0]["reason"], "upstream both skipped: upstream first failed");

    let again = place.firelink(&["ctl", "retry", &number, "--wait"]);
    assert_eq!(again.status.code(), Some(1), "it is not mended yet");
    place.write("fixed", "");
    let mut events = daemon.follow();
    let again = place.json(&["ctl", "retry", &number, "--downstream", "--wait", "--format", "json"]);
    assert_eq!(again["state"], "succeeded");
    assert_ne!(again["id"], failed["id"], "a run that has ended stays as it is");
    assert_eq!(events.ended("last")["state"], "succeeded");
    assert_eq!(events.seen.iter().filter(|event| event["job"] == "both" && event["what"] == "ended").count(), 1);
    for (run, part) in [(again["id"].to_string(), "has succeeded"), ("999".to_owned(), "there is no run 999")] {
        let refused = place.firelink(&["ctl", "retry", &run]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(part), "{}", text(&refused.stderr));
    }
}

#[test]
fn status_says_by_what_limits_are_kept() {
    let place = Place::new(
        "jobs:\n  - { name: small, trigger: manual, command: 'ulimit -v', limits: { memory: 64MiB } }\n  - { name: free, trigger: manual }\n",
    );
    let daemon = place.start();
    daemon.trigger("small");
    assert_eq!(place.prints(&["ctl", "logs", "small"]), "65536\n");
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("small: `limits` are kept by rlimits"), "{warnings}");
    let free = place.json(&["ctl", "status", "free", "--format", "json"]);
    assert_eq!(free["warnings"], serde_json::json!([]));
}
