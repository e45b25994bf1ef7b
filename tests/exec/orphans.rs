//! Processes that try to outlive their run. Each test is in a process of its own, which is a subreaper as the daemon is: every
//! child and every orphan in it is this test's.

use std::os::fd::AsFd;
use std::time::Instant;

use firelink::exec::spec::{Capture, ExecSpec, KillMode};
use firelink::exec::{self, Child, EscapedProcess, GroupSignal, Known, Orphans, Swept};
use firelink::model::{Exit, Pid, RunId};
use nix::sys::signal::Signal;

use crate::own_process::in_own_process;
use crate::support::{Run, TEST_TIMEOUT, pid_after, pidfd, shell, spawn_with, state_of, wait_any, wait_gone};

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

/// What a daemon does at each exit of a child.
struct Sweeper(Orphans);

impl Sweeper {
    /// As a daemon that starts: the children that there are now are none of its own.
    fn new() -> Sweeper {
        Sweeper(Orphans::at_start().unwrap())
    }

    fn sweep(&mut self, live: &[Known]) -> Swept {
        self.0.sweep(live, None).unwrap()
    }

    /// Sweeps at each exit of a child, or at once on request, until `done`.
    fn until(&mut self, live: &[Known], done: impl Fn() -> bool) -> Vec<EscapedProcess> {
        let mut swept = self.sweep(live);
        let mut killed = swept.killed;
        while !done() {
            if swept.again {
                std::thread::yield_now();
            } else {
                wait_for_an_end(live);
            }
            swept = self.sweep(live);
            killed.append(&mut swept.killed);
        }
        killed
    }

    /// Sweeps until no child is left but these.
    fn until_only(&mut self, live: &[Known]) -> Vec<EscapedProcess> {
        self.until(live, || children().len() <= live.len())
    }

    /// A run has ended.
    fn exit(&mut self, run: &mut Run, number: u64, mode: KillMode) -> Exit {
        let exit = run.exit();
        self.0.ended(known(&run.child, number), mode);
        exit
    }
}

/// Waits until a process has executed this program, and so has the environment that it was given.
fn wait_for_program(pid: i32, program: &str) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    let runs = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == program);
    while !runs() {
        assert!(Instant::now() < deadline, "{pid} never became {program}");
        std::thread::yield_now();
    }
}

/// Waits until a process is a child of this one, its parent having exited.
fn wait_until_orphan(pid: i32) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !children().contains(&pid.to_string()) {
        assert!(Instant::now() < deadline, "{pid} is no orphan");
        std::thread::yield_now();
    }
}

fn told(run: &Run) -> String {
    String::from_utf8(run.written().unwrap()).unwrap()
}

fn lives(pid: i32) -> bool {
    !matches!(state_of(pid), None | Some('Z' | 'X'))
}

fn end(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_gone(pid);
}

/// True in a process that is a daemon as far as these tests need one.
fn daemon(test: &str) -> bool {
    let inner = in_own_process(&format!("orphans::{test}"));
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
    let mut sweeper = Sweeper::new();
    let line = "(setsid sh -c '(trap \"\" TERM HUP; echo stray=$$; sleep 1000; sleep 1000) &' &) ; (setsid sh -c 'echo two=$$; exec sleep 1000' &); exec sleep 1000";
    let mut run = start(line, 7);
    run.wait_for("stray=");
    run.wait_for("two=");
    run.wait_for("\n");
    let two = pid_after(&String::from_utf8(run.written().unwrap()).unwrap(), "two");
    // While the run lives they are its own.
    assert_eq!(sweeper.sweep(&[known(&run.child, 7)]).killed, []);
    assert!(state_of(two).is_some());
    run.child.signal(GroupSignal::Term).unwrap();
    assert_eq!(run.exit(), Exit::Signal(15));
    let killed = sweeper.until_only(&[]);
    assert!(killed.iter().all(|stray| stray.run == Some(RunId(7))), "{killed:?}");
    assert!(killed.iter().any(|stray| stray.pid == two), "{killed:?}");
    assert_eq!(state_of(two), None, "neither a process nor a zombie");
}

#[test]
fn the_exit_status_of_a_known_child_is_not_taken() {
    if !daemon("the_exit_status_of_a_known_child_is_not_taken") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let mut run = start("exit 42", 1);
    wait_any(&[run.child.pidfd().unwrap()]);
    for _ in 0..3 {
        assert_eq!(sweeper.sweep(&[known(&run.child, 1)]), Swept::default());
    }
    assert_eq!(run.exit(), Exit::Code(42));
}

