//! Output past `max_size`, by the people who follow it: across restarts, crashes and full disks.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::support::{MARKS, Place, TEST_TIMEOUT, marks, text};

/// Lets the job write its next mark: the write ends when the job has opened the other end.
fn release(place: &Place) {
    let gate = place.path("gate");
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let written = std::fs::OpenOptions::new().write(true).open(gate).and_then(|mut pipe| pipe.write_all(b"go\n"));
        send.send(written)
    });
    receive.recv_timeout(TEST_TIMEOUT).expect("the job reads").expect("a pipe");
}

/// `firelink ctl logs -f`, and what it prints.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    printed: String,
}

impl Tail {
    fn of(place: &Place, run: &str) -> Tail {
        let mut child = place.command(&["ctl", "logs", "-f", run]).stdout(Stdio::piped()).spawn().expect("firelink starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|count| count > 0) && send.send(std::mem::take(&mut line)).is_ok() {}
        });
        Tail { child, lines, printed: String::new() }
    }

    fn wait_for(&mut self, line: &str) {
        loop {
            let printed = self.lines.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|why| panic!("`{line}` is not printed: {why}"));
            self.printed.push_str(&printed);
            if printed.trim_end() == line {
                return;
            }
        }
    }

    /// All that it printed, once it has ended.
    fn ends(mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(TEST_TIMEOUT) {
            self.printed.push_str(&line);
        }
        assert!(self.child.wait().expect("a child").success());
        std::mem::take(&mut self.printed)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Holds what was printed against the output: it is the output, but for as many bytes as each line says, where the line is.
/// Returns the sum of those.
#[track_caller]
fn holes(printed: &str, output: &str) -> usize {
    let (mut at, mut cut) = (0, 0);
    let mut parts = printed.split("\n[firelink: ");
    let first = parts.next().unwrap_or_default();
    assert!(output.starts_with(first), "another beginning");
    at += first.len();
    for part in parts {
        let Some((bytes, rest)) = part.split_once(" bytes cut here]\n") else {
            // The line of a restart.
            let whole = format!("\n[firelink: {part}");
            assert!(output[at..].starts_with(&whole), "other output at {at}: {part:.80}");
            at += whole.len();
            continue;
        };
        let bytes: usize = bytes.parse().expect("a number of bytes");
        at += bytes;
        cut += bytes;
        assert!(output.get(at..).is_some_and(|output| output.starts_with(rest)), "other output after the cut, at {at}");
        at += rest.len();
    }
    assert_eq!(at, output.len(), "the end is missing");
    cut
}

fn is_removed(place: &Place, name: &str) {
    let path = place.state_dir().join(name);
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while path.exists() {
        assert!(std::time::Instant::now() < deadline, "{} stays", path.display());
        std::thread::yield_now();
    }
}

fn start(place: &Place) -> (String, PathBuf) {
    let run = place.json(&["ctl", "trigger", "marks", "--format", "json"])["id"].to_string();
    let log = place.state_dir().join(format!("logs/marks/{run}.log"));
    (run, log)
}

#[test]
fn a_log_that_is_followed_goes_on_past_its_limit_with_nothing_missing() {
    let place = Place::new(MARKS);
    place.make_pipe("gate");
    let daemon = place.start();
    let (run, log) = start(&place);
    let mut tail = Tail::of(&place, &run);
    for n in 1..=30 {
        release(&place);
        tail.wait_for(&format!("mark {n}"));
    }
    let output = marks(1..=30);
    assert_eq!(holes(&tail.ends(), &output), 0, "30 marks of 30, and all between them");
    // Of the whole, head and tail are kept.
    is_removed(&place, &format!("segments/{run}"));
    let file = std::fs::read_to_string(log).unwrap();
    assert!(file.len() <= 64 << 10, "{}", file.len());
    let cut = holes(&file, &output);
    assert!(cut > 0);
    assert_eq!(place.prints(&["ctl", "logs", &run]), file);
    daemon.terminate();
}

#[test]
fn a_look_at_a_log_past_its_limit_says_how_much_of_the_middle_is_gone() {
    let place = Place::new(MARKS);
    place.make_pipe("gate");
    let daemon = place.start();
    let (run, _) = start(&place);
    let mut tail = Tail::of(&place, &run);
    for n in 1..=20 {
        release(&place);
        tail.wait_for(&format!("mark {n}"));
    }
    let shown = place.prints(&["ctl", "logs", "marks"]);
    let cut = holes(&shown, &marks(1..=20));
    assert!(cut > 0 && shown.len() > 48 << 10, "{cut} bytes cut, {} shown", shown.len());
    let history = place.json(&["history", "--state-dir", "state", "--run", &run, "--tail", "1", "--format", "json"]);
    assert_eq!(history["output"], serde_json::json!(["mark 20"]));
    let size: u64 = std::fs::read_dir(place.state_dir().join("segments").join(&run))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 48 << 10, "{size} bytes behind the head");
    place.prints(&["ctl", "cancel", &run]);
    tail.ends();
    daemon.terminate();
}

