//! What a person sees on a terminal of 80 columns and 24 lines: without colours, without UTF-8, and with both.

use nix::sys::signal::Signal;

use super::pty::OnTerminal;
use super::support::Place;

const JOBS: &str = r#"
timezone: UTC
jobs:
  - { name: nightly, trigger: cron, schedule: "0 2 * * *", command: "true" }
  - { name: fetch, trigger: manual, command: "echo one; echo > ready; read x < go; echo two; exit $(cat code)" }
  - { name: publish, depends_on: [fetch, nightly], command: "true" }
"#;

fn place() -> Place {
    let place = Place::new(JOBS);
    place.make_pipe("ready");
    place.make_pipe("go");
    place.write("code", "0");
    place
}

fn let_go(place: &Place) {
    let path = place.path("go");
    std::thread::spawn(move || std::fs::write(path, "go\n"));
}

/// A terminal that shows ASCII in one colour.
fn plainly(place: &Place, args: &[&str]) -> OnTerminal {
    let mut command = place.command(args);
    command.env("LC_ALL", "C").env("NO_COLOR", "1");
    OnTerminal::start(command)
}

/// Whether any of the control sequences sets a colour or a weight (SGR).
fn has_colour(written: &str) -> bool {
    written.split("\x1b[").skip(1).any(|sequence| sequence.chars().find(char::is_ascii_alphabetic) == Some('m'))
}

/// A terminal that shows everything.
fn richly(place: &Place, args: &[&str]) -> OnTerminal {
    let mut command = place.command(args);
    command.env_remove("LC_ALL").env_remove("LC_CTYPE").env("LANG", "C.UTF-8");
    OnTerminal::start(command)
}