#[test]
fn escaped_processes_of_an_ended_run_are_killed_and_orphans_of_a_live_run_are_not() {
    if !daemon("escaped_processes_of_an_ended_run_are_killed_and_orphans_of_a_live_run_are_not") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let line = "(sleep 1000 & echo member=$!); (setsid sh -c 'echo stray=$$; echo up; exec sleep 1000' &); exec sleep 1000";
    let mut over = start(line, 1);
    let mut lives = start(line, 2);
    over.wait_for("up");
    lives.wait_for("up");
    let told = String::from_utf8(lives.written().unwrap()).unwrap();
    over.child.signal(GroupSignal::Kill).unwrap();
    over.exit();
    let live = [known(&lives.child, 2)];
    let stray = pid_after(&String::from_utf8(over.written().unwrap()).unwrap(), "stray");
    let member = pid_after(&String::from_utf8(over.written().unwrap()).unwrap(), "member");
    let killed = sweeper.until(&live, || state_of(stray).is_none() && state_of(member).is_none());
    assert!(killed.contains(&EscapedProcess { run: Some(RunId(1)), pid: stray }), "{killed:?}");
    for label in ["stray", "member"] {
        assert!(matches!(state_of(pid_after(&told, label)), Some('S' | 'R')), "{label} of the living run");
    }
    lives.child.signal(GroupSignal::Kill).unwrap();
    lives.exit();
    sweeper.until_only(&[]);
}

#[test]
fn an_escaped_process_of_an_earlier_attempt_is_killed_while_the_next_one_runs() {
    if !daemon("an_escaped_process_of_an_earlier_attempt_is_killed_while_the_next_one_runs") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let mut first = start("(setsid sh -c 'echo stray=$$; exec sleep 1000' &); exec sleep 1000", 5);
    first.wait_for("stray=");
    first.wait_for("\n");
    first.child.signal(GroupSignal::Term).unwrap();
    assert_eq!(first.exit(), Exit::Signal(15));
    let stray = pid_after(&String::from_utf8(first.written().unwrap()).unwrap(), "stray");
    let second = start("exec sleep 1000", 5);
    // Ticks are coarse: two processes of the same one can't be told apart, so the next attempt is made to be later.
    let later = Pid { start_ticks: second.child.pid().start_ticks + 1, ..second.child.pid() };
    let killed = sweeper.until_only(&[Known { pid: later, run: Some(RunId(5)) }]);
    assert_eq!(killed, [EscapedProcess { run: Some(RunId(5)), pid: stray }]);
}

#[test]
fn what_the_daemon_did_not_start_for_a_run_is_left_alone_and_reaped_unless_somebody_waits_for_it() {
    if !daemon("what_the_daemon_did_not_start_for_a_run_is_left_alone_and_reaped_unless_somebody_waits_for_it") {
        return;
    }
    // Orphans from before the process became a daemon. (What this thread of a test starts are no children of the main thread.)
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let line =
        "setsid sleep 1000 > /dev/null 2>&1 & echo before=$!; setsid sh -c 'read -r _ < $GO' > /dev/null 2>&1 & echo ends=$!";
    let output = std::process::Command::new("sh").args(["-c", line]).env("GO", &go).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (before, ends) = (pid_after(&output, "before"), pid_after(&output, "ends"));
    let mut sweeper = Sweeper::new();
    // Not before: its parent, the shell, would reap it.
    std::fs::write(&go, "go\n").unwrap();
    wait_for_program(before, "sleep");
    wait_gone(ends);
    // As the SDK starts a credential process: by another thread, in the daemon's own group, with its environment.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (say, helper) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut helper = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        say.send(i32::try_from(helper.id()).unwrap()).unwrap();
        wait.recv().unwrap();
        helper.wait().unwrap().code()
    });
    let helper = helper.recv().unwrap();
    wait_any(&[pidfd(helper).unwrap().as_fd()]);
    for reaped in [1, 0, 0] {
        assert_eq!(sweeper.sweep(&[]), Swept { reaped, ..Swept::default() });
    }
    assert!(lives(before));
    done.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), Some(3), "its status was left for its own parent");
    // The daemon replaces itself: the next one is the same process.
    let (name, value) = sweeper.0.handed_on();
    assert_eq!(name, "FIRELINK_ORPHANS");
    assert!(value.contains(&format!("{before}.")) && !value.contains(&format!("{ends}.")), "{value}");
    end(before);
    assert_eq!(sweeper.sweep(&[]).reaped, 1);
}

