//! Starting a process: the program, its environment, and the errors.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use firelink::exec::spec::{Action, Capture, ExecSpec, Limits};
use firelink::model::Exit;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};

use crate::own_process::in_own_process;
use crate::support::{Run, argv, output_of, refusal, run, shell, spawn, spawn_with};

fn file(dir: &Path, name: &str, mode: u32, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

fn script(interpreter: &[&str], script: &str, args: &[&str]) -> Action {
    let boxed = |words: &[&str]| words.iter().map(|word| Box::from(*word)).collect();
    Action::Script { interpreter: boxed(interpreter), script: script.into(), args: boxed(args) }
}

#[test]
fn an_argument_list_is_executed_directly_and_a_string_by_the_shell() {
    let hostile = r#"a b $HOME "q" ; * `id`"#;
    let direct = run(&argv(&["printf", "[%s]", hostile, ""]), &ExecSpec::default());
    assert_eq!(direct.text(), format!("[{hostile}][]"));
    assert_eq!(output_of("echo $((6 * 7)) | tr 4 5", &ExecSpec::default()), "52");
}

#[test]
fn a_script_runs_by_its_interpreter_from_the_jobs_directory_and_needs_no_x() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "s.sh", 0o600, "echo \"$0 $# $2\"\n");
    let spec = ExecSpec { cwd: Some(dir.path().into()), ..ExecSpec::default() };
    let finished = run(&script(&["sh", "-e"], "s.sh", &["one", "two words"]), &spec);
    assert_eq!((finished.exit, finished.text().as_str()), (Exit::Code(0), "s.sh 2 two words\n"));
}

#[test]
fn relative_paths_are_relative_to_the_documented_directories() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    file(&dir.path().join("sub"), "here", 0o755, "#!/bin/sh\npwd\n");
    let spec = ExecSpec { cwd: Some("sub".into()), ..ExecSpec::default() };
    let action = argv(&["./here"]);
    let launch = firelink::exec::Launch { action: &action, exec: &spec, start_dir: dir.path(), vars: &[], cgroup: None };
    let child = firelink::exec::spawn(&launch).unwrap();
    let finished = Run::of(child, Capture::All, None).finish();
    let expected = dir.path().canonicalize().unwrap().join("sub");
    assert_eq!(finished.text().trim_end(), expected.display().to_string());
}

#[test]
fn a_failed_start_is_an_error_with_a_fix() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let plain = file(dir.path(), "plain", 0o644, "#!/bin/sh\n");
    let lost = file(dir.path(), "lost", 0o755, "#!/no/such/interpreter\n");
    let garbage = file(dir.path(), "garbage", 0o755, "\u{1}\0 no program\n");
    let here = ExecSpec::default();
    let table = [
        (
            argv(&["no-such-program-x"]),
            here.clone(),
            "`no-such-program-x` was not found in PATH; install it or name its full path".to_owned(),
        ),
        (argv(&["/no/such"]), here.clone(), "`/no/such` does not exist".into()),
        (argv(&[&plain]), here.clone(), format!("`{plain}` is not executable; chmod +x, or name its interpreter")),
        (
            argv(&[&lost]),
            here.clone(),
            format!("`{lost}` can't be started: the interpreter that its first line names does not exist"),
        ),
        (
            argv(&[&garbage]),
            here.clone(),
            format!("`{garbage}` can't be started: it is neither an executable for this machine nor a script"),
        ),
        (argv(&[&at("")]), here.clone(), format!("`{}` is a directory, not a program", at(""))),
        (script(&["sh"], &at("none.sh"), &[]), here.clone(), format!("the script {} does not exist", at("none.sh"))),
        (
            script(&["no-such-sh"], &plain, &[]),
            here.clone(),
            "`no-such-sh` was not found in PATH; install it or name its full path".into(),
        ),
        (Action::Milestone, here.clone(), "there is no command to start".into()),
        (
            shell("true"),
            ExecSpec { cwd: Some(at("nowhere").into()), ..here.clone() },
            format!("the working directory {} can't be used: No such file or directory (os error 2)", at("nowhere")),
        ),
        (
            shell("true"),
            ExecSpec { cwd: Some(plain.clone().into()), ..here.clone() },
            format!("the working directory {plain} can't be used: Not a directory (os error 20)"),
        ),
    ];
    for (action, spec, sentence) in table {
        assert_eq!(refusal(&action, &spec), sentence, "{action:?}");
    }
    let large = "x".repeat(1 << 18);
    let told = refusal(&argv(&["true", &large]), &here);
    assert_eq!(told, "`true` can't be started: its arguments and environment are too large");
}

