//! Jobs of another user, as root's daemon starts them: what they can reach of the daemon, and what they can't.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use super::pty::OnTerminal;
use super::skip::skip;
use super::support::Place;

const NOBODY: u32 = 65_534;

/// True as root; else the test is skipped.
fn is_root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        skip("only root can run a job as another user");
    }
    root
}

/// A place that others can pass through.
fn open_place(config: &str) -> Place {
    let place = Place::new(config);
    set_mode(&place.path("."), 0o711);
    place
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A file of nobody's, or another's.
fn file_of(place: &Place, name: &str, text: &str, uid: u32, mode: u32) {
    let path = place.write(name, text);
    chown(&path, Some(uid), Some(uid)).unwrap();
    set_mode(&path, mode);
}

/// The output of a run that succeeds.
fn output(place: &Place, job: &str) -> String {
    place.prints(&["ctl", "trigger", job, "--wait"]);
    place.prints(&["ctl", "logs", job])
}

/// The reason of a run that fails.
fn reason(place: &Place, job: &str) -> String {
    let refused = place.firelink(&["ctl", "trigger", job, "--wait"]);
    assert_eq!(refused.status.code(), Some(1));
    place.history(&["--job", job])[0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_has_no_terminal_even_if_the_daemon_has_one() {
    let place = Place::new(
        "jobs:\n  - { name: j, trigger: manual, command: 'if (: </dev/tty) 2>/dev/null; then echo yes; else echo no; fi' }\n",
    );
    let daemon = place.command(&["run", "firelink.yaml", "--state-dir", &place.state_dir().display().to_string()]);
    // The daemon leads a session on the terminal, as under a login shell.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "/bin/sh", "-c", "(: </dev/tty) && echo yes >has_one; exec \"$@\"", "sh"]);
    command.arg(daemon.get_program()).args(daemon.get_args()).current_dir(place.path("."));
    command.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = OnTerminal::start(command);
    terminal.wait_for("ask it from");
    assert_eq!(place.read("has_one"), "yes\n", "the daemon has a terminal");
    assert_eq!(output(&place, "j"), "no\n");
    place.prints(&["stop"]);
    terminal.wait();
}

#[test]
fn secrets_of_the_daemon_reach_no_job_of_another_user_that_does_not_name_them() {
    if !is_root() {
        return;
    }
    let place = open_place(
        "jobs:\n\
         \x20 - { name: own, trigger: manual, command: [env] }\n\
         \x20 - { name: other, trigger: manual, user: nobody, cwd: /, command: [env], env: { OWN: '1' } }\n\
         \x20 - { name: named, trigger: manual, user: nobody, cwd: /, command: [env], inherit_env: [AWS_SECRET_ACCESS_KEY, NONE] }\n\
         \x20 - { name: every, trigger: manual, user: nobody, cwd: /, command: [env], inherit_env: all }\n",
    );
    let place = place.with_env([("AWS_SECRET_ACCESS_KEY", "s3cret"), ("HTTPS_PROXY", "http://u:pw@p:1"), ("TZ", "UTC")]);
    let daemon = place.start();
    let has = |job: &str, name: &str| {
        output(&place, job).lines().any(|line| line.split_once('=').is_some_and(|(variable, _)| variable == name))
    };
    for (job, secret, proxy) in [("own", true, true), ("other", false, false), ("named", true, false), ("every", true, true)] {
        assert_eq!((has(job, "AWS_SECRET_ACCESS_KEY"), has(job, "HTTPS_PROXY")), (secret, proxy), "{job}");
    }
    let text = output(&place, "other");
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !name.starts_with("FIRELINK_"));
    names.sort_unstable();
    let mut expected = vec!["HOME", "LOGNAME", "OWN", "PATH", "SHELL", "TZ", "USER"];
    if std::env::var_os("LANG").is_some() {
        expected.insert(1, "LANG");
    }
    assert_eq!(names, expected);
    assert!(text.contains("USER=nobody\n"), "{text}");
    daemon.terminate();
}

#[test]
fn a_large_event_of_a_job_of_another_user_is_in_a_file_that_it_can_read_and_nobody_else_can() {
    if !is_root() {
        return;
    }
    let place = open_place(
        "jobs:\n  - name: j\n    trigger: { type: watch, source: in, existing: process, batch: true }\n    user: nobody\n    \
         command: 'wc -l < $FIRELINK_EVENT_FILE; id -un; cat $FIRELINK_EVENT_FILE | wc -c; stat -c %U:%a $FIRELINK_EVENT_FILE'\n",
    );
    std::fs::create_dir(place.path("in")).unwrap();
    for number in 0..400 {
        let path = place.write(&format!("in/{number}-{}", "x".repeat(200)), "");
        // Long ago: a young file may still be written to.
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3_600)).unwrap();
    }
    let daemon = place.start();
    let mut events = daemon.follow();
    if place.states("j").iter().all(|state| state != "succeeded") {
        assert_eq!(events.ended("j")["state"], "succeeded", "{}", place.prints(&["ctl", "logs", "j"]));
    }
    let text = place.prints(&["ctl", "logs", "j"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[1], lines[3]), ("nobody", "nobody:600"), "{text}");
    assert!(lines[2].parse::<usize>().unwrap() > 64 << 10, "{text}");
    let left = std::fs::read_dir(place.state_dir().join("events")).unwrap().count();
    assert_eq!(left, 0, "it is removed with the end of its run");
    daemon.terminate();
}