#[test]
fn an_orphan_without_any_trace_ends_with_the_last_run_that_it_may_be_of() {
    if !daemon("an_orphan_without_any_trace_ends_with_the_last_run_that_it_may_be_of") {
        return;
    }
    let mut sweeper = Sweeper::new();
    // One whose environment names another daemon, one with a mark that is no number, and one with none.
    let foreign = "FIRELINK_DAEMON_PID=1 setsid sh -c 'echo a=$$; exec sleep 1000' &
        FIRELINK_RUN_ID=x setsid sh -c 'echo b=$$; exec sleep 1000' &
        setsid env -i /bin/sh -c 'echo c=$$; exec sleep 1000' &
        exec sleep 1000";
    let mut long = start("exec sleep 1000", 8);
    let mut run = start(foreign, 9);
    for word in ["a=", "b=", "c="] {
        run.wait_for(word);
    }
    run.wait_for("\n");
    let pids = ["a", "b", "c"].map(|label| pid_after(&told(&run), label));
    pids.iter().for_each(|pid| wait_for_program(*pid, "sleep"));
    run.child.signal(GroupSignal::Kill).unwrap();
    sweeper.exit(&mut run, 9, KillMode::Run);
    pids.iter().for_each(|pid| wait_until_orphan(*pid));
    let of_long = known(&long.child, 8);
    for _ in 0..3 {
        assert_eq!(sweeper.sweep(&[of_long]).killed, [], "they may be of the longer run");
    }
    assert!(pids.iter().all(|pid| lives(*pid)));
    // A run that is younger than they are has not started them.
    let ticks = |pid: i32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    };
    let youngest = pids.iter().map(|pid| ticks(*pid)).max().unwrap();
    let later = Known { pid: Pid { start_ticks: youngest + 1, ..of_long.pid }, ..of_long };
    let mut killed: Vec<i32> = sweeper.until_only(&[later]).into_iter().map(|escaped| escaped.pid).collect();
    killed.sort_unstable();
    let mut all = pids.to_vec();
    all.sort_unstable();
    assert_eq!(killed, all);
    long.child.signal(GroupSignal::Kill).unwrap();
    long.exit();
}

#[test]
fn what_is_in_the_session_of_a_run_ends_with_it_whatever_its_group_and_environment_are() {
    if !daemon("what_is_in_the_session_of_a_run_ends_with_it_whatever_its_group_and_environment_are") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let hides = "import os; os.setpgid(0, 0); print(f\"a={os.getpid()}\", flush=True); os.execve(\"/bin/sleep\", [\"sleep\", \"1000\"], {})";
    let line = format!("python3 -S -c '{hides}' & exec sleep 1000");
    let long = start("exec sleep 1000", 1);
    let mut run = start(&line, 2);
    run.wait_for("a=");
    run.wait_for("\n");
    let pid = pid_after(&told(&run), "a");
    wait_for_program(pid, "sleep");
    run.child.signal(GroupSignal::Kill).unwrap();
    sweeper.exit(&mut run, 2, KillMode::Run);
    wait_until_orphan(pid);
    assert!(lives(pid), "it had left the group");
    let killed = sweeper.until(&[known(&long.child, 1)], || state_of(pid).is_none());
    assert_eq!(killed, [EscapedProcess { run: Some(RunId(2)), pid }], "although a longer run may have it");
}