#[test]
fn a_daemon_that_is_killed_past_the_limit_leaves_a_log_that_the_next_one_goes_on_with() {
    let place = Place::new(MARKS);
    place.make_pipe("gate");
    let daemon = place.start();
    let (run, log) = start(&place);
    let mut first = Tail::of(&place, &run);
    for n in 1..=17 {
        release(&place);
        first.wait_for(&format!("mark {n}"));
    }
    daemon.crash();
    assert_eq!(holes(&first.ends(), &marks(1..=17)), 0);
    let daemon = place.start();
    let output = |to: u32| marks(1..=17) + "[firelink: the daemon was restarted]\n" + &marks(18..=to);
    let mut second = Tail::of(&place, &run);
    second.wait_for("[firelink: the daemon was restarted]");
    for n in 18..=30 {
        release(&place);
        second.wait_for(&format!("mark {n}"));
    }
    let printed = second.ends();
    assert!(holes(&printed, &output(30)) > 0, "what was gone when it began, and nothing else");
    assert!(printed.ends_with(&output(30)[marks(1..=17).len()..]));
    is_removed(&place, &format!("segments/{run}"));
    let file = std::fs::read_to_string(log).unwrap();
    assert!(holes(&file, &output(30)) > 0 && file.len() <= 64 << 10);
    daemon.terminate();
}

#[test]
fn a_run_that_is_lost_past_the_limit_has_its_log_joined_by_the_next_daemon() {
    let place = Place::new(MARKS);
    place.make_pipe("gate");
    let daemon = place.start();
    let (run, log) = start(&place);
    let mut tail = Tail::of(&place, &run);
    for n in 1..=20 {
        release(&place);
        tail.wait_for(&format!("mark {n}"));
    }
    let active = place.json(&["ctl", "status", "--format", "json"]);
    assert_eq!(active["active"][0]["id"].to_string(), run);
    daemon.crash();
    tail.ends();
    // As after a power cut: nothing of it is left, and the machine has booted again.
    kill_job(&place, "marks");
    boot(&place);
    // Without a daemon, too, all that is kept can be read.
    let history = place.json(&["history", "--state-dir", "state", "--run", &run, "--tail", "1", "--format", "json"]);
    assert_eq!(history["output"], serde_json::json!(["mark 20"]));
    // Of a run that nobody knows any more.
    std::fs::create_dir_all(place.state_dir().join("segments/4711")).unwrap();
    place.write("state/segments/4711/3", "x");
    let mut daemon = place.start();
    daemon.wait_for_log_ever("lost");
    let file = std::fs::read_to_string(&log).unwrap();
    assert!(holes(&file, &marks(1..=20)) > 0 && file.len() <= 64 << 10);
    assert_eq!(place.prints(&["ctl", "logs", &run]), file);
    assert_eq!(std::fs::read_dir(place.state_dir().join("segments")).unwrap().count(), 0);
    daemon.terminate();
}

