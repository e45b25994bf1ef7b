//! The textfile for node_exporter.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Place, TEST_TIMEOUT};
use crate::scrape::value;

const JOBS: &str = "jobs: [{ name: a, trigger: manual }]\n";

fn place(more: &str) -> Place {
    Place::new(&format!("metrics: {{ textfile: numbers/firelink.prom, every: 1s }}\n{more}{JOBS}"))
}

/// Waits until something holds; each look is preceded by a question to the daemon, so that it has its turn.
fn wait_until(daemon: &Daemon<'_>, what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !is() {
        daemon.status();
        assert!(Instant::now() < deadline, "{what}");
    }
}

#[test]
fn the_file_is_written_at_the_start_and_after_changes() {
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

/// The time until the daemon's next timer goes off, as the kernel has it; nothing if none is armed.
fn next_timer(daemon: &Daemon<'_>) -> Option<Duration> {
    let process = std::path::PathBuf::from(format!("/proc/{}", daemon.pid()));
    let open = std::fs::read_dir(process.join("fd")).unwrap().map(|entry| entry.unwrap());
    let timers = open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("[timerfd]")));
    let left = timers.filter_map(|fd| {
        let told = std::fs::read_to_string(process.join("fdinfo").join(fd.file_name())).unwrap();
        let value = told.lines().find_map(|line| line.strip_prefix("it_value: (")).expect("what is left of a timer");
        let (secs, nanos) = value.trim_end_matches(')').split_once(", ").expect("seconds and nanoseconds");
        let left = Duration::new(secs.parse().unwrap(), nanos.parse().unwrap());
        (!left.is_zero()).then_some(left)
    });
    left.min()
}

#[test]
fn an_idle_daemon_does_not_write_the_file_and_no_timer_wakes_it() {
    let place = place("");
    std::fs::create_dir(place.path("numbers")).unwrap();
    let daemon = place.start();
    let file = place.path("numbers/firelink.prom");
    // What happens only once. A write that is to come is at most `every` away.
    let is_idle = || next_timer(&daemon).is_none_or(|left| left > Duration::from_secs(1));
    wait_until(&daemon, "the first file", || file.exists());
    wait_until(&daemon, "a daemon with nothing to do", is_idle);
    // Each file is a new one.
    let inode = || std::fs::metadata(&file).unwrap().ino();
    let first = inode();
    for _ in 0..20 {
        daemon.status();
        place.prints(&["ctl", "status", "a"]);
        assert!(is_idle(), "a question is no change");
    }
    assert_eq!(inode(), first);
    daemon.trigger("a");
    wait_until(&daemon, "a file that knows of the run", || inode() != first);
    wait_until(&daemon, "a daemon with nothing to do", is_idle);
    daemon.terminate();
}

#[test]
fn a_success_before_a_failure_and_a_restart_is_known() {
    let place = Place::new(
        "metrics: { textfile: firelink.prom, every: 1s }\njobs: [{ name: a, trigger: manual, command: 'test ! -e broken' }]\n",
    );
    let daemon = place.start();
    daemon.trigger("a");
    place.write("broken", "");
    daemon.trigger("a");
    daemon.terminate();
    std::fs::remove_file(place.path("firelink.prom")).unwrap();
    let daemon = place.start();
    let succeeded = || value(&place.read("firelink.prom"), r#"firelink_last_success_timestamp_seconds{job_name="a"}"#);
    wait_until(&daemon, "the time of the success", || succeeded().is_some());
}

#[test]
fn a_missing_directory_is_a_warning_until_it_exists_and_jobs_run() {
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
fn a_reload_moves_and_removes_the_file() {
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
