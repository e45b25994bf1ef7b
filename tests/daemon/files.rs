//! The watch of a folder, on a real file system.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::support::{Daemon, Follower, Place, text};

fn inbox(more: &str) -> Place {
    Place::new(&format!(
        r#"
jobs:
  - name: each
    trigger: {{ type: watch, source: inbox{more} }}
    command: 'echo "$FIRELINK_FILE" >> ran'
    output: {{ keep_runs: 1000000 }}
"#
    ))
}

fn started(place: &Place) -> (Daemon<'_>, Follower) {
    let mut daemon = place.start();
    daemon.wait_for_log("each: the first scan is done");
    let events = daemon.follow();
    (daemon, events)
}

/// The names of all files that made a run, in the order of the runs.
fn names(place: &Place) -> Vec<String> {
    let name = |run: &Value| run["event"]["name"].as_str().map(str::to_owned);
    place.history(&["--job", "each"]).iter().rev().filter_map(name).collect()
}

#[test]
fn a_file_counts_when_it_is_closed_moved_in_or_linked_in_and_each_once() {
    let place = inbox("");
    fs::create_dir(place.path("inbox")).unwrap();
    place.write("inbox/old", "was there before");
    place.write("elsewhere", "1");
    let (daemon, mut events) = started(&place);
    place.write("inbox/written", "hello");
    events.ended("each");
    fs::rename(place.path("elsewhere"), place.path("inbox/moved")).unwrap();
    events.ended("each");
    fs::hard_link(place.path("inbox/old"), place.path("inbox/linked")).unwrap();
    events.ended("each");
    std::os::unix::fs::symlink(place.path("inbox/old"), place.path("inbox/symlink")).unwrap();
    events.ended("each");
    fs::create_dir(place.path("inbox/folder")).unwrap();
    place.write("inbox/folder/inside", "not watched");
    place.write("inbox/written", "changed");
    events.ended("each");
    fs::remove_file(place.path("inbox/written")).unwrap();
    place.write("inbox/written", "made again");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["written", "moved", "linked", "symlink", "written", "written"]);
    let run = &place.history(&[])[0];
    assert_eq!(run["event"]["size"], 10);
    let path = place.path("inbox/written");
    assert_eq!(run["event"]["path"], path.to_str().unwrap());
    assert_eq!(place.lines("ran").last().map(String::as_str), path.to_str());
}

#[test]
fn a_file_that_is_still_written_to_is_left_alone_until_it_is_closed() {
    use std::io::Write as _;
    let place = inbox("");
    fs::create_dir(place.path("inbox")).unwrap();
    let (daemon, mut events) = started(&place);
    let mut slow = fs::File::create(place.path("inbox/slow")).unwrap();
    slow.write_all(b"half").unwrap();
    place.write("inbox/quick", "1");
    events.ended("each");
    slow.write_all(b" and half").unwrap();
    drop(slow);
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["quick", "slow"]);
}

#[test]
fn what_came_while_the_daemon_was_off_is_found_and_nothing_is_repeated() {
    let place = inbox("");
    fs::create_dir(place.path("inbox")).unwrap();
    let (daemon, mut events) = started(&place);
    place.write("inbox/a", "1");
    events.ended("each");
    daemon.terminate();
    place.write("inbox/b", "2");
    place.write("inbox/a", "changed");
    let daemon = place.start();
    let mut events = daemon.follow();
    while names(&place).len() < 3 {
        events.ended("each");
    }
    daemon.terminate();
    let mut all = names(&place);
    all.sort();
    assert_eq!(all, ["a", "a", "b"]);
}

/// Writes a file that nobody can still be writing to: a start that does not know it makes a run of it at once.
fn write_long_ago(path: &std::path::Path) {
    let file = fs::File::create(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
}

#[test]
fn a_name_that_is_no_text_makes_a_run_which_gets_it_to_the_byte() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let place = inbox("");
    fs::create_dir(place.path("inbox")).unwrap();
    let (daemon, mut events) = started(&place);
    let path = place.path("inbox").join(std::ffi::OsStr::from_bytes(b"caf\xe9 \xff.csv"));
    write_long_ago(&path);
    events.ended("each");
    assert_eq!(daemon.status()["warnings"].to_string(), "[]");
    daemon.terminate();
    let daemon = place.start();
    let mut events = daemon.follow();
    place.write("inbox/other", "x");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["caf\u{fffd} \u{fffd}.csv", "other"], "it is known after a restart, too");
    let ran = fs::read(place.path("ran")).unwrap();
    assert_eq!(ran.split(|byte| *byte == b'\n').next().unwrap(), path.into_os_string().into_vec());
}

