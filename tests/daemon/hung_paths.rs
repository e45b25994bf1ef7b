//! What the daemon itself looks at lies on a mount that does not answer: watched folders, the metrics file, the copy of the
//! state, and the paths that a configuration names. Only what needs the mount waits for it: not the loop, not other jobs, not
//! the daemon's end.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::hung_mount::HungMount;
use super::support::{Daemon, Follower, Place, TEST_TIMEOUT, text};

/// A job that goes on meanwhile.
const TICK: &str = "  - { name: tick, trigger: { type: interval, every: 100ms } }\n";

/// How long the daemon may take to end: longer than it waits for a mount once, and shorter than twice.
const END: Duration = Duration::from_secs(9);

/// A place whose directory `mnt` is a mount that can hang.
fn place(top: &str, jobs: &str) -> Option<(Place, HungMount)> {
    let place = Place::new(&format!("{top}\njobs:\n{TICK}{jobs}"));
    std::fs::create_dir(place.path("mnt")).unwrap();
    let mount = HungMount::new(&place.path("mnt"))?;
    Some((place, mount))
}

/// Other jobs go on, and questions are answered.
fn assert_alive(daemon: &Daemon<'_>, events: &mut Follower) -> Value {
    let started = Instant::now();
    (0..5).for_each(|_| drop(events.ended("tick")));
    let status = daemon.status();
    assert!(started.elapsed() < TEST_TIMEOUT / 2, "it took {:?}", started.elapsed());
    status
}

/// SIGTERM, and the end; the mount does not answer. Returns the log.
fn assert_ends(daemon: Daemon<'_>) -> Vec<String> {
    let started = Instant::now();
    let log = daemon.terminate();
    assert!(started.elapsed() < END, "it took {:?}", started.elapsed());
    log
}

fn warnings(daemon: &Daemon<'_>) -> String {
    daemon.status()["warnings"].to_string()
}

/// Waits until a warning of `status` has this text.
fn wait_for_warning(daemon: &Daemon<'_>, part: &str) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !warnings(daemon).contains(part) {
        assert!(Instant::now() < deadline, "{part}: {}", warnings(daemon));
    }
}

/// Waits until `status` has no warning.
fn wait_for_no_warning(daemon: &Daemon<'_>) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while daemon.status()["warnings"] != serde_json::json!([]) {
        assert!(Instant::now() < deadline, "{}", warnings(daemon));
    }
}

/// Waits until a file of the mount has other contents than `before`.
fn wait_for_write(mount: &HungMount, file: &str, before: Option<&str>) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while mount.read(file).as_deref() == before {
        assert!(Instant::now() < deadline, "{file} is not written");
    }
}

/// The children of the daemon that look at files.
fn helpers(daemon: &Daemon<'_>) -> Vec<String> {
    let pid = daemon.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let name = |pid: &str| std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).unwrap_or_default();
    children.split_whitespace().filter(|pid| name(pid).trim() == "firelink-files").map(str::to_owned).collect()
}

#[test]
fn a_watched_folder_that_hangs_at_the_start_is_watched_once_it_answers() {
    let watch = "  - { name: each, trigger: { type: watch, source: mnt/in, existing: process }, command: 'true' }\n";
    let Some((place, mount)) = place("", watch) else { return };
    mount.file("in/a", "1", 0o644);
    mount.hang();
    let daemon = place.start();
    let mut events = daemon.follow();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    wait_for_warning(&daemon, "mnt/in can't be watched: it did not answer within 5s; it is tried again in 30s");
    assert_alive(&daemon, &mut events);
    // Long before the next try: the process that hung ends.
    mount.answer();
    assert_eq!(events.ended("each")["state"], "succeeded");
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    // By inotify, which reports what is done through this machine's kernel.
    place.write("mnt/in/b", "2");
    events.ended("each");
    // Nothing is asked of the mount at the end.
    mount.hang();
    assert_ends(daemon);
}

#[test]
fn a_watched_folder_that_hangs_at_the_start_does_not_keep_the_daemon_from_ending() {
    let watch = "  - { name: each, trigger: { type: watch, source: mnt/in }, command: 'true' }\n";
    let Some((place, mount)) = place("", watch) else { return };
    mount.dir("in");
    mount.hang();
    let daemon = place.start();
    let mut events = daemon.follow();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    assert_ends(daemon);
    assert!(mount.waiting() > 0, "it still hangs");
}

