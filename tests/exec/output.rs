//! The output of a process, and the part of it that is kept.

use std::os::fd::AsFd;

use firelink::exec::spec::{Capture, ExecSpec};
use firelink::exec::{EventDelivery, deliver_event, drain};
use firelink::files::Dir;
use firelink::model::{Exit, RunId};

use crate::own_process::in_own_process;
use crate::support::{Run, argv, output_of, run, shell, spawn_with, wait_any};

fn capture(capture: Capture, max_size: Option<u64>) -> ExecSpec {
    ExecSpec { capture, max_size, ..ExecSpec::default() }
}

#[test]
fn output_is_kept_byte_for_byte() {
    assert_eq!(run(&argv(&["printf", "no newline"]), &ExecSpec::default()).log.unwrap(), b"no newline");
    // An octal escape for each byte there is.
    let every: Vec<u8> = (0..=255).collect();
    let format: String = every.iter().map(|byte| format!("\\{byte:03o}")).collect();
    assert_eq!(run(&argv(&["printf", &format]), &ExecSpec::default()).log.unwrap(), every);
}

#[test]
fn a_run_without_output_creates_no_file() {
    for mode in [Capture::All, Capture::OnFailure, Capture::None] {
        assert_eq!(run(&shell("exit 1"), &capture(mode, None)).log, None, "{mode:?}");
    }
}

#[test]
fn on_failure_keeps_only_the_output_of_failed_runs_and_none_keeps_none() {
    for (mode, code, kept) in
        [(Capture::OnFailure, 0, false), (Capture::OnFailure, 1, true), (Capture::None, 0, false), (Capture::None, 1, false)]
    {
        let finished = run(&shell(&format!("echo out; echo err >&2; exit {code}")), &capture(mode, None));
        assert_eq!(finished.exit, Exit::Code(code));
        assert_eq!(finished.log.is_some(), kept, "{mode:?} {code}");
        assert!(!kept || finished.text() == "out\nerr\n");
    }
}

#[test]
fn on_failure_writes_nothing_to_disk_while_the_run_is_active() {
    let mut run = Run::start(&shell("echo early; exec sleep 1000"), &capture(Capture::OnFailure, None));
    let output = run.output.take().unwrap();
    wait_any(&[output.as_fd()]);
    drain(output.as_fd(), &mut Vec::new(), &mut run.sink).unwrap();
    assert_eq!(std::fs::read_dir(run.log.path()).unwrap().count(), 0);
    run.child.signal(firelink::exec::GroupSignal::Kill).unwrap();
    run.exit();
    run.sink.finish(false).unwrap();
    assert_eq!(run.written().unwrap(), b"early\n");
}

#[test]
fn a_process_that_closes_its_output_early_is_not_affected() {
    let finished = run(&shell("echo last; exec >&- 2>&-; sleep 0; exit 9"), &ExecSpec::default());
    assert_eq!((finished.exit, finished.text().as_str()), (Exit::Code(9), "last\n"));
}

#[test]
fn a_background_process_that_holds_the_pipe_does_not_delay_the_end() {
    let finished = run(&shell("yes background & echo front; exit 4"), &capture(Capture::All, Some(4096)));
    assert_eq!(finished.exit, Exit::Code(4));
    assert!(finished.log.unwrap().len() <= 4096);
}