/// The state is that of an earlier boot, of whose processes nothing is left.
fn boot(place: &Place) {
    let state = rusqlite::Connection::open(place.state_dir().join("state.db")).unwrap();
    assert_eq!(state.execute("UPDATE meta SET value = 'an earlier boot' WHERE key = 'boot'", []).unwrap(), 1);
}

#[test]
fn a_lost_run_keeps_its_output_when_its_next_attempt_or_its_hook_writes() {
    let place = Place::new(
        r#"
jobs:
  - name: retried
    trigger: manual
    command: 'echo "attempt $FIRELINK_ATTEMPT"; until read word < gate; do :; done'
    retry: { attempts: 2, delay: 10ms }
  - name: hooked
    trigger: manual
    command: 'echo output; until read word < gate; do :; done'
    on_failure: 'echo "$FIRELINK_STATE"; echo x > heard'
"#,
    );
    place.make_pipe("gate");
    place.make_pipe("heard");
    let daemon = place.start();
    let log = |job: &str, run: &serde_json::Value| place.state_dir().join(format!("logs/{job}/{run}.log"));
    let started = ["retried", "hooked"].map(|job| {
        let run = place.json(&["ctl", "trigger", job, "--format", "json"])["id"].clone();
        let deadline = std::time::Instant::now() + TEST_TIMEOUT;
        while !std::fs::read(log(job, &run)).is_ok_and(|text| text.ends_with(b"\n")) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        log(job, &run)
    });
    daemon.crash();
    kill_job(&place, "retried");
    kill_job(&place, "hooked");
    boot(&place);
    let daemon = place.start();
    place.hear("heard");
    let mut events = daemon.follow();
    release(&place);
    events.ended("retried");
    daemon.terminate();
    let [retried, hooked] = started.map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(retried, "attempt 1\n[firelink: attempt 2]\nattempt 2\n");
    assert_eq!(hooked, "output\n[firelink: on_failure]\nlost\n");
}

#[test]
fn a_log_past_its_limit_goes_on_with_the_next_attempt_after_a_restart_and_keeps_its_limit() {
    let place = Place::new(
        r#"
jobs:
  - name: flood
    trigger: manual
    command: 'seq ${FIRELINK_ATTEMPT}00000; until read word < gate; do :; done; exit $((2 - FIRELINK_ATTEMPT))'
    retry: { attempts: 2, delay: 5s }
    output: { max_size: 64KiB }
"#,
    );
    place.make_pipe("gate");
    let daemon = place.start();
    let mut events = daemon.follow();
    let run = place.json(&["ctl", "trigger", "flood", "--format", "json"])["id"].to_string();
    release(&place);
    events.wait("the retry", |event| event["what"] == "will_retry");
    daemon.crash();
    assert!(place.state_dir().join("segments").join(&run).exists(), "the run is not over");
    let daemon = place.start();
    let mut events = daemon.follow();
    release(&place);
    assert_eq!(events.ended("flood")["state"], "succeeded");
    daemon.terminate();
    let of = |n: u32| (1..=n * 100_000).map(|n| format!("{n}\n")).collect::<String>();
    let file = std::fs::read_to_string(place.state_dir().join(format!("logs/flood/{run}.log"))).unwrap();
    assert!(holes(&file, &(of(1) + "[firelink: attempt 2]\n" + &of(2))) > 0);
    assert!(file.len() <= 64 << 10, "{}", file.len());
    assert!(!place.state_dir().join("segments").join(&run).exists());
}

/// Kills the job's shell, which waits for its next word.
fn kill_job(place: &Place, job: &str) {
    let gate = place.path("gate");
    let mark = format!("FIRELINK_JOB={job}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_job = environment.split(|byte| *byte == 0).any(|var| var == mark.as_bytes());
        let is_here = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| gate.parent() == Some(&*cwd));
        if is_job && is_here {
            let number = nix::unistd::Pid::from_raw(pid.parse().unwrap());
            nix::sys::signal::kill(number, nix::sys::signal::Signal::SIGKILL).unwrap();
            super::support::wait_gone(&pid);
        }
    }
}