#[test]
fn a_nul_byte_in_a_variable_or_argument_is_an_error_without_the_value() {
    let told = spawn_with(&shell("true"), &ExecSpec::default(), &[("FIRELINK_EVENT", "sec\0ret")]).unwrap_err().to_string();
    assert_eq!(told, "the variable FIRELINK_EVENT can't be passed: its value contains a NUL byte");
    let told = refusal(&argv(&["echo", "a\0b"]), &ExecSpec::default());
    assert_eq!(told, "an argument of `echo` contains a NUL byte");
    let spec = ExecSpec { env: vec![("KEY".into(), "sec\0ret".into())], ..ExecSpec::default() };
    assert_eq!(refusal(&shell("true"), &spec), "the variable KEY can't be passed: its value contains a NUL byte");
}

#[test]
fn each_process_leads_a_group_of_its_own() {
    let mut run = Run::start(&shell("cat /proc/$$/stat; exec sleep 0"), &ExecSpec::default());
    let leader = run.child.pid().pid;
    assert_eq!(run.exit(), Exit::Code(0));
    let stat = String::from_utf8(run.written().unwrap()).unwrap();
    // Behind the name: its state, its parent, its group (proc_pid_stat(5)).
    let group = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap();
    assert_eq!(group, leader.to_string(), "{stat}");
}

#[test]
fn stdin_is_dev_null_and_both_outputs_are_one_pipe_in_order() {
    assert_eq!(output_of("readlink /proc/self/fd/0; cat", &ExecSpec::default()), "/dev/null");
    assert_eq!(output_of("echo 1; echo 2 >&2; echo 3; echo 4 >&2", &ExecSpec::default()), "1\n2\n3\n4");
    let quiet = ExecSpec { capture: Capture::None, ..ExecSpec::default() };
    let finished = run(&shell("[ /dev/null -ef /proc/self/fd/1 ] && [ /dev/null -ef /proc/self/fd/2 ]"), &quiet);
    assert_eq!((finished.exit, finished.log), (Exit::Code(0), None));
}

#[test]
fn a_child_starts_without_blocked_or_ignored_signals() {
    if !in_own_process("starting::a_child_starts_without_blocked_or_ignored_signals") {
        return;
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
    for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGCHLD] {
        // SAFETY: ignoring installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn).unwrap() };
    }
    firelink::exec::become_subreaper().unwrap();
    let with_settings = ExecSpec { umask: Some(0o77), ..ExecSpec::default() };
    for spec in [ExecSpec::default(), with_settings] {
        let finished = run(&argv(&["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]), &spec);
        let text = finished.text();
        let sets: Vec<u64> =
            text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()).collect();
        assert_eq!((sets[0], sets[1]), (0, 0), "{text}");
    }
}

#[test]
fn a_child_inherits_only_its_standard_streams() {
    // dup(2) makes descriptors without close-on-exec.
    let file = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: the copies are plain numbers that this test alone knows; they live as long as the process.
    let leaked: Vec<i32> = (0..5).map(|_| unsafe { libc::dup(file.as_raw_fd()) }).collect();
    assert!(leaked.iter().all(|fd| *fd > 2));
    for spec in [ExecSpec::default(), ExecSpec { umask: Some(0o22), ..ExecSpec::default() }] {
        let line = "n=0; while [ $n -lt 200 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n + 1)); done; true";
        assert_eq!(output_of(line, &spec), "0\n1\n2");
    }
}

#[test]
fn variables_of_daemon_job_file_and_run_override_each_other_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "secrets", 0o600, "# keys\nB=file\nC=file\nFIRELINK_JOB=file\n");
    let spec = ExecSpec {
        cwd: Some(dir.path().into()),
        env: vec![("A".into(), "job".into()), ("B".into(), "job".into())],
        env_file: Some("secrets".into()),
        ..ExecSpec::default()
    };
    let child = spawn_with(&shell("echo $A $B $C $FIRELINK_JOB ${PATH:+path}"), &spec, &[("FIRELINK_JOB", "run")]).unwrap();
    let finished = Run::of(child, Capture::All, None).finish();
    assert_eq!(finished.text(), "job file file run path\n");
}

