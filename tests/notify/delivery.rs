//! Webhook deliveries: their contents, retries and failures.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, Place};
use crate::server::Server;

/// A job that fails, and one that fails while a file exists; `more` are further keys of the target.
fn place(server: &Server, more: &str) -> Place {
    let place = Place::new("");
    place.write("firelink.yaml", &config(server, more));
    place
}

fn config(server: &Server, more: &str) -> String {
    format!(
        "jobs:\n  - {{ name: bad, command: exit 3 }}\n  - {{ name: good, command: 'true' }}\n  \
         - {{ name: moody, command: 'test ! -e broken' }}\nnotify:\n  - {{ url: \"{}\"{more} }}\n",
        server.url
    )
}

const SOON: &str = ", retry: { attempts: 4, delay: 10ms, jitter: false }";

fn threads(daemon: &Daemon<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count()
}

#[test]
fn a_failed_run_is_delivered_with_its_exit_code_and_no_thread_runs_before() {
    let server = Server::start();
    let place = place(&server, "");
    let daemon = place.start();
    daemon.trigger("good");
    assert_eq!(threads(&daemon), 1);
    daemon.trigger("bad");
    let call = server.take();
    assert!(call.line.starts_with("POST /a-secret-path HTTP/1.1"), "{}", call.line);
    assert_eq!(call.header("x-firelink-signature"), None);
    let told = call.json();
    assert_eq!((told["event"]["job"].as_str(), told["event"]["state"].as_str()), (Some("bad"), Some("failed")));
    assert_eq!((told["run"]["exit_code"].as_i64(), told["dropped"].as_u64()), (Some(3), Some(0)));
    assert_eq!(Some(told["delivery"].as_str().unwrap()), call.header("x-firelink-delivery"));
}

#[test]
fn the_signature_is_that_of_pythons_hmac() {
    let server = Server::start();
    let place = place(&server, ", secret_file: key");
    place.write("key", "a key\n");
    let daemon = place.start();
    daemon.trigger("bad");
    let call = server.take();
    let code = "import hmac,sys; print('sha256='+hmac.new(b'a key', sys.argv[1].encode(), 'sha256').hexdigest())";
    let output = Command::new("python3").args(["-c", code, std::str::from_utf8(&call.body).unwrap()]).output().expect("python3");
    assert_eq!(call.header("x-firelink-signature"), Some(String::from_utf8(output.stdout).unwrap().trim()));
    let log = daemon.terminate().join("\n");
    assert!(!log.contains("a-secret-path") && !log.contains("a key"), "{log}");
}