#[test]
fn a_polled_folder_that_hangs_is_polled_again_once_it_answers() {
    let watch =
        "  - { name: each, trigger: { type: watch, source: mnt/in, poll_interval: 1s, stable_for: 100ms }, command: 'true' }\n";
    let Some((place, mount)) = place("", watch) else { return };
    mount.dir("in");
    let mut daemon = place.start();
    daemon.wait_for_log("each: the first scan is done");
    let mut events = daemon.follow();
    mount.file("in/a", "1", 0o644);
    events.ended("each");
    mount.hang();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    wait_for_warning(&daemon, "did not answer within 5s");
    assert_alive(&daemon, &mut events);
    mount.file("in/b", "2", 0o644);
    mount.answer();
    events.ended("each");
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    mount.hang();
    mount.wait_until_asked(1);
    assert_ends(daemon);
    let names: Vec<String> = place.history(&["--job", "each"]).iter().map(|run| run["event"]["name"].to_string()).collect();
    assert_eq!(names, ["\"b\"", "\"a\""]);
}

#[test]
fn a_mount_that_hangs_below_a_local_folder_holds_up_no_file_beside_it() {
    let watch = "  - { name: each, trigger: { type: watch, source: ., recursive: true, filter: '*.in' }, command: 'true' }\n";
    let Some((place, mount)) = place("", watch) else { return };
    mount.dir("below");
    mount.hang();
    let mut daemon = place.start();
    let mut events = daemon.follow();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    daemon.wait_for_log("each: the first scan is done");
    assert!(warnings(&daemon).contains("mnt can't be watched: it did not answer within 5s"), "{}", warnings(&daemon));
    place.write("a.in", "1");
    events.ended("each");
    // A link that leads there, too.
    std::os::unix::fs::symlink(place.path("mnt/below"), place.path("link.in")).unwrap();
    mount.wait_until_asked(2);
    place.write("b.in", "1");
    events.ended("each");
    assert_ends(daemon);
}

#[test]
fn a_mount_that_is_put_over_a_watched_folder_and_hangs_holds_up_nothing() {
    let place = Place::new(&format!(
        "jobs:\n{TICK}  - {{ name: each, trigger: {{ type: watch, source: mnt, poll_interval: 1s }}, command: 'true' }}\n"
    ));
    std::fs::create_dir(place.path("mnt")).unwrap();
    let mut daemon = place.start();
    daemon.wait_for_log("each: the first scan is done");
    let mut events = daemon.follow();
    let Some(mount) = HungMount::new(&place.path("mnt")) else { return };
    mount.hang();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    wait_for_warning(&daemon, "mnt can't be watched: it did not answer within 5s");
    assert_alive(&daemon, &mut events);
    mount.file("a", "1", 0o644);
    mount.answer();
    events.ended("each");
    mount.hang();
    assert_ends(daemon);
}

#[test]
fn scripts_and_directories_on_a_mount_that_hangs_hold_up_neither_start_nor_reload_and_check_says_so() {
    let jobs = "  - { name: a, trigger: manual, executor: { type: sh, script: mnt/job.sh } }\n  \
                - { name: b, trigger: manual, cwd: mnt/work, env_file: vars, command: [./there] }\n  \
                - { name: c, trigger: { type: plugin, command: [mnt/plugin] }, command: 'true', enabled: false }\n";
    let Some((place, mount)) = place("metrics: { textfile: mnt/numbers/a.prom }", jobs) else { return };
    mount.hang();
    let started = Instant::now();
    let check = place.firelink(&["check", "firelink.yaml"]);
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    let told = text(&check.stderr);
    assert_eq!(check.status.code(), Some(0), "{told}");
    for path in ["mnt/job.sh", "mnt/work", "mnt/work/vars", "mnt/work/./there", "mnt/plugin", "mnt/numbers"] {
        assert!(told.contains(&format!("{path} did not answer within 5s")), "{path}: {told}");
    }
    let daemon = place.start();
    let mut events = daemon.follow();
    assert_alive(&daemon, &mut events);
    place.write("firelink.yaml", &format!("{}  - {{ name: d, trigger: manual, cwd: mnt/more }}\n", place.read("firelink.yaml")));
    assert_eq!(place.json(&["ctl", "reload", "--dry-run", "--format", "json"])["added"], serde_json::json!(["d"]));
    assert_eq!(place.json(&["ctl", "reload", "--format", "json"])["added"], serde_json::json!(["d"]));
    daemon.signal(Signal::SIGHUP);
    assert_alive(&daemon, &mut events);
    assert_ends(daemon);
}