#[test]
fn every_command_writes_plain_ascii_lines_where_the_terminal_shows_no_more() {
    let place = place();
    let daemon = place.start();
    let state = place.state_dir().display().to_string();
    for (args, code, shows) in [
        (&["status"][..], 0, "nightly  cron        idle"),
        (&["ctl", "status", "publish"], 0, "fetch, nightly"),
        (&["graph", "firelink.yaml"], 0, "*-' publish"),
        (&["check", "firelink.yaml"], 0, "after fetch, nightly"),
        (&["next", "firelink.yaml", "--count", "1"], 0, "T02:00:00+00:00  nightly"),
        (&["simulate", "firelink.yaml", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"], 0, "nightly"),
        (&["history", "--state-dir", &state], 0, ""),
        (&["ctl", "pause", "nightly"], 0, "1 paused"),
        (&["ctl", "resume", "nightly"], 0, "0 paused"),
        (&["ctl", "reload", "--dry-run"], 0, "would be reloaded: 0 added, 0 changed, 0 removed, 3 unchanged"),
        (&["ctl", "cancel", "99"], 1, "there is no run 99"),
        (&["ctl", "retry", "99"], 1, "there is no run 99"),
        (&["ctl", "trigger", "fetsh", "--wait"], 1, "did you mean `fetch`?"),
    ] {
        let (status, written) = plainly(&place, args).wait();
        assert_eq!(status.code(), Some(code), "{args:?}: {written}");
        assert!(written.contains(shows), "{args:?}: {written}");
        assert!(written.bytes().all(|byte| matches!(byte, b'\r' | b'\n' | b' '..=b'~')), "{args:?}: {written:?}");
        assert!(written.lines().all(|line| line.len() <= 80), "{args:?}: {written}");
    }
    drop(daemon);
    let (status, written) = plainly(&place, &["status"]).wait();
    assert_eq!(status.code(), Some(3), "{written}");
}

#[test]
fn colours_and_lines_are_drawn_where_the_terminal_shows_them_and_only_there() {
    let place = place();
    let daemon = place.start();
    daemon.trigger("nightly");
    let (_, written) = richly(&place, &["status"]).wait();
    assert!(written.contains("\x1b[32msucceeded"), "{written:?}");
    let (_, written) = richly(&place, &["graph", "firelink.yaml"]).wait();
    assert!(written.contains("●─╯ \x1b[1mpublish"), "{written:?}");
    // A pipe is no terminal.
    let piped = place.prints(&["status"]);
    assert!(!piped.contains('\x1b') && piped.contains("succeeded"), "{piped}");
    let mut command = place.command(&["status"]);
    command.env("NO_COLOR", "1").env("LANG", "C.UTF-8");
    let (_, written) = OnTerminal::start(command).wait();
    assert!(!written.contains('\x1b') && written.contains('·'), "{written:?}");
}

#[test]
fn a_watched_status_follows_what_happens_and_gives_the_terminal_back() {
    let place = place();
    let daemon = place.start();
    let mut watch = plainly(&place, &["ctl", "status", "--watch"]);
    let screen = watch.wait_for("publish");
    assert!(screen.contains("JOB      TRIGGER     STATE") && screen.contains("3 jobs, 0 running"), "{screen}");
    place.prints(&["ctl", "trigger", "fetch"]);
    place.hear("ready");
    let screen = watch.wait_for("3 jobs, 1 running");
    assert!(screen.contains("attempt 1"), "{screen}");
    let_go(&place);
    watch.wait_for("succeeded");
    let screen = watch.wait_for("3 jobs, 0 running");
    assert!(!screen.contains("attempt 1"), "what is over is gone: {screen}");
    assert!(watch.written.iter().all(u8::is_ascii));
    watch.signal(Signal::SIGINT);
    let (status, written) = watch.wait();
    assert_eq!(status.code(), Some(0));
    assert!(written.ends_with("\x1b[?25h\x1b[?1049l"), "the cursor and the first screen are back: {written:?}");
    assert!(!has_colour(&written), "NO_COLOR: {written:?}");

    let mut watch = plainly(&place, &["status", "--watch"]);
    watch.wait_for("publish");
    daemon.terminate();
    let (status, written) = watch.wait();
    assert_eq!(status.code(), Some(3), "{written}");
    assert!(written.contains("\x1b[?1049l") && written.contains("the daemon has exited"), "{written:?}");
    let piped = place.firelink(&["status", "--watch"]);
    assert_eq!(piped.status.code(), Some(2), "a pipe is no place to draw");
}

#[test]
fn output_and_events_are_followed_and_a_wait_tells_how_the_run_ended() {
    let place = place();
    place.write("code", "4");
    let daemon = place.start();
    let mut events = plainly(&place, &["ctl", "events", "-f"]);
    // It follows once its request was answered, which it does not show; a run that it must tell of may begin too early.
    let mut waiting = plainly(&place, &["ctl", "trigger", "fetch", "--wait"]);
    place.hear("ready");
    let mut logs = plainly(&place, &["ctl", "logs", "fetch", "-f"]);
    assert!(!logs.wait_for("one").contains("two"));
    let (status, written) = plainly(&place, &["ctl", "logs", "fetch"]).wait();
    assert_eq!((status.code(), written.as_str()), (Some(0), "one\r\n"));
    let_go(&place);
    let (status, written) = logs.wait();
    assert_eq!((status.code(), written.as_str()), (Some(0), "one\r\ntwo\r\n"), "it ends with the run");
    let shown = waiting.wait_for("exit code 4");
    assert!(shown.contains("failed"), "{shown}");
    assert_eq!(waiting.wait().0.code(), Some(1));
    events.wait_for("\"what\":\"ended\"");
    events.signal(Signal::SIGINT);
    let (_, written) = events.wait();
    let last = written.lines().find(|line| line.contains("\"ended\"") && line.contains("fetch")).unwrap();
    let event: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!((event["job"].as_str(), event["state"].as_str()), (Some("fetch"), Some("failed")));

    place.write("code", "0");
    let retry = plainly(&place, &["ctl", "retry", "1", "--wait"]);
    place.hear("ready");
    let_go(&place);
    assert_eq!(retry.wait().0.code(), Some(0));
    let cancelled = plainly(&place, &["ctl", "trigger", "fetch", "--wait"]);
    place.hear("ready");
    let running = place.json(&["ctl", "status", "fetch", "--format", "json"])["active"][0]["id"].to_string();
    let (status, written) = plainly(&place, &["ctl", "cancel", &running]).wait();
    assert_eq!(status.code(), Some(0), "{written}");
    let (status, written) = cancelled.wait();
    assert_eq!(status.code(), Some(1));
    assert!(written.contains("cancelled"), "{written}");
    drop(daemon);
}
