//! Plugins: real processes, in any mood.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::{Daemon, Place, TEST_TIMEOUT, is_alive};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A place with one job, whose plugin is a shell script.
fn place(script: &str, more: &str) -> Place {
    let place = Place::new(&format!(
        r#"
jobs:
  - name: each
    trigger: {{ type: plugin, command: [sh, plugin.sh] }}
    output: {{ keep_runs: 1000000 }}
    {more}
"#
    ));
    place.write("plugin.sh", script);
    place
}

/// The payloads of all runs, oldest first.
fn payloads(place: &Place) -> Vec<Value> {
    place.history(&["--job", "each"]).iter().rev().map(|run| run["event"].clone()).collect()
}

fn warnings(daemon: &Daemon<'_>) -> String {
    let status = daemon.status();
    let lines: Vec<&str> = status["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    lines.join("\n")
}

/// Asks again and again, which makes the daemon turn, until it is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        // Asking starts processes, and other tests want the processor too.
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn each_line_makes_one_run_and_a_bad_one_is_reported_and_dropped() {
    let script = r#"
echo '{"n": 1, "text": "a \"b\" ü"}'
echo 'hello?'
echo '[2]'
echo "what a nice day" >&2
head -c 70000 /dev/zero | tr '\0' x
echo
printf '"\377"\n'
echo 3
exec sleep 1000
"#;
    let place = place(script, r#"command: 'echo "$FIRELINK_TRIGGER $FIRELINK_EVENT" >> ran'"#);
    let daemon = place.start();
    until("the third event has run", || place.lines("ran").len() == 3);
    let ran = [r#"plugin {"n":1,"text":"a \"b\" ü"}"#, "plugin [2]", "plugin 3"];
    assert_eq!(place.lines("ran"), ran);
    until("the bad lines show", || warnings(&daemon).contains("line 5"));
    let told =
        "each: line 5 of the plugin was dropped: it is not UTF-8 after byte 1: `\"\u{fffd}\"`; 2 before it were dropped too";
    assert_eq!(warnings(&daemon), told);
    let log = daemon.terminate().join("\n");
    assert!(log.contains("each: plugin: what a nice day"), "{log}");
    assert_eq!(payloads(&place), [json!({"n": 1, "text": "a \"b\" ü"}), json!([2]), json!(3)]);
    assert!(place.history(&[]).iter().all(|run| run["trigger"] == "plugin" && run["state"] == "succeeded"));
}

#[test]
fn a_plugin_lives_in_the_surroundings_of_its_job() {
    let script = r#"
printf '{"job": "%s", "trigger": "%s", "run": "%s", "a": "%s", "secret": "%s", "umask": "%s", "cpu": "%s", "files": "%s", ' \
    "$FIRELINK_JOB" "$FIRELINK_TRIGGER" "$FIRELINK_RUN_ID" "$A" "$SECRET" "$(umask)" "$(ulimit -t)" "$(ulimit -n)"
printf '"cwd": "%s", "stdin": "%s", "group": %s}\n' "$(pwd)" "$(readlink /proc/self/fd/0)" \
    "$([ "$(cut -d' ' -f5 /proc/$$/stat)" = $$ ] && echo true)"
exec sleep 1000
"#;
    let more =
        "env: { A: two words }\n    env_file: secrets\n    cwd: sub\n    umask: '027'\n    limits: { cpu: 1h, open_files: 99 }";
    let place = place(script, more);
    std::fs::create_dir(place.path("sub")).unwrap();
    std::fs::rename(place.path("plugin.sh"), place.path("sub/plugin.sh")).unwrap();
    place.write("sub/secrets", "SECRET=hush\n");
    let daemon = place.start();
    until("it has told", || !payloads(&place).is_empty());
    let cwd = place.path("sub").canonicalize().unwrap();
    let expected = json!({
        "job": "each", "trigger": "plugin", "run": "", "a": "two words", "secret": "hush", "umask": "0027",
        "cpu": "unlimited", "files": "99", "cwd": cwd, "stdin": "/dev/null", "group": true,
    });
    assert_eq!(payloads(&place)[0], expected);
    daemon.terminate();
}

#[test]
fn one_that_crashes_is_started_again_and_status_says_so() {
    let place = place("echo $$\necho oh dear >&2\nexit 3\n", "");
    let mut daemon = place.start();
    daemon.wait_for_log("each: the plugin exited with code 3; next start in 1s");
    daemon.wait_for_log("each: the plugin exited with code 3, 2 times in a row; next start in 2s");
    assert!(warnings(&daemon).contains("each: the plugin exited with code 3, 2 times in a row"), "{}", warnings(&daemon));
    let runs = payloads(&place);
    assert!(runs.len() == 2 && runs[0] != runs[1], "two processes, an event each: {runs:?}");
    daemon.terminate();
}

#[test]
fn one_that_is_not_there_is_a_warning_and_the_rest_goes_on() {
    let place = Place::new(
        "jobs:\n  - { name: each, trigger: { type: plugin, command: [./nowhere], restart: never } }\n  - { name: other, trigger: manual }\n",
    );
    let mut daemon = place.start();
    daemon.wait_for_log("the plugin can't be started");
    let told = "each: the plugin can't be started: `./nowhere` does not exist and is not restarted (restart: never)";
    assert_eq!(warnings(&daemon), told);
    assert_eq!(daemon.trigger("other")["state"], "succeeded");
    daemon.terminate();
}

#[test]
fn a_plugin_that_writes_more_than_there_is_room_for_waits_and_every_line_makes_one_run() {
    // Half a megabyte at once: far more than the pipe and the daemon's buffer hold.
    let script = r#"
read _ < go
awk 'BEGIN { for (n = 1; n <= 5000; n++) printf "{\"n\": %d, \"pad\": \"%0100d\"}\n", n, 0 }'
echo all > written
exec sleep 1000
"#;
    let place = place(script, "");
    place.make_pipe("go");
    let daemon = place.start();
    place.prints(&["ctl", "pause", "each"]);
    std::fs::write(place.path("go"), "go\n").unwrap();
    until("the in-memory limit is reached", || place.history(&[]).len() >= 1_000);
    for _ in 0..20 {
        daemon.status();
    }
    assert_eq!(place.history(&[]).len(), 1_000, "no more are taken than there is room for");
    assert!(!place.path("written").exists(), "the plugin waits in its write");
    place.prints(&["ctl", "resume", "each"]);
    until("the plugin has written all", || place.path("written").exists());
    until("all have run", || place.states("each").iter().filter(|state| *state == "succeeded").count() >= 5_000);
    daemon.terminate();
    let numbers: Vec<u64> = payloads(&place).iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=5_000).collect::<Vec<_>>(), "in order, each once");
}

#[test]
fn at_the_stop_its_last_words_are_kept_for_the_next_start_and_nothing_of_it_is_left() {
    // One part of it ignores SIGTERM, another has left the process group.
    let script = r#"
trap 'echo "{\"last\": \"words\"}"; exit 0' TERM
(trap '' TERM; exec sleep 1000) &
stubborn=$!
setsid sleep 1000 &
echo "[$$, $stubborn, $!]"
while :; do wait; done
"#;
    let place = place(script, "command: 'echo \"$FIRELINK_EVENT\" >> ran'");
    let daemon = place.start();
    until("the run with its processes has ended", || place.states("each") == ["succeeded"]);
    let pids: Vec<String> =
        serde_json::from_str::<Vec<u32>>(&place.lines("ran")[0]).unwrap().iter().map(u32::to_string).collect();
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    let runs = |pid: &String, program: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == program)
    };
    // Before its exec one would still end by SIGTERM, and the other be in the plugin's group.
    until("both parts have become `sleep`", || pids[1..].iter().all(|pid| runs(pid, "sleep")));
    daemon.terminate();
    // What had left its group was sent SIGKILL, which the daemon does not wait for.
    until("nothing of it lives", || !pids.iter().any(|pid| is_alive(pid)));
    assert_eq!(place.states("each"), ["succeeded", "pending"], "what it said last waits");
    place.write("plugin.sh", "exec sleep 1000\n");
    let daemon = place.start();
    until("it has run", || place.lines("ran").len() == 2);
    assert_eq!(place.lines("ran")[1], r#"{"last":"words"}"#);
    daemon.terminate();
}

