//! Processes that an earlier daemon started: here, children that the test knows only by their pid.

use std::os::fd::AsFd;

use firelink::exec::spec::ExecSpec;
use firelink::exec::{Adopted, GroupSignal};
use firelink::model::{Exit, Pid};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::{Run, argv, pid_after, shell, spawn, spawn_with, state_of, wait_any, wait_gone};

#[test]
fn an_adopted_process_is_watched_by_its_pidfd() {
    let child = spawn(&argv(&["sleep", "1000"]), &ExecSpec::default()).unwrap();
    let adopted = Adopted::open(child.pid()).expect("it lives");
    assert!(adopted.is_alive());
    let mut fds = [PollFd::new(adopted.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(0));
    adopted.signal(GroupSignal::Term).unwrap();
    wait_any(&[adopted.as_fd()]);
    assert!(!adopted.is_alive());
    assert_eq!(Run::of(child, firelink::exec::spec::Capture::None, None).exit(), Exit::Signal(15));
    adopted.signal(GroupSignal::Kill).unwrap();
}

#[test]
fn a_reused_pid_is_not_adopted() {
    let child = spawn(&argv(&["sleep", "1000"]), &ExecSpec::default()).unwrap();
    let pid = child.pid();
    for wrong in [pid.start_ticks - 1, pid.start_ticks + 1, 0] {
        assert!(Adopted::open(Pid { start_ticks: wrong, ..pid }).is_none());
    }
    assert!(Adopted::open(pid).is_some());
    drop(child);
    assert!(Adopted::open(pid).is_none(), "it is gone");
}

#[test]
fn a_zombie_is_adopted_and_reaped_by_its_parent() {
    let child = spawn(&shell("exit 7"), &ExecSpec::default()).unwrap();
    wait_any(&[child.pidfd().unwrap()]);
    assert_eq!(state_of(child.pid().pid), Some('Z'));
    let adopted = Adopted::open(child.pid()).expect("its status is still there");
    assert!(!adopted.is_alive());
    assert_eq!(adopted.exit(), Some(Exit::Code(7)));
    assert!(Adopted::open(child.pid()).is_none(), "it is reaped");
    child.leave();
}

/// Linux 6.15 keeps the status with a pidfd that was open before.
fn pidfds_keep_the_status() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 15)
}

#[test]
fn the_exit_status_of_another_parents_zombie_is_read_from_proc() {
    for (script, ends) in [("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9)), ("exit 0", Exit::Code(0))] {
        // What becomes sleep(1) has a child and never asks after it.
        let line = format!("sh -c 'echo child=$$; {script}' & exec sleep 1000");
        let mut parent = Run::of(spawn(&shell(&line), &ExecSpec::default()).unwrap(), Default::default(), None);
        parent.wait_for("child=");
        let pid = pid_after(&String::from_utf8(parent.written().unwrap()).unwrap(), "child");
        wait_gone(pid);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start_ticks = stat.rsplit_once(')').unwrap().1.split(' ').nth(20).unwrap().parse().unwrap();
        let adopted = Adopted::open(Pid { pid, start_ticks }).expect("nobody has reaped it");
        assert_eq!(adopted.exit(), Some(ends));
        assert_eq!(adopted.exit(), Some(ends), "it is not ours to reap");
    }
}

#[test]
fn the_exit_status_of_a_reaped_process_is_read_from_its_pidfd() {
    for (script, ends) in [("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9)), ("exit 0", Exit::Code(0))] {
        let mut run = Run::start(&shell(script), &ExecSpec::default());
        let adopted = Adopted::open(run.child.pid()).expect("nobody has reaped it");
        assert_eq!(run.exit(), ends);
        assert_eq!(adopted.exit(), pidfds_keep_the_status().then_some(ends));
    }
}

#[test]
fn the_output_pipe_is_reopened_through_proc_and_no_output_is_lost() {
    let fifo = tempfile::tempdir().unwrap();
    let path = fifo.path().join("go").display().to_string();
    nix::unistd::mkfifo(&*path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let line = format!("echo one; read x <{path}; echo two; read x <{path}");
    let mut child = spawn(&shell(&line), &ExecSpec::default()).unwrap();
    let adopted = Adopted::open(child.pid()).expect("it lives");
    // The daemon dies: nobody reads, and nobody is ended by SIGPIPE.
    drop(child.take_output());
    std::fs::write(&path, "\n").unwrap();
    let output = adopted.open_output().expect("its pipe");
    let mut text = String::new();
    while !text.ends_with("two\n") {
        wait_any(&[output.as_fd()]);
        let mut buffer = [0; 64];
        let count = nix::unistd::read(&output, &mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert_eq!(text, "one\ntwo\n");
    assert!(adopted.is_alive());
    drop(child);
}

#[test]
fn remaining_processes_of_an_adopted_run_are_killed_and_no_others() {
    // They wait in open(2) instead of becoming sleep(1): in the middle of execve(2) a process can't be known.
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo").display().to_string();
    nix::unistd::mkfifo(&*fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let line = "sh -c 'echo member=$$; read x <$FIFO' & setsid sh -c 'echo stray=$$; read x <$FIFO' & read x <$FIFO";
    let vars = |run: &'static str| [("FIRELINK_RUN_ID", run), ("FIRELINK_JOB", "adopted-rest"), ("FIFO", &*fifo)];
    let start = |run: &'static str| {
        let mut run = Run::of(spawn_with(&shell(line), &ExecSpec::default(), &vars(run)).unwrap(), Default::default(), None);
        run.wait_for("member=");
        run.wait_for("stray=");
        run
    };
    let (ended, other) = (start("41"), start("42"));
    let pids = |run: &Run| {
        let told = String::from_utf8(run.written().unwrap()).unwrap();
        ["member", "stray"].map(|label| pid_after(&told, label))
    };
    let leader = ended.child.pid().pid;
    let adopted = Adopted::open(ended.child.pid()).unwrap();
    assert_eq!(adopted.kill_remaining().unwrap(), 0, "it has not ended");
    // Only the leader, as if it had ended by itself; nobody reaps it here, as init would.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(leader), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_any(&[adopted.as_fd()]);
    assert_eq!(adopted.kill_remaining().unwrap(), 2);
    for pid in pids(&ended) {
        wait_gone(pid);
    }
    assert_eq!(adopted.kill_remaining().unwrap(), 0);
    for pid in pids(&other) {
        assert!(!matches!(state_of(pid), None | Some('Z')), "another run's");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids(&other)[1]), nix::sys::signal::Signal::SIGKILL).unwrap();
}
