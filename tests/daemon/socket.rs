//! The control socket under bad manners.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::own_process::in_own_process;
use super::skip::skip;
use super::support::{Daemon, Place, TEST_TIMEOUT};

const QUICK: &str = "jobs: [{ name: quick, trigger: manual, command: \"true\" }]";

fn ask(place: &Place, bytes: &[u8]) -> Vec<serde_json::Value> {
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap_or_else(|error| panic!("{error} after {answers:#?}\nto\n{}", String::from_utf8_lossy(bytes)));
        answers.push(serde_json::from_str(&line).unwrap());
    }
    answers
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
fn two_that_ask_for_a_reload_at_once_are_both_answered() {
    let place = Place::new(QUICK);
    let _daemon = place.start();
    let answers = ask(&place, &b"{\"v\":1,\"cmd\":\"reload\"}\n".repeat(2));
    assert!(answers.len() == 2 && answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
}

#[test]
fn a_misspelt_key_is_refused_and_what_was_asked_is_not_done_without_it() {
    let place = Place::new(QUICK);
    let daemon = place.start();
    place.write("firelink.yaml", "jobs: [{ name: other, trigger: manual }]");
    let answers = ask(&place, b"{\"v\":1,\"cmd\":\"reload\",\"dry-run\":true}\n");
    assert_eq!(answers[0]["error"], "unknown key `dry-run` of `reload`, did you mean `dry_run`?", "{answers:?}");
    assert_eq!((&answers[0]["ok"], &answers[0]["code"]), (&false.into(), &"bad_request".into()));
    assert_eq!(daemon.trigger("quick")["state"], "succeeded", "nothing was reloaded");
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

/// Fires all the time; nothing that a peer does may keep it from doing so.
const FIRING: &str = "
defaults: { output: { keep_runs: 1000000 } }
jobs:
  - { name: quick, trigger: manual, command: \"true\" }
  - { name: beat, trigger: interval, every: 50ms, concurrency: queue }
";

/// The beat goes on: that many more runs of it end, each one well.
fn expect_beats(daemon: &Daemon<'_>, count: usize) {
    let mut events = daemon.follow();
    for _ in 0..count {
        assert_eq!(events.ended("beat")["state"], "succeeded");
    }
}

/// Every beat that the grid named since the start was run once, whatever else went on.
fn expect_no_beat_lost(place: &Place, daemon: Daemon<'_>) {
    daemon.terminate();
    let beats = place.states("beat");
    assert!(beats.len() >= 3 && beats.iter().all(|state| state == "succeeded"), "{beats:?}");
}

#[test]
fn a_thousand_idle_peers_and_deaf_followers_keep_no_job_from_firing() {
    let place = Place::new(FIRING);
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    if hard < 2_000 {
        skip(format_args!("the hard limit of open files is {hard}"));
        return;
    }
    let daemon = place.start();
    let mut idle: Vec<UnixStream> = (0..1_000).map(|_| UnixStream::connect(place.socket()).unwrap()).collect();
    expect_beats(&daemon, 3);
    // Each asks for the stream and reads nothing of it; half of them leave a request half sent besides.
    for (number, peer) in idle.iter_mut().enumerate() {
        let request: &[u8] = if number % 2 == 0 { b"{\"v\":1,\"cmd\":\"events\"}\n" } else { b"{\"v\":1," };
        // Those that the daemon has let go of to make room learn it here.
        let _ = peer.write_all(request);
    }
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    expect_beats(&daemon, 3);
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(open < 300, "a daemon that keeps {open} descriptors keeps every peer");
    drop(idle);
    expect_no_beat_lost(&place, daemon);
}

/// `FIRELINK_FUZZ_REQUESTS=n` sends that many.
#[test]
fn requests_with_random_damage_are_each_answered_or_end_their_peer_and_no_job_misses_a_beat() {
    let count: usize = std::env::var("FIRELINK_FUZZ_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let seed: u64 = std::env::var("FIRELINK_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    eprintln!("FIRELINK_SEED={seed}");
    let mut random = seed;
    let mut below = move |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % limit
    };
    let place = Place::new(FIRING);
    let daemon = place.start();
    let right: [&[u8]; 5] = [
        b"{\"v\":1,\"cmd\":\"status\",\"job\":\"quick\"}",
        b"{\"v\":1,\"cmd\":\"trigger\",\"job\":\"quick\",\"wait\":false}",
        b"{\"v\":1,\"cmd\":\"cancel\",\"run\":999999}",
        b"{\"v\":1,\"cmd\":\"logs\",\"of\":\"quick\"}",
        b"{\"v\":1,\"cmd\":\"reload\",\"dry_run\":true}",
    ];
    let mut sent = 0;
    while sent < count {
        let batch: Vec<Vec<u8>> = (0..50)
            .map(|_| {
                let mut line = right[below(right.len())].to_vec();
                for _ in 0..below(4) {
                    let at = below(line.len());
                    match below(5) {
                        0 => line.truncate(at.max(1)),
                        1 => line[at] = u8::try_from(below(256)).unwrap(),
                        2 => line.insert(at, u8::try_from(below(256)).unwrap()),
                        3 => drop(line.remove(at)),
                        _ => line.extend_from_within(at..),
                    }
                    line.push(b' ');
                }
                line.retain(|byte| *byte != b'\n');
                line
            })
            .collect();
        let answers = ask(&place, &batch.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>());
        assert_eq!(answers.len(), batch.len(), "one answer a request");
        assert!(answers.iter().all(|answer| answer["ok"] == true || answer["error"].is_string()), "{answers:?}");
        sent += batch.len();
    }
    assert_eq!(daemon.trigger("quick")["state"], "succeeded");
    expect_no_beat_lost(&place, daemon);
}

#[test]
fn a_peer_of_another_user_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("only root can become another user");
        return;
    }
    // The user is the process's, and other tests want to keep theirs.
    if !in_own_process("socket::a_peer_of_another_user_is_refused") {
        return;
    }
    let place = Place::new(FIRING);
    let daemon = place.start();
    let nobody = nix::unistd::Uid::from_raw(65_534);
    let as_nobody = |request: &[u8]| {
        nix::unistd::seteuid(nobody).unwrap();
        let connected = UnixStream::connect(place.socket());
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
        let mut stream = connected?;
        stream.write_all(request)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let status = b"{\"v\":1,\"cmd\":\"stop\",\"now\":true}\n";
    // The directory is its owner's; and if it were not, the socket is.
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(as_nobody(status).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // And if it were not, the daemon asks the kernel who speaks.
    std::fs::set_permissions(place.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    match as_nobody(status) {
        Ok(answer) => assert!(answer.is_empty() || answer.contains("answers its own user and root only"), "{answer}"),
        Err(error) => {
            assert!(matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset), "{error}")
        }
    }
    expect_beats(&daemon, 3);
    expect_no_beat_lost(&place, daemon);
}
