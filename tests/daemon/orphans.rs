//! Processes that try to outlive their run, or that a job leaves on purpose.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::groups::until;
use super::load::{children, descriptors, resident_kib};
use super::skip::skip;
use super::support::{Daemon, Place, TEST_TIMEOUT, is_alive, wait_gone};

/// Starts a process in a session of its own and without the environment of its run: nothing tells whose it is. It writes its
/// pid through the pipe.
const HIDE: &str = "setsid env -i /bin/sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$PWD/pids\" &";

/// A run that leaves such a process, one that lasts until it is cancelled, and one that is there to end.
fn place() -> Place {
    let place = Place::new(&format!(
        "jobs:\n  - name: hides\n    trigger: manual\n    command: |\n      {HIDE}\n      read -r line < go\n  \
         - {{ name: long, trigger: manual, concurrency: allow, command: 'echo $$ > pids; exec sleep 1000' }}\n  \
         - {{ name: quick, trigger: manual, command: 'true' }}\n"
    ));
    place.make_pipe("pids");
    place.make_pipe("go");
    place
}

/// Triggers a job and returns the number of its run, and what it writes first.
fn start(place: &Place, job: &str) -> (String, String) {
    let run = place.json(&["ctl", "trigger", job, "--format", "json"]);
    (run["id"].to_string(), place.hear("pids"))
}

/// Has `hides` leave a process behind, and returns the pid of that.
fn hide(place: &Place, daemon: &Daemon<'_>) -> String {
    let mut events = daemon.follow();
    let (_, hidden) = start(place, "hides");
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("hides")["state"], "succeeded");
    // After each end of a run orphans are looked for.
    (0..2).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    hidden
}

fn cancel(place: &Place, run: &str) {
    place.prints(&["ctl", "cancel", run]);
}

#[test]
fn an_orphan_that_two_runs_may_have_ends_with_the_later_one() {
    let place = place();
    let daemon = place.start();
    let (first, _) = start(&place, "long");
    let (second, _) = start(&place, "long");
    let hidden = hide(&place, &daemon);
    let (younger, lives) = start(&place, "long");
    let mut events = daemon.follow();
    cancel(&place, &first);
    events.ended("long");
    (0..2).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    assert!(is_alive(&hidden), "it may be of the second run");
    cancel(&place, &second);
    wait_gone(&hidden);
    assert!(is_alive(&lives), "a run that is younger than the orphan has nothing to do with it");
    until("it is reaped", || children(daemon.pid()).len() == 1);
    cancel(&place, &younger);
    daemon.terminate();
}

#[test]
fn an_orphan_that_ends_by_itself_is_reaped_whosever_it_is() {
    let place = place();
    place.write(
        "firelink.yaml",
        &place
            .read("firelink.yaml")
            .replace("exec sleep 1000' \"$PWD/pids\"", "read -r line < \"$1\"' \"$PWD/pids\" \"$PWD/end\""),
    );
    place.make_pipe("end");
    let daemon = place.start();
    start(&place, "long");
    let hidden = hide(&place, &daemon);
    assert!(is_alive(&hidden));
    std::fs::write(place.path("end"), "on\n").unwrap();
    until("it is reaped", || !Path::new("/proc").join(&hidden).exists());
    daemon.terminate();
}

