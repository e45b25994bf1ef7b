//! The end of the daemon, and what outlives it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use super::support::{Place, is_alive, text};

const SLEEPER: &str = r#"
shutdown_timeout: 300ms
jobs:
  - name: sleeper
    trigger: manual
    command: "echo $$ > pid; exec sleep 1000"
    kill_grace: 300ms
  - name: quick
    trigger: manual
    command: "true"
  - name: waits
    trigger: manual
    depends_on: [sleeper]
"#;

#[test]
fn sigterm_waits_for_running_jobs_then_ends_them_and_leaves_nothing_behind() {
    let place = Place::new(SLEEPER);
    place.make_pipe("pid");
    let daemon = place.start();
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    place.prints(&["ctl", "trigger", "sleeper"]);
    let pid = place.hear("pid");
    daemon.terminate();
    assert!(!is_alive(&pid), "the child outlived the daemon");
    assert!(!place.socket().exists(), "the socket is gone");
    assert_eq!(place.states("quick"), ["succeeded"]);
    assert_eq!(place.states("sleeper"), ["cancelled"]);
    let gone = place.firelink(&["ctl", "status"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(text(&gone.stderr).contains("no daemon listens"), "{}", text(&gone.stderr));
}

#[test]
fn a_second_sigterm_kills_at_once() {
    let place = Place::new(&SLEEPER.replace("300ms\njobs", "1h\njobs"));
    place.make_pipe("pid");
    let mut daemon = place.start();
    place.prints(&["ctl", "trigger", "sleeper"]);
    let pid = place.hear("pid");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for_log("stopping");
    daemon.terminate();
    assert!(!is_alive(&pid));
}

#[test]
fn two_signals_that_come_at_once_kill_as_well() {
    let place = Place::new(&SLEEPER.replace("300ms\njobs", "1h\njobs"));
    place.make_pipe("pid");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "sleeper"]);
    let pid = place.hear("pid");
    // Two of a kind that are pending are one.
    for signal in [Signal::SIGSTOP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGCONT] {
        daemon.signal(signal);
    }
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
    assert!(!is_alive(&pid));
}

#[test]
fn a_run_that_is_started_and_killed_in_one_turn_leaves_no_process() {
    let place = Place::new(&SLEEPER.replace("300ms\njobs", "1h\njobs"));
    let daemon = place.start();
    let mut peer = BufReader::new(UnixStream::connect(place.socket()).unwrap());
    let mut answer = String::new();
    // From its first answer on the loop knows this peer.
    peer.get_mut().write_all(b"{\"v\":1,\"cmd\":\"status\"}\n").unwrap();
    peer.read_line(&mut answer).unwrap();
    daemon.signal(Signal::SIGSTOP);
    peer.get_mut().write_all(b"{\"v\":1,\"cmd\":\"trigger\",\"job\":\"sleeper\"}\n").unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCONT] {
        daemon.signal(signal);
    }
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
    assert_eq!(place.states("sleeper"), ["cancelled"]);
    assert!(place.read("pid").trim().is_empty() || !is_alive(place.read("pid").trim()));
}

#[test]
fn stop_answers_when_the_daemon_is_done() {
    let place = Place::new(SLEEPER);
    place.make_pipe("pid");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "sleeper"]);
    let pid = place.hear("pid");
    place.prints(&["stop", "--now"]);
    let (status, _) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!is_alive(&pid));
    assert!(!place.socket().exists());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_with_the_pid_of_the_first() {
    let place = Place::new(SLEEPER);
    place.make_pipe("pid");
    let daemon = place.start();
    let state = place.state_dir().display().to_string();
    let second = place.firelink(&["run", "firelink.yaml", "--state-dir", &state, "--socket", "other"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains(&daemon.pid().to_string()), "{}", text(&second.stderr));
    assert_eq!(daemon.trigger("quick")["state"], "succeeded", "the first goes on");
}

#[test]
fn a_process_that_outlives_a_crash_is_watched_to_its_end_and_a_stale_socket_replaced() {
    let place = Place::new(SLEEPER);
    place.make_pipe("pid");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "sleeper"]);
    let pid = place.hear("pid");
    daemon.crash();
    assert!(place.socket().exists(), "a crash leaves its socket");
    assert!(is_alive(&pid), "children live through a crash of the daemon");

    let daemon = place.start();
    let mut events = daemon.follow();
    assert_eq!(daemon.job("sleeper")["state"], "running");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    let ended = events.ended("sleeper");
    drop(daemon);
    let run = &place.history(&["--job", "sleeper"])[0];
    assert_eq!(run["state"], ended["state"]);
    // On an old kernel the reaper of orphans may be faster than the daemon.
    match ended["state"].as_str() {
        Some("failed") => assert_eq!(run["signal"], "SIGKILL"),
        Some("lost") => assert!(run["reason"].to_string().contains("exit status is unknown"), "{run}"),
        _ => panic!("{run}"),
    }
}