#[test]
fn what_a_run_leaves_on_purpose_is_left_alone_and_nothing_else_is() {
    if !daemon("what_a_run_leaves_on_purpose_is_left_alone_and_nothing_else_is") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let word = sweeper.0.leave_word().to_owned();
    // In the run's session; with the run's environment; with none; and one that starts others later, of which it dies.
    let line = "sleep 1000 & echo a=$!
        setsid sh -c 'echo b=$$; exec sleep 1000' &
        setsid env -i /bin/sh -c 'echo c=$$; exec sleep 1000' &
        setsid env -i /bin/sh -c 'echo d=$$; read -r _ < fifo; /bin/sleep 1000 & echo e=$!; exit' &
        exec sleep 1000";
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let line = line.replace("fifo", &fifo.display().to_string());
    let vars = [("FIRELINK_RUN_ID", "4"), ("FIRELINK_JOB", "j"), ("FIRELINK_LEAVE", &*word)];
    let child = spawn_with(&shell(&line), &ExecSpec::default(), &vars).unwrap();
    let mut run = Run::of(child.with_kill_mode(KillMode::Main), Capture::All, None);
    // Another run, of an ordinary job, claims the same for itself: with a word that it can't know.
    let mut other = start("FIRELINK_LEAVE=word setsid sh -c 'echo x=$$; exec sleep 1000' & exec sleep 1000", 5);
    other.wait_for("x=");
    other.wait_for("\n");
    let claims = pid_after(&told(&other), "x");
    wait_for_program(claims, "sleep");
    for label in ["a=", "b=", "c=", "d="] {
        run.wait_for(label);
    }
    let mut pids = ["a", "b", "c", "d"].map(|label| pid_after(&told(&run), label));
    pids[..3].iter().for_each(|pid| wait_for_program(*pid, "sleep"));
    run.child.signal(GroupSignal::Term).unwrap();
    wait_any(&[run.child.pidfd().unwrap()]);
    assert!(pids.iter().all(|pid| lives(*pid)), "only the process itself was signalled");
    other.child.signal(GroupSignal::Kill).unwrap();
    sweeper.exit(&mut other, 5, KillMode::Run);
    let exit = run.child.try_reap().unwrap();
    assert_eq!(exit, Some(Exit::Signal(15)));
    sweeper.0.ended(known(&run.child, 4), KillMode::Main);
    pids.iter().for_each(|pid| wait_until_orphan(*pid));
    let killed = sweeper.until(&[], || state_of(claims).is_none());
    assert_eq!(killed, [EscapedProcess { run: Some(RunId(5)), pid: claims }]);
    // One of them starts another and ends.
    std::fs::write(&fifo, "\n").unwrap();
    run.wait_for("e=");
    wait_gone(pids[3]);
    run.wait_for("\n");
    pids[3] = pid_after(&told(&run), "e");
    wait_until_orphan(pids[3]);
    for _ in 0..3 {
        assert_eq!(sweeper.sweep(&[]).killed, []);
    }
    assert!(pids.iter().all(|pid| lives(*pid)));
    pids.into_iter().for_each(end);
    sweeper.until_only(&[]);
}

#[test]
fn what_is_left_on_purpose_may_leave_its_session_and_clear_its_environment_later() {
    if !daemon("what_is_left_on_purpose_may_leave_its_session_and_clear_its_environment_later") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let word = sweeper.0.leave_word().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hides = "import os; open(os.environ[\"FIFO\"]).read(); os.setsid(); os.execve(\"/bin/sleep\", [\"sleep\", \"1000\"], {})";
    let line = format!("python3 -S -c '{hides}' & echo a=$!; exec sleep 1000");
    let vars = [("FIRELINK_RUN_ID", "4"), ("FIRELINK_LEAVE", &*word), ("FIFO", fifo.to_str().unwrap())];
    let child = spawn_with(&shell(&line), &ExecSpec::default(), &vars).unwrap();
    let mut run = Run::of(child.with_kill_mode(KillMode::Main), Capture::All, None);
    run.wait_for("a=");
    run.wait_for("\n");
    let pid = pid_after(&told(&run), "a");
    run.child.signal(GroupSignal::Kill).unwrap();
    sweeper.exit(&mut run, 4, KillMode::Main);
    wait_until_orphan(pid);
    // Until it has executed its program.
    while sweeper.sweep(&[]).again {}
    std::fs::write(&fifo, "\n").unwrap();
    wait_for_program(pid, "sleep");
    for _ in 0..3 {
        assert_eq!(sweeper.sweep(&[]).killed, []);
    }
    assert!(lives(pid));
    end(pid);
    sweeper.until_only(&[]);
}