#[test]
fn one_that_does_not_end_when_asked_to_is_killed_after_the_grace_or_at_once_if_that_is_wanted() {
    let place = place("trap '' TERM\necho $$\nwhile :; do sleep 1000; done\n", "kill_grace: 100ms");
    let daemon = place.start();
    until("it lives", || payloads(&place).len() == 1);
    let log = daemon.terminate().join("\n");
    assert!(log.contains("each: the plugin does not end when asked to, and is killed"), "{log}");
    assert!(!is_alive(&payloads(&place)[0].to_string()));

    place.write("firelink.yaml", &place.read("firelink.yaml").replace("100ms", "1h"));
    let daemon = place.start();
    until("it lives again", || payloads(&place).len() == 2);
    place.prints(&["ctl", "stop", "--now"]);
    let (status, _) = daemon.wait();
    assert!(status.success());
    assert!(!is_alive(&payloads(&place)[1].to_string()));
}

#[test]
fn a_daemon_that_was_killed_leaves_no_plugin_behind_after_the_next_start() {
    // It never writes again, so no broken pipe ends it; its second process has a group of its own.
    let place = place("setsid sleep 1000 &\necho \"[$$, $!]\"\nwhile :; do sleep 1000; done\n", "");
    let daemon = place.start();
    until("it lives", || payloads(&place).len() == 1);
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let pids = |run: usize| -> Vec<String> { payloads(&place)[run].as_array().unwrap().iter().map(Value::to_string).collect() };
    let before = pids(0);
    assert!(before.iter().all(|pid| is_alive(pid)), "it outlives the daemon: {before:?}");
    let daemon = place.start();
    assert_eq!(before.iter().filter(|pid| is_alive(pid)).count(), 0, "the next daemon ends it before it starts another");
    until("the new one lives", || payloads(&place).len() == 2);
    assert!(pids(1).iter().all(|pid| is_alive(pid)));
    daemon.terminate();
    until("nothing of it lives", || !pids(1).iter().any(|pid| is_alive(pid)));
}

