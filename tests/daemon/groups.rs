//! Runs in control groups: only root can make one and say that it is delegated, and only where version 2 is mounted.

use std::path::{Path, PathBuf};

use super::skip::skip;
use super::support::{Daemon, Place, TEST_TIMEOUT, is_alive};

/// A group of the test's own; its processes are ended and it is removed with it.
struct Group(PathBuf);

impl Group {
    /// `None`, and the test skipped, where there can be none.
    fn new(name: &str) -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(point) = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4)) else {
            skip("no cgroup file system of version 2 is mounted");
            return None;
        };
        let dir = Path::new(point).join(format!("firelink-test-{name}-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&dir) {
            skip(format_args!("no control group can be made: {error}"));
            return None;
        }
        let group = Group(dir);
        let path = std::ffi::CString::new(group.0.to_str().unwrap()).unwrap();
        // SAFETY: strings that end with a NUL, and a value with its length.
        let set = unsafe { nix::libc::setxattr(path.as_ptr(), c"user.delegate".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
        if set != 0 {
            skip(format_args!("a control group takes no attribute: {}", std::io::Error::last_os_error()));
            return None;
        }
        Some(group)
    }

    fn inside(&self, group: &str) -> Vec<String> {
        let path = self.0.join(group).join("cgroup.procs");
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn runs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| name.starts_with("run-") || name.starts_with("main-")).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        let deadline = std::time::Instant::now() + TEST_TIMEOUT;
        let below = || std::fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        while self.0.exists() && std::time::Instant::now() < deadline {
            below().filter(|path| path.is_dir()).for_each(|path| drop(std::fs::remove_dir(path)));
            let _ = std::fs::remove_dir(&self.0);
        }
    }
}

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A process that has left its group and its session and has thrown its environment away: nothing but the control group
/// tells whose it is. It says its pid through the pipe.
const HIDES: &str = "setsid env -i /bin/sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$PWD/pids\" &";

/// A job with limits, and a run that ends with code 3 once it is asked to.
fn place() -> Place {
    place_with("")
}

fn place_with(more: &str) -> Place {
    let place = Place::new(&format!(
        "jobs:\n  - {{ name: quick, trigger: manual, command: 'true' }}\n  \
         - name: limited\n    trigger: manual\n    limits: {{ pids: 100 }}\n{more}    command: |\n      {HIDES}\n      read -r line < go\n      exit 3\n"
    ));
    place.make_pipe("pids");
    place.make_pipe("go");
    place
}

/// A daemon that is in the group before it begins, as systemd has it.
fn start<'p>(place: &'p Place, group: &Path) -> Daemon<'p> {
    let state = place.state_dir().display().to_string();
    let direct = place.command(&["run", "firelink.yaml", "--state-dir", &state]);
    let mut enter = std::process::Command::new("/bin/sh");
    enter.args(["-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(group.join("cgroup.procs"));
    enter.arg(direct.get_program()).args(direct.get_args()).current_dir(place.path("."));
    for (name, value) in direct.get_envs() {
        match value {
            Some(value) => enter.env(name, value),
            None => enter.env_remove(name),
        };
    }
    place.start_by(enter)
}

#[test]
fn a_run_with_limits_has_a_control_group_of_its_own_from_which_nothing_gets_away() {
    let Some(group) = Group::new("alone") else { return };
    let place = place();
    let daemon = start(&place, &group.0);
    assert_eq!(group.inside("daemon"), [daemon.pid().to_string()], "it has made room for groups of runs");
    let mut events = daemon.follow();
    place.prints(&["ctl", "trigger", "limited"]);
    let hidden = place.hear("pids");
    let runs = group.runs();
    assert_eq!(runs, ["run-1.1"]);
    assert!(group.inside(&runs[0]).contains(&hidden), "the hidden process is in it: {:?}", group.inside(&runs[0]));
    // A group that a job has made in its own does not keep that from being removed.
    std::fs::create_dir(group.0.join(&runs[0]).join("inner")).unwrap();
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("limited")["state"], "failed");
    assert_eq!(place.history(&["--job", "limited"])[0]["exit_code"], 3);
    until("the hidden process is gone", || !Path::new("/proc").join(&hidden).exists());
    until("and its group", || group.runs().is_empty());
    daemon.terminate();
}

#[test]
fn a_run_keeps_its_group_when_the_daemon_replaces_itself_and_what_a_dead_daemon_left_in_one_ends_with_the_next() {
    let Some(group) = Group::new("next") else { return };
    let place = place();
    let mut daemon = start(&place, &group.0);
    place.prints(&["ctl", "trigger", "limited"]);
    let hidden = place.hear("pids");
    place.prints(&["ctl", "reload", "--exec"]);
    daemon.wait_for_log("goes on");
    daemon.wait_for_log("ask it from another terminal");
    assert_eq!(group.runs(), ["run-1.1"]);
    assert!(is_alive(&hidden));
    let mut events = daemon.follow();
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("limited")["state"], "failed");
    assert_eq!(place.history(&["--job", "limited"])[0]["exit_code"], 3);
    until("the hidden process is gone", || !is_alive(&hidden));
    until("and its group", || group.runs().is_empty());

    place.prints(&["ctl", "trigger", "limited"]);
    let hidden = place.hear("pids");
    daemon.crash();
    // The run ends while there is no daemon; the hidden process does not.
    std::fs::write(place.path("go"), "on\n").unwrap();
    until("the run has ended", || group.inside("run-2.1") == [hidden.clone()]);
    let _daemon = start(&place, &group.0.join("daemon"));
    until("the hidden process is gone", || !is_alive(&hidden));
    until("and its group", || group.runs().is_empty());
    let states = place.states("limited");
    // Whether the end can be learned depends on who has reaped it meanwhile.
    assert!(states == ["failed", "lost"] || states == ["failed", "failed"], "{states:?}");
}

#[test]
fn what_a_run_with_kill_mode_main_leaves_goes_on_in_its_group_which_is_removed_once_it_is_empty() {
    let Some(group) = Group::new("main") else { return };
    let place = place_with("    kill_mode: main\n");
    let check = place.firelink(&["check", "firelink.yaml"]);
    let warnings = String::from_utf8(check.stderr).unwrap();
    assert!(warnings.contains("go on to bound what a run leaves behind"), "{warnings}");
    let daemon = start(&place, &group.0);
    let mut events = daemon.follow();
    place.prints(&["ctl", "trigger", "limited"]);
    let hidden = place.hear("pids");
    assert_eq!(group.runs(), ["main-1.1"]);
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("limited")["state"], "failed");
    (0..2).for_each(|_| assert_eq!(daemon.trigger("quick")["state"], "succeeded"));
    assert!(is_alive(&hidden));
    assert_eq!(group.inside("main-1.1"), std::slice::from_ref(&hidden));
    daemon.terminate();
    assert!(is_alive(&hidden));
    let daemon = start(&place, &group.0.join("daemon"));
    assert!(is_alive(&hidden), "the next daemon leaves it alone, too");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(hidden.parse().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("its group is removed", || {
        assert_eq!(daemon.trigger("quick")["state"], "succeeded");
        group.runs().is_empty()
    });
    daemon.terminate();
}
