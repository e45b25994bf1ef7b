//! The control socket under bad manners.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::support::Place;

const QUICK: &str = "jobs: [{ name: quick, trigger: manual, command: \"true\" }]";

fn ask(place: &Place, bytes: &[u8]) -> Vec<serde_json::Value> {
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()).collect()
}

#[test]
fn garbage_is_answered_with_a_sentence_and_harms_nobody() {
    let place = Place::new(QUICK);
    let daemon = place.start();
    for garbage in [
        &b"garbage\n"[..],
        b"{}\n",
        b"[1,2]\n",
        b"{\"v\":1}\n",
        b"{\"v\":1,\"cmd\":\"nonsense\"}\n",
        b"{\"v\":99,\"cmd\":\"status\"}\n",
        b"{\"v\":1,\"cmd\":\"trigger\"}\n",
        b"\xff\xfe\n",
    ] {
        let answers = ask(&place, garbage);
        assert_eq!(answers.len(), 1, "{garbage:?}: {answers:?}");
        assert_eq!(answers[0]["ok"], false);
        assert!(answers[0]["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    assert!(ask(&place, b"{\"v\":1,\"cmd\":\"sta").iter().all(|answer| answer["ok"] == false));
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    assert_eq!(std::fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let place = Place::new(QUICK);
    let daemon = place.start();
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    let junk = vec![b'x'; 1 << 20];
    // The daemon hangs up in the middle of it.
    let _ = stream.write_all(&junk);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.contains("\"ok\":false"), "{answer}");
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
}

#[test]
fn many_idle_peers_do_not_keep_anyone_else_from_being_answered() {
    let place = Place::new(QUICK);
    let daemon = place.start();
    let idle: Vec<UnixStream> = (0..200).map_while(|_| UnixStream::connect(place.socket()).ok()).collect();
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    assert!(idle.len() > 128, "more than the daemon keeps: {}", idle.len());
    drop(idle);
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
}

#[test]
fn a_reader_that_never_reads_does_not_slow_the_daemon() {
    let place = Place::new(QUICK);
    let daemon = place.start();
    let mut deaf = UnixStream::connect(place.socket()).unwrap();
    deaf.write_all(b"{\"v\":1,\"cmd\":\"events\"}\n").unwrap();
    let flood = b"{\"v\":1,\"cmd\":\"status\"}\n".repeat(5_000);
    // Its answers fill the socket; the daemon lets go of it rather than wait.
    let _ = deaf.set_nonblocking(true);
    let _ = deaf.write(&flood);
    for _ in 0..5 {
        assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    }
}