#[test]
fn while_the_state_can_not_be_written_events_wait_and_nothing_is_lost() {
    let place = place("exec 3<>go\nwhile read line <&3; do echo \"$line\"; done\n", "command: 'echo \"$FIRELINK_EVENT\" >> ran'");
    place.make_pipe("go");
    let daemon = place.start();
    let say = |number: u32| std::fs::write(place.path("go"), format!("{number}\n")).unwrap();
    say(1);
    until("the first has ended, which is stored", || place.states("each") == ["succeeded"]);
    let database = std::fs::read_dir(place.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let database = database.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    let other = rusqlite::Connection::open(database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    say(2);
    until("the trouble shows", || warnings(&daemon).contains("state: "));
    say(3);
    until("the second has run in memory", || place.lines("ran").len() == 2);
    other.execute_batch("ROLLBACK").unwrap();
    until("the third has run too", || place.lines("ran").len() == 3);
    assert_eq!(warnings(&daemon), "");
    daemon.terminate();
    assert_eq!(payloads(&place), [json!(1), json!(2), json!(3)]);
}

#[test]
fn one_whose_pipeline_has_ended_is_not_left_without_an_ear() {
    let place = place("echo $$\nexec >&-\nwhile :; do sleep 1000; done\n", "kill_grace: 100ms");
    let mut daemon = place.start();
    daemon.wait_for_log("each: the plugin has closed its stdout and can send no more events; terminating it");
    daemon.wait_for_log("each: the plugin was killed by SIGTERM");
    daemon.terminate();
}

mod examples {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The example as it stands, with these programs in front of all others.
    fn example(programs: &[(&str, &str)]) -> Place {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = Place::new(&std::fs::read_to_string(root.join("examples/plugins.yaml")).unwrap());
        std::os::unix::fs::symlink(root.join("examples"), place.path("examples")).unwrap();
        std::fs::create_dir(place.path("bin")).unwrap();
        for (name, text) in programs {
            let path = place.write(&format!("bin/{name}"), text);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
        place.with_env([("PATH", path)])
    }

    const SILENT: &str = "#!/bin/sh\nexec sleep 1000\n";

    #[test]
    fn a_message_of_a_topic_makes_a_run() {
        let broker = r#"#!/bin/sh
echo "$*" > asked
echo '{"tst":"2026-01-05T18:00:00.0Z+0000","topic":"sensors/3/door","qos":0,"retain":0,"payloadlen":6,"payload":"o\"pen"}'
exec sleep 1000
"#;
        let place = example(&[("mosquitto_sub", broker), ("udevadm", SILENT), ("logger", "#!/bin/sh\necho \"$*\" >> logged\n")]);
        let daemon = place.start();
        until("both jobs have run", || place.states("tell") == ["succeeded"]);
        assert_eq!(place.read("asked"), "-h localhost -p 1883 -q 1 -F %j -t sensors/+/door\n");
        assert_eq!(place.lines("logged"), ["--tag firelink a door was used"]);
        assert!(place.prints(&["ctl", "logs", "door"]).starts_with("a message has come: {"));
        let event = &place.history(&["--job", "door"])[0]["event"];
        assert_eq!((&event["topic"], &event["payload"]), (&json!("sensors/3/door"), &json!("o\"pen")));
        daemon.terminate();
    }

    #[test]
    fn an_event_of_udev_makes_a_run() {
        let monitor = r#"#!/bin/sh
echo "$*" > asked
cat <<'END'
monitor will print the received events for:
UDEV - the event which udev sends out after rule processing

UDEV  [10843.012345] add      /devices/a=b/block/sda/sda1 (block)
ACTION=add
DEVNAME=/dev/sda1
ID_FS_LABEL=a "b" \x20 c\d
ID_PATH=

UDEV  [10844.012345] remove   /devices/a=b/block/sda/sda1 (block)
ACTION=remove
DEVNAME=/dev/sda1

END
exec sleep 1000
"#;
        let place = example(&[("mosquitto_sub", SILENT), ("udevadm", monitor)]);
        let daemon = place.start();
        until("both events have run", || place.states("stick") == ["succeeded", "succeeded"]);
        assert_eq!(place.read("asked"), "monitor --udev --property --subsystem-match=block/partition\n");
        let runs = place.history(&["--job", "stick"]);
        let add = json!({"ACTION": "add", "DEVNAME": "/dev/sda1", "ID_FS_LABEL": "a \"b\" \\x20 c\\d", "ID_PATH": ""});
        assert_eq!(runs[1]["event"], add);
        assert_eq!(runs[0]["event"], json!({"ACTION": "remove", "DEVNAME": "/dev/sda1"}));
        assert!(place.prints(&["ctl", "logs", &runs[1]["id"].to_string()]).starts_with("a stick is there: {"));
        assert_eq!(place.prints(&["ctl", "logs", &runs[0]["id"].to_string()]), "");
        daemon.terminate();
    }

    #[test]
    fn a_broker_that_is_not_there_is_told_in_status_and_the_log() {
        let refused = "#!/bin/sh\necho 'Error: Connection refused' >&2\nexit 1\n";
        let place = example(&[("mosquitto_sub", refused), ("udevadm", SILENT)]);
        let mut daemon = place.start();
        daemon.wait_for_log("door: plugin: Error: Connection refused");
        daemon.wait_for_log("door: the plugin exited with code 1; next start in 1s");
        assert!(warnings(&daemon).contains("door: the plugin exited with code 1"), "{}", warnings(&daemon));
        daemon.terminate();
    }
}