#[test]
fn no_process_of_a_run_can_join_the_daemons_group() {
    let place = Place::new(
        r#"
jobs:
  - name: joins
    trigger: manual
    executor: { interpreter: [python3, -S], script: join.py }
"#,
    );
    place.write(
        "join.py",
        r#"
import os, time
read, write = os.pipe()
if os.fork() == 0:
    try:
        os.setpgid(0, os.getpgid(int(os.environ["FIRELINK_DAEMON_PID"])))
        said = "joined"
    except PermissionError:
        said = "refused"
    print(f"{os.getpid()} {said}", flush=True)
    os.write(write, b"x")
    time.sleep(1000)
os.read(read, 1)
"#,
    );
    // In a group of its own: one that leads out of this PID namespace is 0 here, which means one's own to setpgid(2).
    let mut command = place.command(&["run", "firelink.yaml", "--state-dir", &place.state_dir().display().to_string()]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let daemon = place.start_by(command);
    assert_eq!(daemon.trigger("joins")["state"], "succeeded");
    let log = place.prints(&["ctl", "logs", "joins"]);
    let (pid, said) = log.trim().split_once(' ').unwrap();
    assert_eq!(said, "refused");
    wait_gone(pid);
    until("it is reaped", || children(daemon.pid()).is_empty());
    daemon.terminate();
}

#[test]
fn a_stop_ends_every_orphan_before_the_daemon_ends() {
    let place = place();
    let daemon = place.start();
    start(&place, "long");
    let hidden = hide(&place, &daemon);
    assert!(is_alive(&hidden), "it may be of the longer run");
    place.prints(&["ctl", "stop", "--now"]);
    let (status, log) = daemon.wait();
    assert!(status.success());
    assert!(!is_alive(&hidden), "{log:?}");
}

#[test]
fn orphans_of_runs_that_ended_without_a_daemon_end_with_the_next_start() {
    let place = Place::new(
        "jobs:\n  - name: leaves\n    trigger: manual\n    command: |\n      setsid sh -c 'echo $$ > pids; exec sleep 1000' &\n      read -r line < go\n",
    );
    place.make_pipe("pids");
    place.make_pipe("go");
    let daemon = place.start();
    let (_, orphan) = start(&place, "leaves");
    daemon.crash();
    std::fs::write(place.path("go"), "on\n").unwrap();
    until("it is an orphan", || parent(&orphan) != "0" && !of_shell(&parent(&orphan)));
    assert!(is_alive(&orphan));
    let daemon = place.start();
    wait_gone(&orphan);
    daemon.terminate();
}

fn parent(pid: &str) -> String {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned()
}

/// True for the shell of a job's command.
fn of_shell(pid: &str) -> bool {
    let line = std::fs::read_to_string(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
    line.starts_with("/bin/sh\0-c\0")
}

/// A daemon whose process has a child from before it was firelink, and the pid of that.
fn start_behind_another<'p>(place: &'p Place) -> (Daemon<'p>, String) {
    let state = place.state_dir().display().to_string();
    let direct = place.command(&["run", "firelink.yaml", "--state-dir", &state]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "setsid sleep 1000 2> /dev/null & echo $! > before; exec \"$@\"", "sh"]);
    shell.arg(direct.get_program()).args(direct.get_args()).current_dir(place.path("."));
    for (name, value) in direct.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let daemon = place.start_by(shell);
    let before = place.read("before").trim().to_owned();
    (daemon, before)
}

fn kill(pid: &str) {
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_child_from_before_the_daemon_is_left_alone_and_an_orphan_is_not_taken_for_one_after_a_replacement() {
    let place = place();
    let (mut daemon, before) = start_behind_another(&place);
    let (long, _) = start(&place, "long");
    let hidden = hide(&place, &daemon);
    place.prints(&["ctl", "reload", "--exec"]);
    daemon.wait_for_log("goes on");
    daemon.wait_for_log("ask it from another terminal");
    (0..2).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    assert!(is_alive(&hidden) && is_alive(&before));
    cancel(&place, &long);
    wait_gone(&hidden);
    assert!(is_alive(&before));
    daemon.terminate();
    assert!(is_alive(&before), "nor does the end of the daemon end it");
    kill(&before);
}

/// What a job leaves: in its session, with its environment in another session, and without either.
const LEAVES: &str = "sleep 1000 > /dev/null 2>&1 &
      in_session=$!
      setsid sleep 1000 > /dev/null 2>&1 &
      marked=$!
      setsid env -i sleep 1000 > /dev/null 2>&1 &
      echo $in_session $marked $! > pids
      read -r line < go";

fn leaving(more: &str) -> Place {
    let place = Place::new(&format!(
        "jobs:\n  - name: starts\n    trigger: manual\n    kill_grace: 1h\n    {more}\n    command: |\n      {LEAVES}\n  \
         - {{ name: quick, trigger: manual, command: 'true' }}\n"
    ));
    place.make_pipe("pids");
    place.make_pipe("go");
    place
}

/// Triggers it, and waits until all that it leaves has become `sleep`.
fn start_leaving(place: &Place) -> (String, Vec<String>) {
    let (run, pids) = start(place, "starts");
    let pids: Vec<String> = pids.split(' ').map(str::to_owned).collect();
    assert_eq!(pids.len(), 3);
    let runs = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "sleep");
    until("all have become `sleep`", || pids.iter().all(runs));
    (run, pids)
}

#[test]
fn what_a_job_with_kill_mode_main_leaves_outlives_its_run_a_replacement_and_the_daemon() {
    let place = leaving("kill_mode: main");
    let mut daemon = place.start();
    let mut events = daemon.follow();
    let (_, pids) = start_leaving(&place);
    let all_live = || pids.iter().all(|pid| is_alive(pid));
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("starts")["state"], "succeeded");
    let quick = |daemon: &Daemon<'_>| (0..3).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    quick(&daemon);
    assert!(all_live());
    place.prints(&["ctl", "reload", "--exec"]);
    daemon.wait_for_log("asked to replace itself");
    daemon.wait_for_log("ask it from another terminal");
    quick(&daemon);
    assert!(all_live());
    assert_eq!(children(daemon.pid()).len(), 3, "they are its children");
    kill(&pids[0]);
    until("what ends is reaped", || children(daemon.pid()).len() == 2);
    let (_, more) = start_leaving(&place);
    daemon.crash();
    let daemon = place.start();
    quick(&daemon);
    assert!(pids[1..].iter().chain(&more).all(|pid| is_alive(pid)), "the next daemon leaves them alone, too");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    std::fs::write(place.path("go"), "on\n").unwrap();
    daemon.wait();
    assert!(pids[1..].iter().chain(&more).all(|pid| is_alive(pid)));
    pids[1..].iter().chain(&more).for_each(|pid| kill(pid));
}

