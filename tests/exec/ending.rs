//! The exit of a process, which nothing of its group outlives.

use firelink::exec::GroupSignal;
use firelink::exec::spec::ExecSpec;
use firelink::model::Exit;

use crate::support::{Run, argv, pid_after, run, shell, spawn, state_of, wait_any, wait_gone};

#[test]
fn exit_codes_and_signals_are_reported() {
    for code in [0, 1, 42, 126, 127, 255] {
        assert_eq!(run(&shell(&format!("exit {code}")), &ExecSpec::default()).exit, Exit::Code(code));
    }
    for signal in [1, 6, 9, 11, 13, 15, 34] {
        assert_eq!(run(&shell(&format!("kill -{signal} $$")), &ExecSpec::default()).exit, Exit::Signal(signal));
    }
}

#[test]
fn a_running_process_is_not_reaped() {
    let mut run = Run::start(&shell("echo up; exec sleep 1000"), &ExecSpec::default());
    run.wait_for("up");
    assert_eq!(run.child.try_reap().unwrap(), None);
    run.child.signal(GroupSignal::Term).unwrap();
    assert_eq!(run.exit(), Exit::Signal(15));
    run.child.signal(GroupSignal::Kill).unwrap();
}

#[test]
fn signals_reach_the_whole_group() {
    let line = "trap '' TERM; sh -c 'echo inner=$$; while :; do sleep 1000; done' & echo up; while :; do wait; done";
    let mut run = Run::start(&shell(line), &ExecSpec::default());
    run.wait_for("inner=");
    run.wait_for("up");
    let inner = pid_after(&String::from_utf8(run.written().unwrap()).unwrap(), "inner");
    run.child.signal(GroupSignal::Term).unwrap();
    // Its disposition says that it is ignored: there is nothing to wait for.
    assert_eq!(run.child.try_reap().unwrap(), None);
    run.child.signal(GroupSignal::Kill).unwrap();
    assert_eq!(run.exit(), Exit::Signal(9));
    wait_gone(inner);
}

#[test]
fn background_processes_are_killed_when_the_leader_exits() {
    let line = "trap '' HUP TERM; sleep 1000 & echo bg=$!; (sleep 1000 & echo deep=$!); exit 3";
    let finished = run(&shell(line), &ExecSpec::default());
    assert_eq!(finished.exit, Exit::Code(3));
    wait_gone(pid_after(&finished.text(), "bg"));
    wait_gone(pid_after(&finished.text(), "deep"));
}

#[test]
fn a_stopped_group_ends_too() {
    let line = "sleep 1000 & echo bg=$!; kill -STOP $!; exit 0";
    let finished = run(&shell(line), &ExecSpec::default());
    assert_eq!(finished.exit, Exit::Code(0));
    wait_gone(pid_after(&finished.text(), "bg"));
}

#[test]
fn a_process_outside_of_the_group_that_holds_the_pipe_does_not_delay_the_end() {
    let line = "trap 'exit 0' USR1; setsid sh -c 'echo escaped=$$; kill -USR1 '$$'; exec sleep 1000' & while :; do wait; done";
    let finished = run(&shell(line), &ExecSpec::default());
    assert_eq!(finished.exit, Exit::Code(0));
    let escaped = pid_after(&finished.text(), "escaped");
    assert!(state_of(escaped).is_some());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(escaped), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_dropped_child_is_killed_with_its_group_and_reaped() {
    let mut run = Run::start(&shell("trap '' TERM; sleep 1000 & echo bg=$!; wait"), &ExecSpec::default());
    run.wait_for("bg=");
    run.wait_for("\n");
    let background = pid_after(&String::from_utf8(run.written().unwrap()).unwrap(), "bg");
    let leader = run.child.pid().pid;
    drop(run);
    assert_eq!(state_of(leader), None, "neither a process nor a zombie");
    wait_gone(background);
}

#[test]
fn a_pid_has_the_start_time_that_distinguishes_it_from_a_reused_one() {
    let child = spawn(&argv(&["sleep", "1000"]), &ExecSpec::default()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid().pid)).unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    assert_eq!(child.pid().start_ticks, ticks);
}

#[test]
fn the_pidfd_of_a_child_is_readable_when_it_exits_and_not_before() {
    let mut run = Run::start(&shell("echo up; exec sleep 1000"), &ExecSpec::default());
    run.wait_for("up");
    let mut fds = [nix::poll::PollFd::new(run.child.pidfd().unwrap(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO), Ok(0));
    run.child.signal(GroupSignal::Kill).unwrap();
    wait_any(&[run.child.pidfd().unwrap()]);
    assert_eq!(run.exit(), Exit::Signal(9));
}