#[test]
fn a_file_that_left_among_thousands_and_came_again_is_not_forgotten() {
    use nix::sys::signal::Signal;
    let place = inbox(", filter: \"again*\"");
    fs::create_dir(place.path("inbox")).unwrap();
    for n in 0..2_500 {
        place.write(&format!("inbox/{n}"), "x");
    }
    place.write("inbox/again", "old");
    let (daemon, mut events) = started(&place);
    // The kernel keeps all of it for the daemon to find at once.
    daemon.signal(Signal::SIGSTOP);
    for n in 0..2_500 {
        fs::remove_file(place.path("inbox").join(n.to_string())).unwrap();
    }
    fs::remove_file(place.path("inbox/again")).unwrap();
    write_long_ago(&place.path("inbox/again"));
    daemon.signal(Signal::SIGCONT);
    events.ended("each");
    daemon.terminate();
    let daemon = place.start();
    let mut events = daemon.follow();
    place.write("inbox/again-and-again", "x");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["again", "again-and-again"]);
}

#[test]
fn a_folder_that_can_t_be_read_for_a_while_is_told_and_its_files_are_not_taken_as_gone() {
    use std::os::unix::fs::PermissionsExt;
    let place = inbox(", recursive: true, poll_interval: 1s");
    fs::create_dir_all(place.path("inbox/sub")).unwrap();
    if nix::unistd::Uid::effective().is_root() {
        super::skip::skip("root may read everything");
        return;
    }
    place.write("inbox/sub/old", "x");
    let (mut daemon, mut events) = started(&place);
    let allow = |mode| fs::set_permissions(place.path("inbox/sub"), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    daemon.wait_for_log("can't be read");
    allow(0o755);
    daemon.wait_for_log("works again");
    place.write("inbox/sub/new", "x");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["sub/new"]);
}

#[test]
fn what_the_kernel_could_not_tell_is_found_by_reading_and_makes_one_run_a_file() {
    use nix::sys::signal::Signal;
    let queue: usize = length_of_queue().unwrap_or(usize::MAX);
    if queue > 50_000 {
        super::skip::skip(format_args!("the kernel queues {queue} events, too many to overflow"));
        return;
    }
    let place = inbox(", batch: true");
    let config = place.read("firelink.yaml").lines().filter(|line| !line.contains("command:")).collect::<Vec<_>>().join("\n");
    place.write("firelink.yaml", &config);
    fs::create_dir(place.path("inbox")).unwrap();
    let (mut daemon, _) = started(&place);
    daemon.signal(Signal::SIGSTOP);
    // Made, and closed after writing: two events each.
    let files = queue / 2 + 1_000;
    (0..files).for_each(|n| drop(place.write(&format!("inbox/{n}"), "x")));
    daemon.signal(Signal::SIGCONT);
    daemon.wait_for_log("the inotify queue overflowed");
    let mut events = daemon.follow();
    let found = |run: &Value| run["event"]["count"].as_u64().unwrap();
    while (place.history(&[]).iter().map(found).sum::<u64>() as usize) < files {
        events.ended("each");
    }
    daemon.terminate();
    let of_run =
        |run: &Value| run["event"]["files"].as_array().unwrap().iter().map(|file| file["name"].to_string()).collect::<Vec<_>>();
    let mut all: Vec<String> = place.history(&[]).iter().flat_map(of_run).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (files, files));
}

/// The length of the kernel's queue of inotify events.
fn length_of_queue() -> Option<usize> {
    fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").ok()?.trim().parse().ok()
}

#[test]
fn existing_files_are_work_if_that_is_asked_for_and_a_batch_is_one_run() {
    let place = inbox(", existing: process, batch: true, filter: \"*.csv\"");
    fs::create_dir(place.path("inbox")).unwrap();
    for name in ["a.csv", "b.csv", "c.txt"] {
        let file = fs::File::create(place.path("inbox").join(name)).unwrap();
        // Long ago, so that nobody can still be writing to it.
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
    }
    let daemon = place.start();
    let mut events = daemon.follow();
    while place.history(&[]).iter().all(|run| run["state"] != "succeeded") {
        events.ended("each");
    }
    daemon.terminate();
    let runs = place.history(&[]);
    assert_eq!((runs.len(), &runs[0]["event"]["count"]), (1, &Value::from(2)));
}

#[test]
fn folders_in_the_folder_are_watched_when_that_is_asked_for() {
    let place = inbox(", recursive: true");
    fs::create_dir_all(place.path("inbox/there/deep")).unwrap();
    let (daemon, mut events) = started(&place);
    place.write("inbox/there/deep/a", "1");
    events.ended("each");
    fs::create_dir_all(place.path("inbox/new/deeper")).unwrap();
    place.write("inbox/new/deeper/b", "1");
    events.ended("each");
    fs::rename(place.path("inbox/there"), place.path("outside")).unwrap();
    place.write("outside/deep/not-watched", "1");
    place.write("inbox/new/c", "1");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["there/deep/a", "new/deeper/b", "new/c"]);
}