#[test]
fn with_kill_mode_main_a_cancel_and_a_timeout_end_the_first_process_alone_and_else_all() {
    for (mode, timeout) in [("main", false), ("main", true), ("run", false), ("run", true)] {
        let place = leaving(&format!("kill_mode: {mode}{}", if timeout { "\n    timeout: 2s" } else { "" }));
        let daemon = place.start();
        let mut events = daemon.follow();
        let (run, pids) = start_leaving(&place);
        if !timeout {
            cancel(&place, &run);
        }
        assert_eq!(events.ended("starts")["state"], if timeout { "timed_out" } else { "cancelled" });
        (0..2).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
        if mode == "run" {
            pids.iter().for_each(|pid| wait_gone(pid));
            daemon.terminate();
            continue;
        }
        assert!(pids.iter().all(|pid| is_alive(pid)), "{mode}: {pids:?}");
        daemon.terminate();
        assert!(pids.iter().all(|pid| is_alive(pid)), "{mode}: {pids:?}");
        pids.iter().for_each(|pid| kill(pid));
    }
}

#[test]
fn a_process_of_another_user_is_not_taken_for_one_of_a_run() {
    if !nix::unistd::getuid().is_root() {
        return skip("only root can start a process of another user");
    }
    for user in [Some(65534), None] {
        let place = place();
        let daemon = place.start();
        let (run, pid) = start(&place, "long");
        until("it is recorded", || daemon.job("long")["state"] == "running");
        daemon.crash();
        kill(&pid);
        // As after a crash between the start of the process and the transaction with its pid.
        let database = std::fs::read_dir(place.state_dir()).unwrap().map(|entry| entry.unwrap().path());
        let database = database.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
        let database = rusqlite::Connection::open(database).unwrap();
        assert_eq!(database.execute("UPDATE runs SET pid = NULL, pid_start = NULL WHERE id = ?1", [&run]).unwrap(), 1);
        drop(database);
        let mut poses = Command::new("sleep");
        poses.arg("1000").process_group(0).stdin(Stdio::null());
        poses.env("FIRELINK_STATE_DIR", place.state_dir()).env("FIRELINK_RUN_ID", &run).env("FIRELINK_ATTEMPT", "1");
        if let Some(user) = user {
            poses.uid(user);
        }
        let mut poses = poses.spawn().unwrap();
        until("it has its environment", || {
            std::fs::read(format!("/proc/{}/environ", poses.id())).is_ok_and(|environ| !environ.is_empty())
        });
        let daemon = place.start();
        let state = &place.history(&["--job", "long"])[0]["state"];
        assert_eq!(state, if user.is_some() { "lost" } else { "running" });
        poses.kill().unwrap();
        poses.wait().unwrap();
        drop(daemon);
    }
}

/// What a child does, by the number of its run. Every process has the path of this script in its command line.
const HOSTILE: &str = r#"
import ctypes, os, signal, sys, time
kinds = ["orphan", "hidden", "groups", "own-group", "traces", "traced", "closes", "fills", "stops", "deaf", "many", "good"]
kind = kinds[int(os.environ["FIRELINK_RUN_ID"]) % len(kinds)]
libc = ctypes.CDLL(None)

def deaf():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

def stay():
    deaf()
    while True:
        time.sleep(1000)

def orphan(act):
    "act in the child of a child of this process, which is in a session of its own; its parent is gone."
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            act()
            stay()
        os._exit(0)
    os.waitpid(child, 0)

def hide():
    os.execve(sys.executable, [sys.executable, "-S", sys.argv[0], "stay"], {})

def join_any_group():
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                os.setpgid(0, os.getpgid(int(name)))
            except OSError:
                pass

def trace_siblings():
    # PTRACE_SEIZE: traced, and not stopped.
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline") as file:
                    if sys.argv[0] in file.read():
                        libc.ptrace(0x4206, int(name), 0, 0)
            except OSError:
                pass

def trace(pid, ready):
    libc.ptrace(0x4206, pid, 0, 0)
    os.write(ready, b"x")

def fill():
    deaf()
    while True:
        os.write(1, b"x" * 65536)

def own_group():
    os.setpgid(0, 0)
    stay()

def in_child(act):
    if os.fork() == 0:
        act()
        stay()