#[test]
fn paths_are_resolved_as_the_user_of_the_job() {
    if !is_root() {
        return;
    }
    let place = open_place(
        "jobs:\n\
         \x20 - { name: inside, trigger: manual, user: nobody, cwd: private/work, command: 'true' }\n\
         \x20 - { name: by_path, trigger: manual, user: nobody, cwd: /, command: [tool] }\n\
         \x20 - { name: env, trigger: manual, user: nobody, cwd: public, env_file: ../secret.env, command: [env] }\n\
         \x20 - { name: link, trigger: manual, user: nobody, cwd: public, env_file: link.env, command: [env] }\n\
         \x20 - { name: own, trigger: manual, user: nobody, cwd: public, env_file: own.env, command: [env] }\n",
    );
    for (name, mode) in [("private", 0o700), ("private/work", 0o777), ("first", 0o700), ("public", 0o755)] {
        std::fs::create_dir(place.path(name)).unwrap();
        set_mode(&place.path(name), mode);
    }
    file_of(&place, "first/tool", "#!/bin/sh\necho first\n", 0, 0o755);
    file_of(&place, "public/tool", "#!/bin/sh\necho public\n", 0, 0o755);
    file_of(&place, "secret.env", "SECRET=1\n", 0, 0o600);
    file_of(&place, "public/own.env", "SECRET=own\n", NOBODY, 0o400);
    std::os::unix::fs::symlink(place.path("secret.env"), place.path("public/link.env")).unwrap();
    let path = [place.path("first"), place.path("public"), "/usr/bin".into(), "/bin".into()];
    let path = std::env::join_paths(path).unwrap().into_string().unwrap();
    let place = place.with_env([("PATH", path)]);
    let daemon = place.start();
    let cwd = place.path("private/work").display().to_string();
    assert_eq!(reason(&place, "inside"), format!("the working directory {cwd} can't be used: Permission denied (os error 13)"));
    assert_eq!(output(&place, "by_path"), "public\n", "the first directory of PATH is closed to it");
    for job in ["env", "link"] {
        let reason = reason(&place, job);
        assert!(
            reason.starts_with("env_file ") && reason.ends_with("can't be read: Permission denied (os error 13)"),
            "{reason}"
        );
    }
    assert!(output(&place, "own").contains("SECRET=own\n"));
    daemon.terminate();
}

