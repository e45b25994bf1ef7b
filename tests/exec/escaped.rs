//! Processes that try to outlive their run. Each test is in a process of its own, which is a subreaper as the daemon is: every
//! child and every orphan in it is this test's.

use std::os::fd::AsFd;

use firelink::exec::spec::{Capture, ExecSpec};
use firelink::exec::{self, Child, EscapedProcess, GroupSignal, Known, Swept, sweep};
use firelink::model::{Exit, Pid, RunId};
use nix::sys::signal::Signal;

use crate::own_process::in_own_process;
use crate::support::{Run, pid_after, pidfd, shell, spawn_with, state_of, wait_any, wait_gone};

/// A run with its number in its environment, as the reactor starts it.
fn start(line: &str, run: u64) -> Run {
    start_with(line, run, Capture::All)
}

fn start_with(line: &str, run: u64, capture: Capture) -> Run {
    let spec = ExecSpec { capture, ..ExecSpec::default() };
    let child = spawn_with(&shell(line), &spec, &[("FIRELINK_RUN_ID", &run.to_string()), ("FIRELINK_JOB", "j")]).unwrap();
    Run::of(child, capture, None)
}

fn known(child: &Child, run: u64) -> Known {
    Known { pid: child.pid(), run: Some(RunId(run)) }
}

fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Waits until one of the children that are not these ends: when SIGCHLD would come.
fn wait_for_an_end(live: &[Known]) {
    let others = children().into_iter().filter_map(|pid| pid.parse().ok());
    let others: Vec<i32> = others.filter(|pid| live.iter().all(|known| known.pid.pid != *pid)).collect();
    let fds: Vec<_> = others.into_iter().filter_map(pidfd).collect();
    if !fds.is_empty() {
        wait_any(&fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    }
}

/// Sweeps at each exit of a child, or at once on request, until `done`.
fn sweep_until(live: &[Known], done: impl Fn() -> bool) -> Vec<EscapedProcess> {
    let mut swept = sweep(live).unwrap();
    let mut killed = swept.killed;
    while !done() {
        if swept.again {
            std::thread::yield_now();
        } else {
            wait_for_an_end(live);
        }
        swept = sweep(live).unwrap();
        killed.append(&mut swept.killed);
    }
    killed
}

/// Sweeps until no child is left but these.
fn sweep_until_only(live: &[Known]) -> Vec<EscapedProcess> {
    sweep_until(live, || children().len() <= live.len())
}

/// True in a process that is a daemon as far as these tests need one.
fn daemon(test: &str) -> bool {
    let inner = in_own_process(&format!("escaped::{test}"));
    if inner {
        exec::become_subreaper().unwrap();
    }
    inner
}

#[test]
fn a_double_forked_process_in_its_own_session_is_killed_and_reaped_after_its_run() {
    if !daemon("a_double_forked_process_in_its_own_session_is_killed_and_reaped_after_its_run") {
        return;
    }
    let line = "(setsid sh -c '(trap \"\" TERM HUP; echo stray=$$; sleep 1000; sleep 1000) &' &) ; (setsid sh -c 'echo two=$$; exec sleep 1000' &); exec sleep 1000";
    let mut run = start(line, 7);
    run.wait_for("stray=");
    run.wait_for("two=");
    run.wait_for("\n");
    let two = pid_after(&String::from_utf8(run.written().unwrap()).unwrap(), "two");
    // While the run lives they are its own.
    assert_eq!(sweep(&[known(&run.child, 7)]).unwrap().killed, []);
    assert!(state_of(two).is_some());
    run.child.signal_group(GroupSignal::Term).unwrap();
    assert_eq!(run.exit(), Exit::Signal(15));
    let killed = sweep_until_only(&[]);
    assert!(killed.iter().all(|stray| stray.run == RunId(7)), "{killed:?}");
    assert!(killed.iter().any(|stray| stray.pid == two), "{killed:?}");
    assert_eq!(state_of(two), None, "neither a process nor a zombie");
}

#[test]
fn the_exit_status_of_a_known_child_is_not_taken() {
    if !daemon("the_exit_status_of_a_known_child_is_not_taken") {
        return;
    }
    let mut run = start("exit 42", 1);
    wait_any(&[run.child.pidfd().unwrap()]);
    for _ in 0..3 {
        assert_eq!(sweep(&[known(&run.child, 1)]).unwrap(), Swept::default());
    }
    assert_eq!(run.exit(), Exit::Code(42));
}

#[test]
fn escaped_processes_of_an_ended_run_are_killed_and_orphans_of_a_live_run_are_not() {
    if !daemon("escaped_processes_of_an_ended_run_are_killed_and_orphans_of_a_live_run_are_not") {
        return;
    }
    let line = "(sleep 1000 & echo member=$!); (setsid sh -c 'echo stray=$$; echo up; exec sleep 1000' &); exec sleep 1000";
    let mut over = start(line, 1);
    let mut lives = start(line, 2);
    over.wait_for("up");
    lives.wait_for("up");
    let told = String::from_utf8(lives.written().unwrap()).unwrap();
    over.child.signal_group(GroupSignal::Kill).unwrap();
    over.exit();
    let live = [known(&lives.child, 2)];
    let stray = pid_after(&String::from_utf8(over.written().unwrap()).unwrap(), "stray");
    let member = pid_after(&String::from_utf8(over.written().unwrap()).unwrap(), "member");
    let killed = sweep_until(&live, || state_of(stray).is_none() && state_of(member).is_none());
    assert!(killed.contains(&EscapedProcess { run: RunId(1), pid: stray }), "{killed:?}");
    for label in ["stray", "member"] {
        assert!(matches!(state_of(pid_after(&told, label)), Some('S' | 'R')), "{label} of the living run");
    }
    lives.child.signal_group(GroupSignal::Kill).unwrap();
    lives.exit();
    sweep_until_only(&[]);
}

#[test]
fn an_escaped_process_of_an_earlier_attempt_is_killed_while_the_next_one_runs() {
    if !daemon("an_escaped_process_of_an_earlier_attempt_is_killed_while_the_next_one_runs") {
        return;
    }
    let mut first = start("(setsid sh -c 'echo stray=$$; exec sleep 1000' &); exec sleep 1000", 5);
    first.wait_for("stray=");
    first.wait_for("\n");
    first.child.signal_group(GroupSignal::Term).unwrap();
    assert_eq!(first.exit(), Exit::Signal(15));
    let stray = pid_after(&String::from_utf8(first.written().unwrap()).unwrap(), "stray");
    let second = start("exec sleep 1000", 5);
    // Ticks are coarse: two processes of the same one can't be told apart, so the next attempt is made to be later.
    let later = Pid { start_ticks: second.child.pid().start_ticks + 1, ..second.child.pid() };
    let killed = sweep_until_only(&[Known { pid: later, run: Some(RunId(5)) }]);
    assert_eq!(killed, [EscapedProcess { run: RunId(5), pid: stray }]);
}

#[test]
fn processes_that_can_not_be_identified_are_left_alone() {
    if !daemon("processes_that_can_not_be_identified_are_left_alone") {
        return;
    }
    // As the SDK starts a credential process: in the daemon's own group, with its environment.
    let mut helper = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    wait_any(&[pidfd(i32::try_from(helper.id()).unwrap()).unwrap().as_fd()]);
    // An orphan with another daemon's mark, one with a mark that is no number, and one with none.
    let foreign = "FIRELINK_DAEMON_PID=1 setsid sh -c 'echo a=$$; exec sleep 1000' &
        FIRELINK_RUN_ID=x setsid sh -c 'echo b=$$; exec sleep 1000' &
        setsid env -i /bin/sh -c 'echo c=$$; exec sleep 1000' &
        exec sleep 1000";
    let mut run = start(foreign, 9);
    for word in ["a=", "b=", "c="] {
        run.wait_for(word);
    }
    run.child.signal_group(GroupSignal::Kill).unwrap();
    run.exit();
    let told = String::from_utf8(run.written().unwrap()).unwrap();
    let pids = ["a", "b", "c"].map(|label| pid_after(&told, label));
    for _ in 0..3 {
        assert_eq!(sweep(&[]).unwrap().killed, []);
    }
    assert!(pids.iter().all(|pid| state_of(*pid).is_some()));
    assert_eq!(helper.wait().unwrap().code(), Some(3), "its status was left for its own parent");
    for pid in pids {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        wait_gone(pid);
    }
    assert_eq!(sweep(&[]).unwrap().reaped, 3);
}

#[test]
fn two_hundred_children_of_all_kinds_leave_no_zombie_no_descriptor_and_no_process() {
    if !daemon("two_hundred_children_of_all_kinds_leave_no_zombie_no_descriptor_and_no_process") {
        return;
    }
    const AT_ONCE: usize = 20;
    let kinds = [
        "exit 0",
        "exit 7",
        "kill -9 $$",
        "kill -34 $$",
        "exec >&- 2>&-; exit 0",
        "sleep 1000 & exit 0",
        "(setsid sleep 1000 &) ; exit 0",
        "setsid sh -c 'trap \"\" TERM HUP INT; (setsid sleep 1000 &); sleep 1000; sleep 1000' & exit 1",
        "trap '' TERM; sleep 1000 & while :; do wait; done",
        "trap '' TERM; (setsid sh -c 'while :; do sleep 1000; done' &); exec sleep 1000",
        "head -c 300000 /dev/urandom; exit 0",
    ];
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The first start opens what all of them share.
    crate::support::spawn(&crate::support::argv(&["/no/such"]), &ExecSpec::default()).unwrap_err();
    let before = descriptors();
    // A linear congruential sequence: the same in each run of the test.
    let mut state: u64 = 0x5DEE_CE66;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut runs: Vec<(u64, Run)> = Vec::new();
    let mut seen = 0;
    for number in 0..200 {
        let capture = [Capture::All, Capture::OnFailure, Capture::None][random(3)];
        runs.push((number, start_with(kinds[random(kinds.len())], number, capture)));
        if runs.len() < AT_ONCE && number != 199 {
            continue;
        }
        while !runs.is_empty() {
            let (_, mut run) = runs.swap_remove(random(runs.len()));
            run.child.signal_group(GroupSignal::Term).unwrap();
            if random(2) == 0 {
                run.child.signal_group(GroupSignal::Kill).unwrap();
            } else if run.child.try_reap().unwrap().is_none() {
                let mut polled = [nix::poll::PollFd::new(run.child.pidfd().unwrap(), nix::poll::PollFlags::POLLIN)];
                // As after `kill_grace`, which is short here.
                if nix::poll::poll(&mut polled, 5_u8).unwrap() == 0 {
                    run.child.signal_group(GroupSignal::Kill).unwrap();
                }
            } else {
                seen += 1;
                continue;
            }
            run.finish();
            seen += 1;
            let live: Vec<Known> = runs.iter().map(|(number, run)| known(&run.child, *number)).collect();
            sweep(&live).unwrap();
        }
    }
    assert_eq!(seen, 200);
    sweep_until_only(&[]);
    drop(runs);
    assert_eq!(children(), [""; 0]);
    assert_eq!(descriptors(), before);
    let mark = format!("FIRELINK_DAEMON_PID={}\0", std::process::id());
    for entry in std::fs::read_dir("/proc").unwrap() {
        let environ = std::fs::read(entry.unwrap().path().join("environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environ).contains(&mark));
    }
}
