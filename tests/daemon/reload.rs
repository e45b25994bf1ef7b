//! A new configuration, or a new daemon, while jobs run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Place, TEST_TIMEOUT, is_alive, text};

/// Jobs that tell a test how far they are and wait for it: `ready` says the pid, `go` lets it end with code 3.
const WAITER: &str = r#"
  - name: waiter
    trigger: manual
    command: "echo before; echo $$ > ready; read x < go; echo after; exit 3"
"#;

fn go(place: &Place) {
    let path = place.path("go");
    std::thread::spawn(move || std::fs::write(path, "go\n"));
}

#[test]
fn a_reload_adds_changes_and_removes_jobs_and_what_runs_of_them_goes_on() {
    let place = Place::new(&format!(
        "jobs:{WAITER}  - {{ name: grid, trigger: interval, every: 1h }}\n  - {{ name: after, depends_on: [waiter] }}\n"
    ));
    place.make_pipe("ready");
    place.make_pipe("go");
    let daemon = place.start();
    let grid = daemon.job("grid")["next_at"].clone();
    place.prints(&["ctl", "trigger", "waiter"]);
    place.hear("ready");
    place.prints(&["ctl", "trigger", "waiter"]);
    place.write(
        "firelink.yaml",
        "jobs:\n  - { name: grid, trigger: interval, every: 1h }\n  - { name: new, trigger: manual, command: echo hello }\n",
    );
    let dry = place.prints(&["ctl", "reload", "--dry-run"]);
    assert_eq!(dry, "+ new\n- waiter\n- after\nwould be reloaded: 1 added, 0 changed, 2 removed, 1 unchanged\n");
    assert_eq!(daemon.job("waiter")["state"], "running", "nothing was changed");
    let mut follower = daemon.follow();
    assert_eq!(place.json(&["ctl", "reload", "--format", "json"])["removed"], serde_json::json!(["waiter", "after"]));
    assert_eq!(daemon.job("grid")["next_at"], grid, "the interval's grid goes on");
    assert_eq!(daemon.trigger("new")["state"], "succeeded");
    let refused = place.firelink(&["ctl", "trigger", "waiter"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("removed from the configuration"), "{}", text(&refused.stderr));
    assert_eq!(daemon.job("waiter")["state"], "running");
    go(&place);
    follower.wait("the end of run 1", |event| event["what"] == "ended" && event["run"] == 1);
    assert_eq!(place.history(&["--job", "waiter"])[1]["exit_code"], 3);
    // The second one waited for its turn.
    assert_eq!(place.states("waiter"), ["failed", "skipped"]);
    let reasons: Vec<Value> = place.history(&["--job", "waiter"]).iter().map(|run| run["reason"].clone()).collect();
    assert_eq!(reasons[0], "its job was removed from the configuration");
    assert_eq!(place.prints(&["ctl", "logs", "1"]), "before\nafter\n");
    // Once nothing of it runs, the next reload forgets it.
    place.prints(&["ctl", "reload"]);
    assert_eq!(place.firelink(&["ctl", "status", "waiter"]).status.code(), Some(1));
}

#[test]
fn of_a_job_that_was_removed_old_runs_and_logs_go_as_defaults_say_and_in_the_end_all_of_it() {
    let place = Place::new(
        "jobs:\n  - { name: old, trigger: manual, command: echo x }\n  - { name: stays, trigger: manual, command: echo x }\n",
    );
    let daemon = place.start();
    for _ in 0..5 {
        daemon.trigger("old");
    }
    daemon.trigger("stays");
    let with = |defaults: &str| {
        let job = "  - { name: stays, trigger: manual, command: echo x, output: { keep_for: 1d } }\n";
        place.write("firelink.yaml", &format!("defaults: {{ output: {{ {defaults} }} }}\njobs:\n{job}"));
        place.prints(&["ctl", "reload"]);
    };
    let logs = || std::fs::read_dir(place.state_dir().join("logs/old")).map_or(0, Iterator::count);
    let wait = |runs: usize| {
        let deadline = std::time::Instant::now() + TEST_TIMEOUT;
        while place.history(&["--job", "old"]).len() != runs {
            assert!(std::time::Instant::now() < deadline, "{:?}", place.history(&[]));
        }
    };
    with("keep_runs: 2");
    wait(2);
    let kept: Vec<Value> = place.history(&["--job", "old"]).iter().map(|run| run["id"].clone()).collect();
    assert_eq!(kept, [5, 4]);
    // Its logs go right after its rows.
    daemon.status();
    assert_eq!(logs(), 2);
    with("keep_for: 1ms");
    let names = || {
        let conn = rusqlite::Connection::open(place.state_dir().join("state.db")).unwrap();
        let mut names = conn.prepare("SELECT name FROM jobs ORDER BY id").unwrap();
        names.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while names() != ["stays"] {
        assert!(std::time::Instant::now() < deadline, "{:?}", names());
    }
    daemon.status();
    assert!(!place.state_dir().join("logs/old").exists());
    assert_eq!(place.states("stays"), ["succeeded"]);
    daemon.terminate();
}

#[test]
fn a_wrong_file_is_refused_whole_with_its_mistakes() {
    let place = Place::new("jobs:\n  - { name: a, trigger: manual, command: echo one }\n");
    let mut daemon = place.start();
    place
        .write("firelink.yaml", "jobs:\n  - { name: a, trigger: manual, command: echo two }\n  - { name: b, depends_on: [c] }\n");
    let refused = place.firelink(&["ctl", "reload"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("firelink.yaml:3:") && said.contains('^') && said.contains("nothing was changed"), "{said}");
    daemon.trigger("a");
    assert_eq!(place.prints(&["ctl", "logs", "a"]), "one\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log("nothing was changed");
    place.write("firelink.yaml", "jobs:\n  - { name: a, trigger: manual, command: echo two }\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log("reloaded: 0 added, 1 changed, 0 removed, 0 unchanged");
    daemon.trigger("a");
    assert_eq!(place.prints(&["ctl", "logs", "a"]), "two\n");
}

#[test]
fn credits_pauses_and_waiting_runs_outlive_a_reload_that_moves_their_jobs() {
    let jobs = [
        "  - { name: a, trigger: manual }\n",
        "  - { name: b, trigger: manual }\n",
        "  - { name: both, depends_on: [a, b], command: echo x }\n",
        "  - { name: held, trigger: manual }\n",
    ];
    let place = Place::new(&format!("jobs:\n{}", jobs.concat()));
    let daemon = place.start();
    daemon.trigger("a");
    place.prints(&["ctl", "pause", "held"]);
    place.prints(&["ctl", "trigger", "held"]);
    place.write(
        "firelink.yaml",
        &format!(
            "jobs:\n  - {{ name: first, trigger: manual }}\n{}{}{}{}",
            jobs[3],
            jobs[2].replace("[a, b]", "[b, a]"),
            jobs[1],
            jobs[0]
        ),
    );
    assert_eq!(place.json(&["ctl", "reload", "--format", "json"])["changed"], serde_json::json!(["both"]));
    let held = daemon.job("held");
    assert_eq!((&held["paused"], &held["state"]), (&Value::Bool(true), &Value::from("pending")));
    assert!(daemon.job("both")["waiting_for"].to_string().contains('b'), "{}", daemon.job("both"));
    let mut follower = daemon.follow();
    daemon.trigger("b");
    assert_eq!(follower.ended("both")["state"], "succeeded");
    place.prints(&["ctl", "resume", "held"]);
    follower.ended("held");
    drop(follower);
    // The same holds for what the next daemon finds.
    daemon.terminate();
    let daemon = place.start();
    assert_eq!(daemon.job("both")["last_run"]["state"], "succeeded");
    assert_eq!(daemon.job("held")["paused"], false);
}

#[test]
fn what_runs_when_a_daemon_crashes_goes_on_and_the_next_one_reads_its_output_on() {
    let place = Place::new(&format!("jobs:{WAITER}"));
    place.make_pipe("ready");
    place.make_pipe("go");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "waiter"]);
    let pid = place.hear("ready");
    daemon.crash();
    let daemon = place.start();
    let mut follower = daemon.follow();
    assert!(is_alive(&pid));
    go(&place);
    follower.ended("waiter");
    let ended = &place.history(&["--job", "waiter"])[0];
    // On an old kernel the reaper of orphans may be faster than the daemon.
    let known = (&ended["state"], &ended["exit_code"]);
    assert!(known == (&"failed".into(), &3.into()) || known == (&"lost".into(), &Value::Null), "{ended}");
    let log = place.prints(&["ctl", "logs", "waiter"]);
    assert!(log.starts_with("before\n") && log.ends_with("after\n"), "{log}");
}

#[test]
fn a_daemon_that_leaves_lets_its_runs_go_on_even_if_they_write_more_than_a_pipe_holds() {
    let chatty = "
  - name: chatty
    trigger: manual
    command: \"echo $$ > ready; read x < go; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo end\"
";
    let place = Place::new(&format!("on_stop: leave\njobs:{chatty}"));
    place.make_pipe("ready");
    place.make_pipe("go");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "chatty"]);
    let pid = place.hear("ready");
    let log = daemon.terminate();
    assert!(log.iter().any(|line| line.contains("1 running, which go on")), "{log:?}");
    assert!(is_alive(&pid));
    go(&place);
    let daemon = place.start();
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while daemon.job("chatty")["state"] != "idle" {
        assert!(std::time::Instant::now() < deadline, "{}", daemon.job("chatty"));
    }
    let log = place.prints(&["ctl", "logs", "chatty"]);
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!((lines.len(), lines[0], lines[20_000]), (20_001, "line 0", "end"));
}

#[test]
fn a_daemon_that_replaces_itself_keeps_its_pid_and_learns_how_its_runs_end() {
    let place = Place::new(&format!("jobs:{WAITER}"));
    place.make_pipe("ready");
    place.make_pipe("go");
    let mut daemon = place.start();
    place.prints(&["ctl", "trigger", "waiter"]);
    place.hear("ready");
    place.write("firelink.yaml", &format!("jobs:{WAITER}  - {{ name: new, trigger: manual }}\n"));
    assert_eq!(place.json(&["ctl", "reload", "--exec", "--format", "json"])["added"], serde_json::json!(["new"]));
    daemon.wait_for_log("ask it from another terminal");
    assert_eq!(daemon.status()["pid"], daemon.pid());
    assert_eq!(daemon.trigger("new")["state"], "succeeded");
    let mut follower = daemon.follow();
    go(&place);
    follower.ended("waiter");
    let ended = &place.history(&["--job", "waiter"])[0];
    assert_eq!((&ended["state"], &ended["exit_code"]), (&Value::from("failed"), &Value::from(3)), "{ended}");
    let log = place.prints(&["ctl", "logs", "waiter"]);
    assert!(log.starts_with("before\n") && log.ends_with("after\n"), "{log}");
}

/// A connection on which requests follow each other.
struct Asker(BufReader<UnixStream>);

impl Asker {
    fn ask(&mut self, request: &str) -> Value {
        writeln!(self.0.get_mut(), "{request}").unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

/// `FIRELINK_STRESS_RELOADS=n` reloads that often.
#[test]
fn reloads_under_load_lose_and_double_no_run() {
    let rounds: usize = std::env::var("FIRELINK_STRESS_RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let seed: u64 = std::env::var("FIRELINK_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(rounds as u64);
    eprintln!("FIRELINK_SEED={seed}");
    let mut random = seed;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    // Each job is there or not, under one of three definitions; those that carry the load always are.
    let mut config = |everything: bool| {
        let mut text = String::from("defaults: { output: { keep_runs: 1000000 } }\njobs:\n");
        let mut jobs = vec![
            "  - { name: fixed, trigger: interval, every: 20ms, concurrency: queue, command: 'echo $FIRELINK_RUN_ID >> ran' }\n"
                .to_owned(),
            "  - { name: asked, trigger: manual, command: 'echo $FIRELINK_RUN_ID >> ran' }\n".to_owned(),
            "  - { name: behind, depends_on: [asked], command: 'echo $FIRELINK_RUN_ID >> ran' }\n".to_owned(),
        ];
        for index in 0..8 {
            let every = 10 * (1 + below(5));
            if everything || below(3) > 0 {
                jobs.push(format!(
                    "  - {{ name: extra{index}, trigger: interval, every: {every}ms, command: 'echo $FIRELINK_RUN_ID >> ran' }}\n"
                ));
            }
        }
        for at in (1..jobs.len()).rev() {
            jobs.swap(at, usize::try_from(below(at as u64 + 1)).unwrap());
        }
        jobs.iter().for_each(|job| text.push_str(job));
        text
    };
    let place = Place::new(&config(true));
    let daemon = place.start();
    let mut asker = Asker(BufReader::new(UnixStream::connect(place.socket()).unwrap()));
    let mut asked = Vec::new();
    for round in 0..rounds {
        place.write("firelink.yaml", &config(false));
        let answer = asker.ask(r#"{"v":1,"cmd":"reload"}"#);
        assert_eq!(answer["ok"], true, "round {round}: {answer}");
        let answer = asker.ask(r#"{"v":1,"cmd":"trigger","job":"asked"}"#);
        asked.push(answer["run"]["id"].as_u64().unwrap_or_else(|| panic!("round {round}: {answer}")));
    }
    assert_eq!(asker.ask(r#"{"v":1,"cmd":"trigger","job":"asked","wait":true}"#)["run"]["state"], "succeeded");
    daemon.terminate();
    let mut ran: BTreeMap<u64, usize> = BTreeMap::new();
    place.lines("ran").iter().for_each(|line| *ran.entry(line.parse().unwrap()).or_default() += 1);
    let history = place.history(&[]);
    for run in &history {
        let (id, state) = (run["id"].as_u64(), run["state"].as_str().unwrap());
        let Some(id) = id else { continue };
        let times = ran.remove(&id).unwrap_or(0);
        match state {
            "succeeded" => assert_eq!(times, 1, "{run}"),
            "skipped" | "pending" => assert_eq!(times, 0, "{run}"),
            other => panic!("{other}: {run}"),
        }
        assert!(state == "succeeded" || run["job"] != "asked", "{run}");
    }
    assert_eq!(ran, BTreeMap::new(), "runs that the history does not know");
    let of = |job: &str| history.iter().filter(|run| run["job"] == job && run["state"] == "succeeded").count();
    assert_eq!(of("asked"), asked.len() + 1);
    assert!(of("behind") > 0 && of("fixed") > 0);
}
