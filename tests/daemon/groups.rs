//! Runs in control groups: only root can make one and say that it is delegated, and only where version 2 is mounted.

use std::path::{Path, PathBuf};

use super::support::{PATIENCE, Place};

/// A group of the test's own; its processes are ended and it is removed with it.
struct Group(PathBuf);

impl Group {
    /// `None`, with the reason printed, where there can be none.
    fn new() -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(point) = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4)) else {
            eprintln!("skipped: no cgroup file system of version 2 is mounted");
            return None;
        };
        let dir = Path::new(point).join(format!("firelink-test-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&dir) {
            eprintln!("skipped: no control group can be made: {error}");
            return None;
        }
        let group = Group(dir);
        let path = std::ffi::CString::new(group.0.to_str().unwrap()).unwrap();
        // SAFETY: strings that end with a NUL, and a value with its length.
        let set = unsafe { nix::libc::setxattr(path.as_ptr(), c"user.delegate".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
        if set != 0 {
            eprintln!("skipped: a control group takes no attribute: {}", std::io::Error::last_os_error());
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
        entries.filter(|name| name.starts_with("run-")).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        let deadline = std::time::Instant::now() + PATIENCE;
        let below = || std::fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        while self.0.exists() && std::time::Instant::now() < deadline {
            below().filter(|path| path.is_dir()).for_each(|path| drop(std::fs::remove_dir(path)));
            let _ = std::fs::remove_dir(&self.0);
        }
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A process that has left its group and its session and has thrown its environment away: nothing but the control group
/// tells whose it is. It says its pid through the pipe.
const HIDES: &str = "setsid env -i /bin/sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$PWD/pids\" &";

#[test]
fn a_run_with_limits_has_a_control_group_of_its_own_from_which_nothing_gets_away() {
    let Some(group) = Group::new() else { return };
    let place = Place::new(&format!(
        "jobs:\n  - name: limited\n    trigger: manual\n    limits: {{ pids: 100 }}\n    command: |\n      {HIDES}\n      read -r line < go\n"
    ));
    place.make_pipe("pids");
    place.make_pipe("go");
    // The daemon enters before it begins, as systemd has it.
    let state = place.state_dir().display().to_string();
    let shell = place.command(&[]);
    let firelink = shell.get_program().to_owned();
    let mut enter = std::process::Command::new("/bin/sh");
    enter.arg("-c").arg("echo $$ > \"$0/cgroup.procs\"; exec \"$@\"").arg(&group.0).arg(firelink);
    enter.args(["run", "firelink.yaml", "--state-dir", &state]).current_dir(place.path("."));
    for (name, value) in shell.get_envs() {
        match value {
            Some(value) => enter.env(name, value),
            None => enter.env_remove(name),
        };
    }
    let mut daemon = enter.stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the daemon answers", || place.firelink(&["ctl", "status"]).status.success());
    assert_eq!(group.inside("daemon"), [daemon.id().to_string()], "it has made room for groups of runs");

    place.prints(&["ctl", "trigger", "limited"]);
    let hidden = place.hear("pids");
    let runs = group.runs();
    assert_eq!(runs, ["run-1.1"]);
    assert!(group.inside(&runs[0]).contains(&hidden), "the hidden process is in it: {:?}", group.inside(&runs[0]));
    std::fs::write(place.path("go"), "on\n").unwrap();
    until("the run ends", || place.states("limited") == ["succeeded"]);
    until("the hidden process is gone", || !Path::new("/proc").join(&hidden).exists());
    until("and its group", || group.runs().is_empty());
    place.prints(&["stop"]);
    daemon.wait().unwrap();
}