#[test]
fn temporary_failures_are_retried_with_the_same_id_and_in_order() {
    let server = Server::start();
    let place = place(&server, &format!("{SOON}, timeout: 1s"));
    let daemon = place.start();
    daemon.trigger("bad");
    daemon.trigger("bad");
    let mut first = server.call();
    first.answer(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    // Closed without a word.
    drop(server.call());
    // Silence.
    let silent = server.call();
    let last = server.take();
    drop(silent);
    assert_eq!(first.json()["delivery"], last.json()["delivery"]);
    let second = server.take();
    assert!(second.json()["run"]["id"].as_u64() > last.json()["run"]["id"].as_u64());
}

#[test]
fn permanent_failures_are_not_retried_and_the_next_delivery_reports_them() {
    let server = Server::start();
    let place = place(&server, SOON);
    let mut daemon = place.start();
    for answer in ["HTTP/1.1 404 No\r\n\r\n", "HTTP/1.1 302 There\r\nlocation: /x\r\n\r\n"] {
        daemon.trigger("bad");
        server.call().answer(answer.as_bytes());
        daemon.wait_for_log("webhook delivery failed: run");
    }
    daemon.trigger("bad");
    assert_eq!(server.take().json()["dropped"], 2);
    assert_eq!(daemon.status()["notify"][0]["dropped"], 2);
}

#[test]
fn a_server_that_never_ends_its_answer_delays_no_other_target() {
    let server = Server::start();
    let place = place(&server, ", retry: 1");
    let mut daemon = place.start();
    daemon.trigger("bad");
    let mut call = server.call();
    call.answer(b"HTTP/1.1 200 OK\r\n");
    call.answer_endlessly(b"x-more: and more\r\n");
    daemon.wait_for_log("webhook delivery failed");
    daemon.trigger("bad");
    let mut call = server.call();
    assert_eq!(call.json()["dropped"], 1);
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n");
    call.answer_endlessly(&[b'x'; 4096]);
    daemon.trigger("bad");
    assert_eq!(server.take().json()["dropped"], 0);
}

#[test]
fn a_full_queue_drops_its_oldest_and_reports_the_number() {
    let server = Server::start();
    let place = place(&server, ", on: [succeeded], timeout: 5m");
    let mut daemon = place.start();
    daemon.trigger("good");
    let mut held = server.call();
    let mut follower = daemon.follow();
    for _ in 0..258 {
        place.prints(&["ctl", "trigger", "good"]);
        follower.ended("good");
    }
    daemon.wait_for_log_ever("256 webhook deliveries are queued");
    held.answer(crate::server::OK);
    let next = server.take().json();
    assert_eq!(next["dropped"], 2);
    assert_eq!(next["run"]["id"].as_u64().unwrap(), held.json()["run"]["id"].as_u64().unwrap() + 3);
}

#[test]
fn a_recovery_is_delivered_even_across_a_restart() {
    let server = Server::start();
    let place = place(&server, ", on: [recovered], jobs: 'mo*'");
    place.write("broken", "");
    let daemon = place.start();
    daemon.trigger("moody");
    daemon.trigger("bad");
    daemon.terminate();
    std::fs::remove_file(place.path("broken")).unwrap();
    let daemon = place.start();
    daemon.trigger("good");
    daemon.trigger("moody");
    let told = server.take().json();
    assert_eq!((told["recovered"].as_bool(), told["event"]["job"].as_str()), (Some(true), Some("moody")));
    // A second success is none: the next call is that of the next recovery.
    daemon.trigger("moody");
    place.write("broken", "");
    daemon.trigger("moody");
    std::fs::remove_file(place.path("broken")).unwrap();
    let last = daemon.trigger("moody");
    assert_eq!(server.take().json()["run"]["id"], last["id"]);
}

#[test]
fn a_failure_is_remembered_behind_cancelled_and_skipped_runs() {
    let server = Server::start();
    let place = Place::new(&format!(
        "max_parallel: 1\njobs:\n  - {{ name: busy, command: cat gate }}\n  \
         - {{ name: moody, command: 'test ! -e broken' }}\nnotify:\n  - {{ url: \"{}\", on: [recovered] }}\n",
        server.url
    ));
    place.write("broken", "");
    place.make_pipe("gate");
    let daemon = place.start();
    daemon.trigger("moody");
    let mut follower = daemon.follow();
    place.prints(&["ctl", "trigger", "busy"]);
    follower.started("busy");
    // Both wait for the one slot; one is cancelled there, and the newest still waits when the daemon ends.
    let cancelled = place.json(&["ctl", "trigger", "moody", "--format", "json"])["id"].to_string();
    place.prints(&["ctl", "cancel", &cancelled]);
    follower.ended("moody");
    place.prints(&["ctl", "trigger", "moody"]);
    assert_eq!(place.states("moody"), ["failed", "cancelled", "pending"]);
    place.prints(&["ctl", "stop", "--now"]);
    daemon.wait();
    std::fs::remove_file(place.path("broken")).unwrap();
    let _daemon = place.start();
    let told = server.take().json();
    assert_eq!((told["recovered"].as_bool(), told["event"]["job"].as_str()), (Some(true), Some("moody")));
}

#[test]
fn a_reload_keeps_the_queue_of_an_unchanged_target() {
    let server = Server::start();
    let place = place(&server, ", timeout: 5m");
    let mut daemon = place.start();
    daemon.trigger("bad");
    let mut held = server.call();
    daemon.trigger("bad");
    place.write("firelink.yaml", &(config(&server, ", timeout: 5m") + "  - { url: \"http://127.0.0.1:9/\" }\n"));
    place.prints(&["ctl", "reload"]);
    daemon.wait_for_log_ever("reloaded");
    assert_eq!(daemon.status()["notify"][0]["queued"], 2);
    held.answer(crate::server::OK);
    server.take();
}

#[test]
fn shutdown_waits_shortly_for_deliveries_and_logs_the_rest() {
    let server = Server::start();
    let place = place(&server, "");
    let daemon = place.start();
    daemon.trigger("bad");
    let _held = server.call();
    daemon.signal(Signal::SIGTERM);
    let (status, log) = daemon.wait();
    assert!(status.success());
    assert!(log.iter().any(|line| line.contains("the daemon stops; 1 event not delivered")), "{}", log.join("\n"));
}

fn retry_after(status: &str, value: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

#[test]
fn retry_after_is_respected_up_to_the_maximum_delay_and_never_shortens_one() {
    let in_two_hours = (chrono::Utc::now() + chrono::TimeDelta::hours(2)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let cases = [
        ("429 Slowly", "7", "1h", "in 7s"),
        ("503 Later", "100000", "1h", "in 1h"),
        ("503 Later", "18446744073709551615", "1h", "in 1h"),
        ("503 Later", &in_two_hours, "1h", "in 1h"),
        // What is no wait, or less than the delay.
        ("503 Later", "0", "1h", "in 5s"),
        ("429 Slowly", "Wed, 21 Oct 2015 07:28:00 GMT", "1h", "in 5s"),
        ("429 Slowly", "soon", "1h", "in 5s"),
        ("429 Slowly", "-3", "1h", "in 5s"),
        ("429 Slowly", "99999999999999999999", "1h", "in 5s"),
    ];
    let server = Server::start();
    for (status, value, longest, told) in cases {
        let place = place(&server, &format!(", retry: {{ attempts: 2, delay: 5s, max_delay: {longest}, jitter: false }}"));
        let mut daemon = place.start();
        daemon.trigger("bad");
        server.call().answer(&retry_after(status, value));
        let line = daemon.wait_for_log("next try in");
        assert!(line.ends_with(told), "{status} {value}: {line}");
    }
}

#[test]
fn a_delivery_with_retry_after_is_delayed_and_then_sent() {
    let server = Server::start();
    let place = place(&server, SOON.replace("attempts", "max_delay: 1m, attempts").as_str());
    let daemon = place.start();
    daemon.trigger("bad");
    let mut call = server.call();
    let began = std::time::Instant::now();
    call.answer(&retry_after("429 Slowly", "1"));
    let again = server.take();
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(call.json()["delivery"], again.json()["delivery"]);
}
