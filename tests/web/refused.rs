//! Requests that are refused. The rules themselves have table tests in `src/web/guard.rs`.

use std::io::{Read, Write};

use serde_json::json;

use crate::api::TOKEN;
use crate::daemon::{Daemon, Place};
use crate::http::{At, read_response};

const JOBS: &str = r#"
web: { listen: "127.0.0.1:0", token_file: token }
jobs:
  - name: a
    trigger: manual
    command: "touch ran"
"#;

fn place() -> Place {
    let place = Place::new(JOBS);
    place.write("token", TOKEN);
    place
}

/// Nothing ran, and the daemon is as well as before.
fn unharmed(place: &Place, daemon: &Daemon<'_>, at: &At) {
    assert!(!place.path("ran").exists());
    assert_eq!(place.history(&[]).len(), 0);
    assert_eq!(at.get("/healthz").status, 200);
    assert_eq!(daemon.status()["active"], json!([]));
}

#[test]
fn foreign_requests_are_refused_and_logged() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let token = format!("Authorization: Bearer {TOKEN}");
    let trigger = "/api/v1/jobs/a/trigger";
    let cases: [(&str, u16, &[&str]); 6] = [
        ("no token", 401, &[]),
        ("a wrong token", 401, &["Authorization: Bearer 0123456789abcdef0124"]),
        ("a forged Host", 421, &[&token, "Host: evil.example"]),
        ("another origin", 403, &[&token, "Origin: http://evil.example"]),
        ("another site", 403, &[&token, "Sec-Fetch-Site: cross-site"]),
        ("another port's page", 403, &[&token, "Origin: http://127.0.0.1:1"]),
    ];
    for (what, status, headers) in cases {
        let response = at.send("POST", trigger, headers, "{}");
        assert_eq!(response.status, status, "{what}: {}", response.text());
        assert!(response.json()["error"].as_str().is_some_and(|error| !error.contains(TOKEN)), "{what}");
        let line = daemon.wait_for_log("the web UI refused POST /api/v1/jobs/a/trigger");
        assert!(!line.contains(TOKEN));
    }
    assert_eq!(at.send("GET", "/api/v1/status", &["Host: evil.example"], "").status, 421);
    assert_eq!(at.send("DELETE", "/api/v1/jobs/a", &[&token], "").status, 405);
    assert_eq!(at.send("GET", trigger, &[], "").status, 405);
    unharmed(&place, &daemon, &at);
    daemon.terminate();
}

#[test]
fn oversized_and_incomplete_requests_are_dropped() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let large = format!("{{\"force\":true{}}}", " ".repeat(70_000));
    assert_eq!(at.post("/api/v1/jobs/a/trigger", TOKEN, &large).status, 413);
    let long = format!("X-Long: {}", "x".repeat(100_000));
    assert!(matches!(at.send("GET", "/api/v1/status", &[&long], "").status, 431 | 0), "a head has an end");
    let many: Vec<String> = (0..500).map(|n| format!("X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(at.send("GET", "/api/v1/status", &many, "").status, 431);

    // Half a head, half a body, and garbage: each connection is closed by the daemon.
    let mut head = at.connect();
    head.write_all(b"GET /api/v1/status HT").unwrap();
    let mut body = at.connect();
    let begin = format!("POST /api/v1/jobs/a/trigger HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n");
    write!(body, "{begin}Content-Length: 20\r\n\r\n{{\"force\"").unwrap();
    let mut garbage = at.connect();
    garbage.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").unwrap();
    assert_eq!(read_response(garbage).status, 400);
    assert_eq!(read_response(body).status, 408);
    let mut rest = Vec::new();
    head.read_to_end(&mut rest).unwrap();
    unharmed(&place, &daemon, &at);
    daemon.terminate();
}

#[test]
fn idle_connections_are_closed() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let idle: Vec<_> = (0..300).map(|_| at.connect()).collect();
    daemon.wait_for_log("the web UI closed a connection: 256 are open already");
    // Those that were let in are closed when no request comes.
    for mut stream in idle {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    unharmed(&place, &daemon, &at);
    daemon.terminate();
}

#[test]
fn without_a_token_nothing_can_be_changed_over_tcp() {
    let place = Place::new(&JOBS.replace(", token_file: token", ""));
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let refused = at.post("/api/v1/jobs/a/trigger", TOKEN, "{}");
    assert_eq!(refused.status, 403);
    assert!(refused.json()["error"].as_str().unwrap().contains("token_file"));
    assert_eq!(at.json("/api/v1/status")["token"], "not_configured");
    unharmed(&place, &daemon, &at);
    daemon.terminate();
}

#[test]
fn no_token_is_needed_over_a_unix_socket() {
    use std::os::unix::fs::PermissionsExt;
    let place =
        Place::new("web: { listen: \"unix:web.sock\" }\njobs:\n  - name: a\n    trigger: manual\n    command: \"touch ran\"\n");
    let mut daemon = place.start();
    daemon.wait_for_log_ever("the web UI is open: unix:");
    let path = place.path("web.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |text: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        read_response(stream)
    };
    let status = ask("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status.json()["token"], "none");
    let mut follower = daemon.follow();
    let post = "POST /api/v1/jobs/a/trigger HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n";
    assert_eq!(ask(&format!("{post}Origin: http://evil.example\r\n\r\n")).status, 403);
    assert_eq!(ask(&format!("{post}\r\n")).status, 200);
    follower.ended("a");
    assert!(place.path("ran").exists());
    daemon.terminate();
    assert!(!path.exists(), "the file goes with the daemon");
}

#[test]
fn a_web_ui_for_other_machines_without_a_token_is_a_config_error() {
    let place = Place::new("web: { listen: \"0.0.0.0:8080\" }\njobs:\n  - name: a\n    trigger: manual\n");
    let refused = place.firelink(&["check", "firelink.yaml"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("token_file"));
}
