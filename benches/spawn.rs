//! From start to exit of `/bin/true`: `exec::spawn` beside posix_spawn(3) itself and `std::process::Command`, in turns
//! within one process, as a ratio to posix_spawn. `cargo bench --bench spawn`; a number of rounds may follow `--`.
//!
//! `exec::spawn` does more: a pipe for the output, a pidfd, the process's start time from `/proc`, variables of its
//! own, a session of its own, and every other descriptor closed. A ratio near 1 says that none of it matters beside what the
//! kernel does for any process. As root, also as another user.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firelink::exec::spec::{Action, Capture, ExecSpec, Limits};
use firelink::exec::{Launch, spawn};
use firelink::model::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};

const PROGRAM: &str = "/bin/true";

/// Processes that one way starts before the next one has its turn, so that what else the machine does meets all alike.
const TURN: usize = 50;

fn raw() {
    let path: &CStr = c"/bin/true";
    let env: Vec<CString> = std::env::vars().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok()).collect();
    let actions = PosixSpawnFileActions::init().expect("actions");
    let attributes = PosixSpawnAttr::init().expect("attributes");
    let pid = posix_spawn(path, &actions, &attributes, &[path], &env).expect("posix_spawn");
    assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Exited(_, 0))));
}

fn std_command() {
    let mut command = Command::new(PROGRAM);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("std's spawn").success());
}

fn wait_readable(fd: BorrowedFd<'_>) {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::NONE).expect("poll");
}

fn ours(exec: &ExecSpec) {
    let action = Action::Argv([Box::from(PROGRAM)].into());
    let vars = [("FIRELINK_JOB", "bench"), ("FIRELINK_RUN_ID", "1"), ("FIRELINK_EVENT", "null")]
        .map(|(name, value)| (name, std::ffi::OsStr::new(value).into()));
    let launch = Launch { action: &action, exec, start_dir: Path::new("/"), vars: &vars, cgroup: None };
    let mut child = spawn(&launch).expect("exec::spawn");
    let output = black_box(child.take_output());
    wait_readable(child.pidfd().expect("this kernel has pidfds"));
    assert_eq!(child.try_reap().expect("try_reap"), Some(Exit::Code(0)));
    drop(output);
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(40);
    let spec = |capture| ExecSpec { capture, ..ExecSpec::default() };
    let (all, none) = (spec(Capture::All), spec(Capture::None));
    let limits = Limits { memory: Some(1 << 30), ..Limits::default() };
    let other = ExecSpec { user: Some("nobody".into()), limits, ..spec(Capture::All) };
    let (to_nowhere, to_pipe, by_other) = (|| ours(&none), || ours(&all), || ours(&other));
    let mut ways: Vec<(&str, &dyn Fn())> = vec![
        ("posix_spawn(3), waitpid(2)", &raw),
        ("std::process::Command", &std_command),
        ("exec::spawn, output to nowhere", &to_nowhere),
        ("exec::spawn, output in a pipe", &to_pipe),
    ];
    if nix::unistd::Uid::effective().is_root() {
        ways.push(("exec::spawn, user: nobody, limits: { memory }", &by_other));
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); ways.len()];
    for round in 0..=rounds {
        for (times, (_, way)) in times.iter_mut().zip(&ways) {
            for _ in 0..TURN {
                let began = Instant::now();
                way();
                // The first round warms the caches.
                if round > 0 {
                    times.push(began.elapsed());
                }
            }
        }
    }
    println!("| start to exit of {PROGRAM}, {} times each | median | p99 | ratio of medians |", rounds * TURN);
    println!("| --- | ---: | ---: | ---: |");
    let mut base = None;
    for (times, (name, _)) in times.iter_mut().zip(&ways) {
        times.sort_unstable();
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
        let median = at(50);
        let base = *base.get_or_insert(median);
        println!("| {name} | {median:.0} µs | {:.0} µs | {:.2} |", at(99), median / base);
    }
}