if sys.argv[1:] == ["stay"]: stay()
elif kind == "orphan": orphan(lambda: None)
elif kind == "hidden": orphan(hide)
elif kind == "groups": orphan(join_any_group); in_child(join_any_group)
elif kind == "own-group": in_child(own_group)
elif kind == "traces": orphan(trace_siblings)
elif kind == "traced":
    read, write = os.pipe()
    main = os.getpid()
    libc.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)
    orphan(lambda: trace(main, write))
    os.read(read, 1)
elif kind == "closes": os.close(1); os.close(2)
elif kind == "fills": in_child(fill); time.sleep(0.05)
elif kind == "stops":
    main = os.getpid()
    in_child(lambda: os.kill(main, signal.SIGSTOP))
    time.sleep(1000)
elif kind == "deaf": stay()
elif kind == "many":
    for index in range(5):
        orphan(hide if index % 2 else own_group)
elif kind == "good": print("good")
"#;

/// The kinds that end by their timeout.
fn times_out(run: u64) -> bool {
    matches!(run % 12, 8 | 9)
}

/// `FIRELINK_STRESS_CHILDREN=n` has that many runs.
#[test]
fn nothing_is_left_of_runs_whose_processes_do_all_they_can_to_stay() {
    let runs: u64 = std::env::var("FIRELINK_STRESS_CHILDREN").map_or(180, |text| text.parse().expect("a number"));
    let place = Place::new(
        r#"
max_parallel: 12
defaults: { executor: { interpreter: [python3, -S], script: hostile.py }, concurrency: allow, output: { max_size: 64KiB, keep_runs: 1000000 } }
jobs:
  # One that is traced can be stopped by any signal until its tracer is gone.
  - { name: child, trigger: manual, timeout: 20s, kill_grace: 100ms }
  - { name: endless, trigger: manual, timeout: 3s, kill_grace: 100ms }
"#,
    );
    let script = place.write("hostile.py", HOSTILE);
    place.write("firelink.yaml", &place.read("firelink.yaml").replace("hostile.py", &script.display().to_string()));
    let daemon = place.start();
    let mut events = daemon.follow();
    let mut stream = BufReader::new(UnixStream::connect(place.socket()).unwrap());
    let (mut before, mut triggered) = (None, 0);
    while triggered < runs {
        let batch = (runs - triggered).min(36);
        for run in triggered + 1..=triggered + batch {
            let job = if times_out(run) { "endless" } else { "child" };
            writeln!(stream.get_mut(), "{{\"v\":1,\"cmd\":\"trigger\",\"job\":\"{job}\"}}").unwrap();
            stream.read_line(&mut String::new()).unwrap();
        }
        for _ in 0..batch {
            events.wait("the end of a run", |event| event["what"] == "ended");
        }
        events.seen.clear();
        triggered += batch;
        // The first ones warm up what is allocated once.
        before.get_or_insert_with(|| (resident_kib(daemon.pid()), descriptors(daemon.pid())));
    }
    let (memory, open) = before.unwrap();
    let left = || {
        let mut text = String::new();
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if line.contains(&*script.display().to_string()) {
                let _ = write!(text, "{} ", entry.file_name().display());
            }
        }
        text
    };
    until("no process, no zombie and no descriptor is left", || {
        left().is_empty() && children(daemon.pid()).is_empty() && descriptors(daemon.pid()) <= open
    });
    let now = resident_kib(daemon.pid());
    assert!(now <= memory + 1_024, "memory stays flat: {memory} KiB, then {now}");
    daemon.terminate();
    let history = place.history(&[]);
    assert_eq!(history.len() as u64, runs);
    for run in history {
        let number = run["id"].as_u64().unwrap();
        let is_traced = number % 12 == 5 && run["state"] == "timed_out";
        let expected = if times_out(number) || is_traced { "timed_out" } else { "succeeded" };
        assert_eq!(run["state"], expected, "{run}");
    }
}

/// A bound on what the loop does at once: it answers while it looks at a great number of orphans that it can't kill yet.
#[test]
fn orphans_that_wait_for_a_longer_run_do_not_slow_the_daemon_down() {
    let place = place();
    place.write(
        "firelink.yaml",
        &(place.read("firelink.yaml")
            + "  - { name: many, trigger: manual, command: 'i=0; while [ $i -lt 300 ]; do setsid env -i sleep 1000 & i=$((i+1)); done; exit 0' }\n"),
    );
    let daemon = place.start();
    let (long, _) = start(&place, "long");
    assert_eq!(daemon.trigger("many")["state"], "succeeded");
    (0..5).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    cancel(&place, &long);
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while !children(daemon.pid()).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{} are left", children(daemon.pid()).len());
        daemon.status();
    }
    daemon.terminate();
}
