//! The file for node_exporter.

use std::time::Instant;

use crate::daemon::{Daemon, PATIENCE, Place};
use crate::scrape::value;

const JOBS: &str = "jobs: [{ name: a, trigger: manual }]\n";

fn place(more: &str) -> Place {
    Place::new(&format!("metrics: {{ textfile: numbers/firelink.prom, every: 1s }}\n{more}{JOBS}"))
}

/// Waits until something holds; each look is preceded by a question to the daemon, so that it has its turn.
fn wait_until(daemon: &Daemon<'_>, what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        daemon.status();
        assert!(Instant::now() < deadline, "{what}");
    }
}

#[test]
fn the_file_is_there_from_the_start_and_follows_what_happens() {
    let place = place("");
    std::fs::create_dir(place.path("numbers")).unwrap();
    let daemon = place.start();
    let runs =
        |place: &Place| value(&place.read("numbers/firelink.prom"), r#"firelink_runs_total{job_name="a",state="succeeded"}"#);
    wait_until(&daemon, "the first file", || runs(&place) == Some(0.0));
    daemon.trigger("a");
    wait_until(&daemon, "a file that knows of the run", || runs(&place) == Some(1.0));
    // node_exporter has names of its own for these, and would refuse the file.
    assert!(!place.read("numbers/firelink.prom").contains("\nprocess_"));
    daemon.trigger("a");
    daemon.terminate();
    assert_eq!(runs(&place), Some(2.0), "the daemon's end writes the rest");
    assert_eq!(value(&place.read("numbers/firelink.prom"), "firelink_next_deadline_timestamp_seconds"), None);
    assert_eq!(std::fs::read_dir(place.path("numbers")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_folder_that_is_missing_is_a_warning_until_it_is_there_and_jobs_run() {
    let place = place("");
    let mut daemon = place.start();
    let line = daemon.wait_for_log_ever("numbers/firelink.prom can't be written");
    assert!(line.contains("No such file") && line.contains("every 1s"), "{line}");
    assert_eq!(daemon.trigger("a")["state"], "succeeded");
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("numbers/firelink.prom can't be written"), "{warnings}");
    std::fs::create_dir(place.path("numbers")).unwrap();
    daemon.wait_for_log("numbers/firelink.prom is written again");
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    let log = daemon.terminate();
    assert_eq!(log.iter().filter(|line| line.contains("can't be written")).count(), 1, "{}", log.join("\n"));
}

#[test]
fn a_reload_moves_the_file_and_takes_it_away() {
    let place = place("");
    std::fs::create_dir(place.path("numbers")).unwrap();
    let daemon = place.start();
    let (old, new) = (place.path("numbers/firelink.prom"), place.path("numbers/other.prom"));
    wait_until(&daemon, "the first file", || old.exists());
    place.write("firelink.yaml", &format!("metrics: {{ textfile: numbers/other.prom }}\n{JOBS}"));
    place.prints(&["ctl", "reload"]);
    wait_until(&daemon, "the other file", || new.exists());
    assert!(!old.exists(), "nobody would see that it is old");
    place.write("firelink.yaml", JOBS);
    place.prints(&["ctl", "reload"]);
    assert!(!new.exists());
    daemon.terminate();
    assert_eq!(std::fs::read_dir(place.path("numbers")).unwrap().count(), 0);
}

#[test]
fn no_other_thread_is_needed() {
    let place = place("");
    std::fs::create_dir(place.path("numbers")).unwrap();
    let daemon = place.start();
    wait_until(&daemon, "the first file", || place.path("numbers/firelink.prom").exists());
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    assert_eq!(threads, 1);
    daemon.terminate();
}