#[test]
fn variables_meant_for_the_daemon_are_not_passed_to_jobs() {
    if !in_own_process("starting::variables_meant_for_the_daemon_are_not_passed_to_jobs") {
        return;
    }
    for name in
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "FIRELINK_SOCKET", "FIRELINK_RUN_ID"]
    {
        // SAFETY: no other thread of this process reads or writes the environment meanwhile.
        unsafe { std::env::set_var(name, "x") };
    }
    let told = output_of("env | grep -E '^(NOTIFY|WATCHDOG|LISTEN|FIRELINK)_' | cut -d= -f1 | sort", &ExecSpec::default());
    // By these two a later daemon knows the process and its pipe.
    assert_eq!(told, "FIRELINK_DAEMON_PID\nFIRELINK_OUTPUT");
}

#[test]
fn an_invalid_env_file_is_an_error_with_the_line_number_and_not_the_text() {
    let dir = tempfile::tempdir().unwrap();
    for (text, told) in [
        ("A=1\nhunter2\n", ":2: a line must be KEY=value"),
        ("A='hunter2\n", ":1: a quote is not closed"),
        ("hunter2 x=1\n", ":1: a variable's name consists of letters, digits and `_`, and does not start with a digit"),
        ("A=hunter2\0\n", ":1: the value contains a NUL byte"),
    ] {
        let path = file(dir.path(), "env", 0o600, text);
        let spec = ExecSpec { env_file: Some(path.clone().into()), ..ExecSpec::default() };
        assert_eq!(refusal(&shell("true"), &spec), format!("env_file {path}{told}"));
    }
    let missing = dir.path().join("missing");
    let spec = ExecSpec { env_file: Some(missing.clone()), ..ExecSpec::default() };
    let told = refusal(&shell("true"), &spec);
    assert_eq!(told, format!("env_file {} can't be read: No such file or directory (os error 2)", missing.display()));
}

#[test]
fn an_env_file_that_is_not_a_regular_file_is_an_error_and_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for path in [fifo, "/dev/zero".into(), dir.path().into()] {
        let spec = ExecSpec { env_file: Some(path.clone()), ..ExecSpec::default() };
        assert_eq!(refusal(&shell("true"), &spec), format!("env_file {} is not a regular file", path.display()));
    }
}

#[test]
fn umask_niceness_and_limits_apply_to_the_child_and_not_to_the_daemon() {
    let spec = ExecSpec {
        umask: Some(0o27),
        nice: Some(5),
        limits: Limits { memory: Some(1 << 30), pids: Some(4000), cpu_secs: Some(77), open_files: Some(55) },
        ..ExecSpec::default()
    };
    // SAFETY: reading the niceness of this process touches no memory of ours.
    let ours = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let told = output_of("umask; nice; ulimit -v; ulimit -t; ulimit -n; grep processes /proc/self/limits", &spec);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "0027");
    assert_eq!(lines[1], (ours + 5).min(19).to_string());
    assert_eq!(&lines[2..5], ["1048576", "77", "55"]);
    assert_eq!(lines[5].split_whitespace().skip(2).take(2).collect::<Vec<_>>(), ["4000", "4000"]);
    assert_eq!(nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CPU).unwrap().0, libc::RLIM_INFINITY);
}

#[test]
fn exceeding_a_limit_ends_the_process_and_not_the_daemon() {
    let spec = ExecSpec { limits: Limits { cpu_secs: Some(1), ..Limits::default() }, ..ExecSpec::default() };
    let finished = run(&shell("while :; do :; done"), &spec);
    assert!(matches!(finished.exit, Exit::Signal(libc::SIGXCPU | libc::SIGKILL)), "{finished:?}");
}

#[test]
fn a_failed_start_leaves_neither_a_process_nor_a_descriptor() {
    if !in_own_process("starting::a_failed_start_leaves_neither_a_process_nor_a_descriptor") {
        return;
    }
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The first start opens what all of them share.
    spawn(&argv(&["/no/such"]), &ExecSpec::default()).unwrap_err();
    let before = count();
    for spec in [ExecSpec::default(), ExecSpec { umask: Some(0), ..ExecSpec::default() }] {
        for _ in 0..20 {
            spawn(&argv(&["/no/such"]), &spec).unwrap_err();
            spawn(&argv(&["/dev/null"]), &spec).unwrap_err();
        }
    }
    assert_eq!(count(), before);
    let none = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    assert_eq!(none, Err(nix::errno::Errno::ECHILD));
}