#[test]
fn a_daemon_whose_sandbox_forbids_clone3_starts_jobs_by_fork() {
    let place = Place::new("jobs:\n  - { name: j, trigger: manual, command: 'echo hello; exit 3', env_file: e }\n");
    place.write("e", "A=1\n");
    let mut command = place.command(&["run", "firelink.yaml", "--state-dir", &place.state_dir().display().to_string()]);
    // SAFETY: system calls on locals between fork and exec.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, forbid_clone3) };
    let daemon = place.start_by(command);
    assert_eq!(place.firelink(&["ctl", "trigger", "j", "--wait"]).status.code(), Some(1));
    assert_eq!(place.history(&[])[0]["exit_code"], 3);
    assert_eq!(place.prints(&["ctl", "logs", "j"]), "hello\n");
    daemon.terminate();
}

/// seccomp(2): clone3 answers ENOSYS, as in the default profiles of container engines.
fn forbid_clone3() -> std::io::Result<()> {
    use nix::libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
    let line = |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k };
    let number = u32::try_from(nix::libc::SYS_clone3).map_err(std::io::Error::other)?;
    let refused = nix::libc::SECCOMP_RET_ERRNO | nix::libc::ENOSYS.cast_unsigned();
    let mut filter = [
        line(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        line(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number),
        line(BPF_RET | BPF_K, 0, 0, refused),
        line(BPF_RET | BPF_K, 0, 0, nix::libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: prctl(2) on numbers and on a program that lives until it returns.
    let code = unsafe {
        nix::libc::prctl(nix::libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64);
        nix::libc::prctl(nix::libc::PR_SET_SECCOMP, 2_u64, &raw const program, 0_u64, 0_u64)
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_job_of_a_protected_daemon_is_not_protected_from_the_oom_killer() {
    let place = Place::new("jobs:\n  - { name: j, trigger: manual, command: 'cat /proc/$$/oom_score_adj' }\n");
    let mut command = place.command(&["run", "firelink.yaml", "--state-dir", &place.state_dir().display().to_string()]);
    // SAFETY: one write between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            let file = nix::fcntl::open("/proc/self/oom_score_adj", nix::fcntl::OFlag::O_WRONLY, nix::sys::stat::Mode::empty())?;
            // Without the right to it the daemon's score stays as it is.
            let _ = nix::unistd::write(&file, b"-500");
            Ok(())
        });
    }
    let daemon = place.start_by(command);
    let own = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid())).unwrap();
    if own.trim() == "-500" {
        assert_eq!(output(&place, "j"), "0\n");
        let after = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid())).unwrap();
        assert_eq!(after, own, "the daemon's own stays");
    } else {
        skip("only root can protect a process from the OOM killer");
    }
    daemon.terminate();
}

#[test]
fn a_script_without_a_first_line_is_run_by_the_shell_whatever_the_job_sets() {
    let place = Place::new(
        "jobs:\n\
         \x20 - { name: plain, trigger: manual, command: [./script, one] }\n\
         \x20 - { name: nice, trigger: manual, nice: 1, command: [./script, one] }\n",
    );
    set_mode(&place.write("script", "echo \"$0 $1\"\n"), 0o755);
    let daemon = place.start();
    for job in ["plain", "nice"] {
        assert_eq!(output(&place, job), "./script one\n", "{job}");
    }
    daemon.terminate();
}

#[test]
fn an_env_file_that_is_swapped_for_a_fifo_fails_its_run_and_holds_up_nothing() {
    let place = Place::new(
        "jobs:\n\
         \x20 - { name: fifo, trigger: manual, env_file: vars.env, command: 'true' }\n\
         \x20 - { name: other, trigger: manual, command: 'echo other' }\n",
    );
    place.write("vars.env", "A=1\n");
    let daemon = place.start();
    place.prints(&["ctl", "trigger", "fifo", "--wait"]);
    std::fs::remove_file(place.path("vars.env")).unwrap();
    place.make_pipe("vars.env");
    assert_eq!(reason(&place, "fifo"), format!("env_file {} is not a regular file", place.path("vars.env").display()));
    assert_eq!(output(&place, "other"), "other\n");
    daemon.terminate();
}