#[test]
fn a_log_beyond_its_limit_keeps_head_and_tail_and_states_how_much_was_cut() {
    const MAX: u64 = 8192;
    for mode in [Capture::All, Capture::OnFailure] {
        let line = "i=1; while [ $i -le 9999 ]; do echo line $i; i=$((i + 1)); done; exit 1";
        let finished = run(&shell(line), &capture(mode, Some(MAX)));
        let log = finished.text();
        assert!(log.len() as u64 <= MAX && log.len() as u64 > MAX * 9 / 10, "{}", log.len());
        assert!(log.starts_with("line 1\nline 2\nline 3\n"));
        assert!(log.ends_with("line 9998\nline 9999\n"));
        let all: usize = (1..=9999).map(|i| format!("line {i}\n").len()).sum();
        let (head, rest) = log.split_once("\n[firelink: ").unwrap();
        let (cut, tail) = rest.split_once(" bytes cut here]\n").unwrap();
        assert_eq!(cut.parse::<usize>().unwrap() + head.len() + tail.len(), all);
    }
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_hundred_megabytes_of_output_grow_neither_the_log_nor_the_memory() {
    if !in_own_process("output::two_hundred_megabytes_of_output_grow_neither_the_log_nor_the_memory") {
        return;
    }
    for mode in [Capture::All, Capture::OnFailure] {
        let spec = capture(mode, Some(1 << 20));
        // What a first run needs once is not what is asked here.
        run(&shell("head -c 3000000 /dev/zero; exit 1"), &spec);
        let before = resident_kib();
        let finished = run(&shell("head -c 200000000 /dev/zero; exit 1"), &spec);
        let after = resident_kib();
        assert!(after - before < 2048, "{before} KiB, then {after} KiB at the most");
        assert_eq!(finished.exit, Exit::Code(1));
        assert!(finished.log.unwrap().len() <= 1 << 20);
    }
}

#[test]
fn one_drain_of_an_endless_writer_returns() {
    let mut run = Run::start(&argv(&["yes"]), &capture(Capture::All, Some(4096)));
    let output = run.output.take().unwrap();
    for _ in 0..3 {
        wait_any(&[output.as_fd()]);
        let drained = drain(output.as_fd(), &mut Vec::new(), &mut run.sink).unwrap();
        assert_ne!(drained, firelink::exec::Drained::Closed);
    }
    run.child.signal(firelink::exec::GroupSignal::Kill).unwrap();
    assert_eq!(run.exit(), Exit::Signal(9));
}

#[test]
fn a_small_payload_is_a_variable_and_a_large_one_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events");
    let small = format!("\"{}\"", "s".repeat(60_000));
    let (state, exec) = (Dir::open(dir.path()).unwrap(), ExecSpec::default());
    assert_eq!(deliver_event(&small, &state, RunId(1), &exec).unwrap(), EventDelivery::Inline);
    let child = spawn_with(&shell("printf %s \"$FIRELINK_EVENT\" | wc -c"), &ExecSpec::default(), &[("FIRELINK_EVENT", &small)]);
    assert_eq!(Run::of(child.unwrap(), Capture::All, None).finish().text().trim(), small.len().to_string());
    assert!(!events.exists());

    let large = format!("\"{}\"", "l".repeat(3_000_000));
    let EventDelivery::File(path) = deliver_event(&large, &state, RunId(2), &exec).unwrap() else { panic!("it went inline") };
    let file = path.display().to_string();
    let child = spawn_with(
        &shell(
            "stat -c '%a %s' \"$FIRELINK_EVENT_FILE\" \"$(dirname \"$FIRELINK_EVENT_FILE\")\" | sed 's/ 4096//'; cmp \"$FIRELINK_EVENT_FILE\" \"$OTHER\"",
        ),
        &ExecSpec { env: vec![("OTHER".into(), file.clone())], ..ExecSpec::default() },
        &[("FIRELINK_EVENT_FILE", &file)],
    );
    let told = Run::of(child.unwrap(), Capture::All, None).finish().text();
    assert!(told.starts_with(&format!("600 {}\n700", large.len())), "{told}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), large);
}

#[test]
fn a_payload_that_can_not_be_written_is_an_error_with_path_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("events"), "").unwrap();
    let state = Dir::open(dir.path()).unwrap();
    let told = deliver_event(&"x".repeat(100_000), &state, RunId(3), &ExecSpec::default()).unwrap_err().to_string();
    assert!(told.starts_with("the event's payload can't be written to ") && told.contains("events/3.json: "), "{told}");
}

#[test]
fn an_event_is_in_a_variable_and_never_in_a_command_line() {
    let hostile = "$(echo pwned); `id`; \"'";
    let child = spawn_with(&shell("echo \"$FIRELINK_EVENT\""), &ExecSpec::default(), &[("FIRELINK_EVENT", hostile)]).unwrap();
    assert_eq!(Run::of(child, Capture::All, None).finish().text(), format!("{hostile}\n"));
    assert_eq!(output_of("echo \"[$FIRELINK_EVENT]\"", &ExecSpec::default()), "[]");
}