#[test]
fn a_disk_that_is_full_when_a_log_is_joined_costs_none_of_what_is_kept() {
    // A file can't be larger than 900 blocks of 1024 bytes, which to the daemon is a full disk. The head of a log of 1 MiB is
    // smaller, the whole is not.
    let place =
        Place::new("jobs:\n  - name: flood\n    trigger: manual\n    command: \"seq 300000\"\n    output: { max_size: 1MiB }\n");
    let mut command = std::process::Command::new("bash");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 900; exec \"$0\" run firelink.yaml --state-dir state",
        env!("CARGO_BIN_EXE_firelink"),
    ]);
    let firelink = place.command(&[]);
    command.envs(firelink.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(place.path("")).stdin(Stdio::null());
    let mut daemon = place.start_by(command);
    let run = daemon.trigger("flood");
    assert_eq!(run["state"], "succeeded");
    let id = run["id"].to_string();
    daemon.wait_for_log("its output could not be kept: ");
    let output: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let shown = place.prints(&["ctl", "logs", &id]);
    assert!(holes(&shown, &output) > 0 && shown.len() > 900 << 10, "{}", shown.len());
    let head = std::fs::metadata(run["log"].as_str().unwrap()).unwrap().len();
    assert!(head < 900 << 10, "nothing half-written stays: {head}");
    daemon.terminate();
    let shown_without = place.json(&["history", "--state-dir", "state", "--run", &id, "--tail", "1", "--format", "json"]);
    assert_eq!(shown_without["output"], serde_json::json!(["300000"]));
    let daemon = place.start();
    let file = std::fs::read_to_string(run["log"].as_str().unwrap()).unwrap();
    assert!(holes(&file, &output) > 0);
    assert!(file.len() > 900 << 10 && file.len() <= 1 << 20, "{}", file.len());
    assert!(!place.state_dir().join("segments").join(id).exists());
    daemon.terminate();
}

#[test]
fn a_pruned_run_takes_its_segments_with_it() {
    let place = Place::new("jobs:\n  - { name: a, trigger: manual, command: \"echo x\", output: { keep_runs: 1 } }\n");
    let daemon = place.start();
    let first = daemon.trigger("a");
    // As after a disk that was full.
    let segments = place.state_dir().join("segments").join(first["id"].to_string());
    std::fs::create_dir_all(&segments).unwrap();
    std::fs::write(segments.join("1"), "y").unwrap();
    for _ in 0..12 {
        daemon.trigger("a");
    }
    is_removed(&place, &format!("segments/{}", first["id"]));
    is_removed(&place, &format!("logs/a/{}.log", first["id"]));
    daemon.terminate();
}

#[test]
fn a_follower_that_reads_slowly_prints_how_much_it_has_missed() {
    let place = Place::new(
        "jobs:\n  - name: flood\n    trigger: manual\n    command: \"seq 400000; until read word < gate; do :; done; echo end\"\n    output: { max_size: 64KiB }\n",
    );
    place.make_pipe("gate");
    let daemon = place.start();
    let run = place.json(&["ctl", "trigger", "flood", "--format", "json"])["id"].to_string();
    // A pipe holds 64 KiB: the follower is blocked in its write while the job writes 2.7 MB.
    let mut child = place.command(&["ctl", "logs", "-f", &run]).stdout(Stdio::piped()).spawn().unwrap();
    release(&place);
    let mut printed = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    let output: String = (1..=400_000).map(|n| format!("{n}\n")).chain(["end\n".to_owned()]).collect();
    assert!(holes(&printed, &output) > 0, "{}", text(&printed.as_bytes()[..200]));
    daemon.terminate();
}