#[test]
fn a_metrics_file_on_a_mount_that_hangs_is_a_warning_until_it_is_written() {
    let Some((place, mount)) = place("metrics: { textfile: mnt/a.prom, every: 1s }", "") else { return };
    let daemon = place.start();
    let mut events = daemon.follow();
    wait_for_write(&mount, "a.prom", None);
    mount.hang();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    wait_for_warning(&daemon, "a.prom can't be written: it did not answer within 5s");
    let before = mount.read("a.prom");
    mount.answer();
    wait_for_write(&mount, "a.prom", before.as_deref());
    wait_for_no_warning(&daemon);
    mount.hang();
    mount.wait_until_asked(1);
    let log = assert_ends(daemon);
    let last = log.iter().filter(|line| line.contains("the daemon ends without having written it")).count();
    assert_eq!(last, 1, "{}", log.join("\n"));
}

#[test]
fn a_copy_of_the_state_to_a_mount_that_hangs_is_a_warning_until_it_is_made() {
    let Some((place, mount)) = place("state: { sync_to: mnt/copy, sync_every: 1s }", "") else { return };
    let daemon = place.start();
    let mut events = daemon.follow();
    wait_for_write(&mount, "copy/state.db", None);
    mount.hang();
    mount.wait_until_asked(1);
    assert_alive(&daemon, &mut events);
    wait_for_warning(&daemon, "can't copy the state to");
    assert!(warnings(&daemon).contains("it did not answer within 5s"), "{}", warnings(&daemon));
    mount.answer();
    wait_for_no_warning(&daemon);
    mount.hang();
    mount.wait_until_asked(1);
    let log = assert_ends(daemon);
    assert!(log.iter().any(|line| line.contains("the daemon ends without a last copy")), "{}", log.join("\n"));
}

#[test]
fn a_copy_that_hangs_when_it_is_to_be_restored_is_kept_beside_the_next_one() {
    let Some((place, mount)) = place("state: { sync_to: mnt/copy, sync_every: 1s }", "") else { return };
    mount.file("copy/state.db", "the only copy", 0o600);
    mount.hang();
    let daemon = place.start();
    let mut events = daemon.follow();
    assert_alive(&daemon, &mut events);
    assert!(warnings(&daemon).contains("could not be restored: it did not answer within 5 s"), "{}", warnings(&daemon));
    mount.answer();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while mount.read("copy/state.db").is_none_or(|copy| copy == "the only copy") {
        assert!(Instant::now() < deadline, "no copy");
    }
    daemon.terminate();
    let kept: Vec<String> = std::fs::read_dir(place.path("mnt/copy"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("state.db.kept-"))
        .collect();
    let [kept] = &kept[..] else { panic!("one copy is kept: {kept:?}") };
    assert!(mount.read(&format!("copy/{kept}")).is_some_and(|copy| copy == "the only copy"), "another copy is kept");
}

#[test]
fn a_process_that_looks_at_files_and_is_killed_is_replaced() {
    let watch = "  - { name: each, trigger: { type: watch, source: mnt, poll_interval: 1s }, command: 'true' }\n";
    let Some((place, mount)) = place("", watch) else { return };
    let mut daemon = place.start();
    daemon.wait_for_log("each: the first scan is done");
    let mut events = daemon.follow();
    // It does not end by itself while the folder is polled.
    let killed = helpers(&daemon);
    assert_eq!(killed.len(), 1);
    let pid = nix::unistd::Pid::from_raw(killed[0].parse().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    mount.file("a", "1", 0o644);
    events.ended("each");
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    let now = helpers(&daemon);
    assert!(now.len() == 1 && now != killed, "{killed:?} and {now:?}");
    daemon.terminate();
}

#[test]
fn the_process_that_looks_at_files_ends_when_nothing_is_asked_and_is_reaped() {
    let place =
        Place::new(&format!("jobs:\n{TICK}  - {{ name: each, trigger: {{ type: watch, source: in }}, command: 'true' }}\n"));
    std::fs::create_dir(place.path("in")).unwrap();
    let mut daemon = place.start();
    daemon.wait_for_log("each: the first scan is done");
    let mut events = daemon.follow();
    assert_eq!(helpers(&daemon).len(), 1);
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !helpers(&daemon).is_empty() {
        assert!(Instant::now() < deadline, "it does not end");
        events.ended("tick");
    }
    // On a local file system nobody is asked again.
    place.write("in/a", "1");
    events.ended("each");
    assert!(helpers(&daemon).is_empty(), "{:?}", helpers(&daemon));
    daemon.terminate();
}
