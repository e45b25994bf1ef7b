//! A file system that stops answering holds up the job that needs it, and nothing else: other jobs fire, `status` answers, and
//! SIGTERM ends the daemon.

use std::time::{Duration, Instant};

use super::hung_mount::HungMount;
use super::support::{Daemon, Place, TEST_TIMEOUT};

/// A job that fires all the time beside `more`, in which `MNT` is the mount.
fn place(more: &str) -> Option<(Place, HungMount)> {
    let place = Place::new("");
    std::fs::create_dir(place.path("mnt")).unwrap();
    let mount = HungMount::new(&place.path("mnt"))?;
    let config = format!(
        "shutdown_timeout: 20s\ndefaults: {{ kill_grace: 1s }}\njobs:\n  - {{ name: tick, trigger: {{ type: interval, every: 100ms }}, command: 'echo >> ticks' }}\n{more}\n"
    );
    place.write("firelink.yaml", &config.replace("MNT", &place.path("mnt").display().to_string()));
    mount.dir("work");
    mount.dir("bin");
    mount.file("prog.sh", "#!/bin/sh\necho program\n", 0o755);
    mount.file("bin/tool", "#!/bin/sh\necho tool\n", 0o755);
    mount.file("job.sh", "echo script\n", 0o644);
    mount.file("vars.env", "FROM_FILE=1\n", 0o644);
    mount.file("data", "data\n", 0o644);
    Some((place, mount))
}

/// Triggers the job and returns its run's number.
fn trigger(place: &Place) -> u64 {
    place.json(&["ctl", "trigger", "t", "--format", "json"])["id"].as_u64().expect("a run")
}

/// Other jobs go on, and the daemon answers.
fn goes_on(place: &Place, daemon: &Daemon<'_>) {
    let before = place.lines("ticks").len();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while place.lines("ticks").len() < before + 5 {
        assert!(Instant::now() < deadline, "the other job does not fire");
        assert_eq!(daemon.status()["pid"], daemon.pid());
    }
}

/// Each job waits for the mount until it answers, and runs then; another one's wait ends with the daemon.
fn holds_up_its_job_alone(job: &str, expected: &str) {
    let Some((place, mount)) = place(job) else { return };
    let daemon = place.start();
    let mut events = daemon.follow();
    mount.hang();
    trigger(&place);
    mount.wait_until_asked(1);
    goes_on(&place, &daemon);
    assert_eq!(daemon.job("t")["state"], "running");
    mount.answer();
    let ended = events.ended("t");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(place.prints(&["ctl", "logs", "t"]).trim(), expected);

    mount.hang();
    trigger(&place);
    mount.wait_until_asked(1);
    let log = daemon.terminate();
    assert!(log.iter().any(|line| line.ends_with("stopped")), "{log:?}");
    let run = &place.history(&["--job", "t"])[0];
    assert_eq!(run["state"], "failed", "{run}");
    let reason = run["reason"].as_str().unwrap();
    assert!(reason.contains("was not started in time: ") && reason.ends_with("does its file system answer?"), "{reason}");
}

#[test]
fn as_the_working_directory() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, cwd: MNT/work, command: 'echo hello' }", "hello");
}

#[test]
fn as_the_working_directory_of_another_user() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, user: nobody, cwd: MNT/work, command: 'id -un' }", "nobody");
}

#[test]
fn with_the_program() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, command: [MNT/prog.sh] }", "program");
}

#[test]
fn in_the_path() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, env: { PATH: 'MNT/bin:/usr/bin:/bin' }, command: [tool] }", "tool");
}

#[test]
fn with_the_script() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, executor: { type: sh, script: MNT/job.sh } }", "script");
}

#[test]
fn with_the_env_file() {
    holds_up_its_job_alone("  - { name: t, trigger: manual, env_file: MNT/vars.env, command: 'echo $FROM_FILE' }", "1");
}

#[test]
fn a_hook_waits_alone_and_a_stop_does_not_wait_for_it() {
    let job = "  - { name: t, trigger: manual, cwd: MNT/work, command: 'echo > MNT/../started; read x < MNT/../go', on_success: 'echo hook' }";
    let Some((place, mount)) = place(job) else { return };
    place.make_pipe("go");
    place.make_pipe("started");
    let daemon = place.start();
    let mut events = daemon.follow();
    trigger(&place);
    place.hear("started");
    mount.hang();
    std::fs::write(place.path("go"), "on\n").unwrap();
    assert_eq!(events.ended("t")["state"], "succeeded");
    mount.wait_until_asked(1);
    goes_on(&place, &daemon);
    daemon.terminate();
}

#[test]
fn a_plugin_waits_alone_and_starts_when_the_mount_answers() {
    let job = "  - { name: t, trigger: { type: plugin, command: [MNT/plugin.sh] }, command: 'echo run' }";
    let Some((place, mount)) = place(job) else { return };
    mount.file("plugin.sh", "#!/bin/sh\necho '{}'\nexec sleep 1000\n", 0o755);
    mount.hang();
    let daemon = place.start();
    mount.wait_until_asked(1);
    goes_on(&place, &daemon);
    let mut events = daemon.follow();
    mount.answer();
    assert_eq!(events.ended("t")["state"], "succeeded");
    daemon.terminate();

    mount.hang();
    let daemon = place.start();
    mount.wait_until_asked(1);
    daemon.terminate();
}

#[test]
fn a_process_that_can_not_be_killed_does_not_keep_the_daemon_from_stopping() {
    let job = "  - { name: t, trigger: manual, timeout: 1s, command: ['/bin/cat', 'MNT/data'] }";
    let Some((place, mount)) = place(job) else { return };
    let mut daemon = place.start();
    mount.hang();
    trigger(&place);
    mount.wait_until_asked(1);
    daemon.wait_for_log("does not die of SIGKILL");
    goes_on(&place, &daemon);
    let log = daemon.terminate();
    assert!(log.iter().any(|line| line.contains("stopping without the end of what can't be killed")), "{log:?}");
    // The next daemon watches it to its end.
    let daemon = place.start();
    let mut events = daemon.follow();
    assert_eq!(daemon.job("t")["state"], "running");
    mount.answer();
    assert_eq!(events.ended("t")["job"], "t");
    daemon.terminate();
}

#[test]
fn a_start_that_hangs_fails_after_its_limit_and_is_cancelled_sooner() {
    let job = "  - { name: t, trigger: manual, cwd: MNT/work, command: 'echo hello', retry: 2 }";
    let Some((place, mount)) = place(job) else { return };
    let daemon = place.start();
    let mut events = daemon.follow();
    mount.hang();
    let began = Instant::now();
    let run = trigger(&place);
    mount.wait_until_asked(1);
    place.prints(&["ctl", "cancel", &run.to_string()]);
    let ended = events.ended("t");
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(began.elapsed() < Duration::from_secs(25), "it waits for the grace and a second, not for the limit of a start");
    mount.answer();
    daemon.terminate();
}