#[test]
fn a_folder_that_is_not_there_is_waited_for_also_when_it_is_removed_and_made_again() {
    let place = inbox("");
    let mut daemon = place.start();
    let mut events = daemon.follow();
    daemon.wait_for_log("each: the first scan is done");
    assert!(daemon.status()["warnings"].to_string().contains("does not exist; it is watched as soon as it does"));
    fs::create_dir(place.path("inbox")).unwrap();
    place.write("inbox/first", "nothing was there before, so this is new");
    events.ended("each");
    fs::remove_dir_all(place.path("inbox")).unwrap();
    daemon.wait_for_log("does not exist; it is watched as soon as it does");
    fs::create_dir(place.path("inbox")).unwrap();
    place.write("inbox/second", "1");
    events.ended("each");
    assert_eq!(daemon.status()["warnings"].to_string(), "[]");
    daemon.terminate();
    assert_eq!(names(&place), ["first", "second"]);
}

#[test]
fn a_file_system_without_inotify_is_read_now_and_then_and_stable_for_waits() {
    let place = inbox(", poll_interval: 1s, stable_for: 500ms");
    fs::create_dir(place.path("inbox")).unwrap();
    let (daemon, mut events) = started(&place);
    place.write("inbox/a", "1");
    events.ended("each");
    daemon.terminate();
    assert_eq!(names(&place), ["a"]);
}

#[test]
fn thousands_of_files_at_full_speed_make_a_run_each_also_across_crashes() {
    const FILES: usize = 1_000;
    let place = inbox(", recursive: true, filter: \"*.x\"");
    place.write("firelink.yaml", &place.read("firelink.yaml").replace("    command:", "    concurrency: allow\n    command:"));
    fs::create_dir(place.path("inbox")).unwrap();
    let (daemon, mut events) = started(&place);
    let drop_files = |round: usize| {
        for index in 0..FILES {
            let folder = place.path("inbox").join(format!("{round}-{}", index % 10));
            let _ = fs::create_dir(&folder);
            fs::write(folder.join(format!("{index}.x")), "1").unwrap();
            fs::write(folder.join(format!("{index}.ignored")), "1").unwrap();
        }
    };
    drop_files(0);
    // In the middle of it.
    for _ in 0..200 {
        events.started("each");
    }
    daemon.crash();
    drop_files(1);
    let daemon = place.start();
    let mut events = daemon.follow();
    let over = || {
        let runs = place.history(&["--job", "each"]);
        runs.len() >= 2 * FILES && runs.iter().all(|run| run["state"] != "pending" && run["state"] != "running")
    };
    while !over() {
        for _ in 0..50 {
            if place.history(&["--state", "pending"]).is_empty() && over() {
                break;
            }
            events.ended("each");
        }
    }
    daemon.terminate();
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    names(&place).into_iter().for_each(|name| *by_name.entry(name).or_default() += 1);
    assert_eq!(by_name.len(), 2 * FILES, "every file has a run");
    assert!(by_name.values().all(|count| *count == 1), "and no file has two");
    let ran = place.lines("ran");
    let once: std::collections::BTreeSet<&String> = ran.iter().collect();
    assert_eq!(ran.len(), once.len(), "no file was handed to two processes");
}

#[test]
fn keys_of_buckets_and_folders_are_told_apart() {
    let place = Place::new(
        "jobs:\n  - { name: a, trigger: { type: watch, source: \"s3://bucket/\", recursive: true } }\n  - { name: b, trigger: { type: watch, source: \"\" } }\n",
    );
    let check = place.firelink(&["check", "firelink.yaml"]);
    assert_eq!(check.status.code(), Some(2));
    let said = text(&check.stderr);
    assert!(said.contains("`recursive` is for folders") && said.contains("`source` is empty"), "{said}");
}

/// `FIRELINK_STRESS_FILES=50000` drops that many.
#[test]
fn a_tree_that_is_filled_at_full_speed_makes_a_run_of_each_file() {
    let count: usize = std::env::var("FIRELINK_STRESS_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let place = Place::new(
        "jobs:\n  - { name: each, trigger: { type: watch, source: tree, recursive: true }, output: { keep_runs: 1000000 } }\n",
    );
    std::fs::create_dir(place.path("tree")).unwrap();
    let (daemon, mut events) = started(&place);
    // Folders come into being while they are filled, some with their content already in them.
    let folder = |file: usize| format!("tree/{}/{}", file % 7, file / 1_000);
    for file in 0..count {
        if file / 1_000 != file.saturating_sub(7) / 1_000 || file < 7 {
            std::fs::create_dir_all(place.path(&folder(file))).unwrap();
        }
        place.write(&format!("{}/{file}", folder(file)), "x");
    }
    for _ in 0..count {
        events.ended("each");
    }
    daemon.terminate();
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    names(&place).into_iter().for_each(|name| *by_name.entry(name).or_default() += 1);
    assert_eq!(by_name.len(), count, "every file has a run");
    assert!(by_name.values().all(|runs| *runs == 1), "and no file has two");
}