#[test]
fn a_family_that_forks_without_an_end_is_killed() {
    if !daemon("a_family_that_forks_without_an_end_is_killed") {
        return;
    }
    let mut sweeper = Sweeper::new();
    // Each starts others like itself, in sessions of their own and without a trace, and dies or lives. So that
    // no failure of this test outlives it or takes the machine from others, there is a bound on their number and on their time.
    let bomb = r#"
import os, sys, time
until = time.monotonic() + 60
births = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
print("up", flush=True)
while time.monotonic() < until:
    if os.fstat(births).st_size >= 1500:
        time.sleep(0.1)
        continue
    os.write(births, b"x")
    if os.fork() == 0:
        os.setsid()
        if os.getpid() % 2 and os.fork():
            os._exit(0)
    elif os.getpid() % 3 == 0:
        os._exit(0)
    time.sleep(0.01)
"#;
    let births = tempfile::NamedTempFile::new().unwrap();
    let mark = births.path().display().to_string();
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), bomb).unwrap();
    let line = format!("setsid env -i /usr/bin/env python3 -S {} {mark} & exec sleep 1000", script.path().display());
    let mut run = start(&line, 3);
    run.wait_for("up");
    let of_it = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
        let lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&mark)).count()
    };
    let deadline = Instant::now() + TEST_TIMEOUT;
    while births.as_file().metadata().unwrap().len() < 100 {
        assert!(Instant::now() < deadline, "it does not fork");
    }
    run.child.signal(GroupSignal::Kill).unwrap();
    sweeper.exit(&mut run, 3, KillMode::Run);
    let (began, at) = (births.as_file().metadata().unwrap().len(), Instant::now());
    let swept = sweeper.0.end_all(&[], None, TEST_TIMEOUT).unwrap();
    assert!(!swept.again && swept.reaped > 0, "{} reaped, {} killed", swept.reaped, swept.killed.len());
    assert_eq!((of_it(), children()), (0, Vec::new()));
    eprintln!("{began} were started before, {} in all, {:?}", births.as_file().metadata().unwrap().len(), at.elapsed());
}

#[test]
fn a_tracer_can_not_keep_the_exit_of_a_run_from_the_daemon() {
    if !daemon("a_tracer_can_not_keep_the_exit_of_a_run_from_the_daemon") {
        return;
    }
    let mut sweeper = Sweeper::new();
    let traced = r#"
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
main = os.getpid()
libc.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    # PTRACE_SEIZE: traced, and not stopped.
    seized = libc.ptrace(0x4206, main, 0, 0)
    print(f"tracer={os.getpid()} seized={seized}", flush=True)
    os.write(write, b"x")
    time.sleep(1000)
os.read(read, 1)
os._exit(7)
"#;
    let mut run = start(&format!("exec python3 -S -c '{traced}'"), 6);
    run.wait_for("seized=");
    run.wait_for("\n");
    let said = told(&run);
    if !said.contains("seized=0") {
        return crate::skip::skip("no process may trace another here (kernel.yama.ptrace_scope)");
    }
    let tracer = pid_after(&said, "tracer");
    wait_any(&[run.child.pidfd().unwrap()]);
    assert_eq!(run.child.try_reap().unwrap(), None, "only the tracer sees its exit");
    assert!(run.child.is_held_by_tracer());
    assert_eq!(run.child.kill_tracer(), Some(tracer));
    assert_eq!(sweeper.exit(&mut run, 6, KillMode::Run), Exit::Code(7));
    sweeper.until_only(&[]);
    assert_eq!(state_of(tracer), None);
}

#[test]
fn two_hundred_children_of_all_kinds_leave_no_zombie_no_descriptor_and_no_process() {
    if !daemon("two_hundred_children_of_all_kinds_leave_no_zombie_no_descriptor_and_no_process") {
        return;
    }
    let mut sweeper = Sweeper::new();
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
            run.child.signal(GroupSignal::Term).unwrap();
            if random(2) == 0 {
                run.child.signal(GroupSignal::Kill).unwrap();
            } else if run.child.try_reap().unwrap().is_none() {
                let mut polled = [nix::poll::PollFd::new(run.child.pidfd().unwrap(), nix::poll::PollFlags::POLLIN)];
                // As after `kill_grace`, which is short here.
                if nix::poll::poll(&mut polled, 5_u8).unwrap() == 0 {
                    run.child.signal(GroupSignal::Kill).unwrap();
                }
            } else {
                seen += 1;
                continue;
            }
            run.finish();
            seen += 1;
            let live: Vec<Known> = runs.iter().map(|(number, run)| known(&run.child, *number)).collect();
            sweeper.sweep(&live);
        }
    }
    assert_eq!(seen, 200);
    sweeper.until_only(&[]);
    drop(runs);
    assert_eq!(children(), [""; 0]);
    assert_eq!(descriptors(), before);
    let mark = format!("FIRELINK_DAEMON_PID={}\0", std::process::id());
    for entry in std::fs::read_dir("/proc").unwrap() {
        let environ = std::fs::read(entry.unwrap().path().join("environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environ).contains(&mark));
    }
}
