//! Processes that start while the caller goes on.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use firelink::exec::spec::{Action, Capture, ExecSpec};
use firelink::exec::{Launch, PendingSpawn, SpawnError, begin};
use firelink::model::Exit;

use crate::own_process::in_own_process;
use crate::support::{Run, argv, pidfd, shell, state_of, wait_any};

fn begin_with(action: &Action, spec: &ExecSpec, vars: &[(&str, &str)]) -> Result<PendingSpawn, SpawnError> {
    let vars: Vec<(&str, Cow<'_, OsStr>)> = vars.iter().map(|(name, value)| (*name, Cow::from(OsStr::new(*value)))).collect();
    begin(&Launch { action, exec: spec, start_dir: Path::new("/"), vars: &vars, cgroup: None })
}

#[test]
fn concurrent_starts_have_their_own_arguments_and_pipes() {
    let action = shell("echo $NUMBER; echo $NUMBER >&2; exit $NUMBER");
    let begun: Vec<(u8, PendingSpawn)> = (0..100)
        .map(|number| (number, begin_with(&action, &ExecSpec::default(), &[("NUMBER", &number.to_string())]).unwrap()))
        .collect();
    for (number, begun) in begun {
        let finished = Run::of(begun.wait().unwrap(), Capture::All, None).finish();
        assert_eq!(finished.exit, Exit::Code(number.into()));
        assert_eq!(finished.text(), format!("{number}\n{number}\n"));
    }
}

#[test]
fn a_failed_exec_is_reported_by_wait_and_leaves_no_zombie() {
    if !in_own_process("together::a_failed_exec_is_reported_by_wait_and_leaves_no_zombie") {
        return;
    }
    let here = begin_with(&argv(&["/no/such/program"]), &ExecSpec::default(), &[]).unwrap();
    let there = ExecSpec { cwd: Some("/no/such/place".into()), ..ExecSpec::default() };
    let there = begin_with(&argv(&["/bin/true"]), &there, &[]).unwrap();
    let big = ("BIG", "x".repeat(1 << 20));
    let big = begin_with(&argv(&["/bin/true"]), &ExecSpec::default(), &[(big.0, &big.1)]).unwrap();
    assert_eq!(here.wait().unwrap_err().to_string(), "`/no/such/program` does not exist");
    let told = there.wait().unwrap_err().to_string();
    assert!(told.starts_with("the working directory /no/such/place can't be used: No such file"), "{told}");
    let told = big.wait().unwrap_err().to_string();
    assert_eq!(told, "`/bin/true` can't be started: its arguments and environment are too large");
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap();
    assert_eq!(children, "", "no child is left");
}

#[test]
fn an_abandoned_start_is_killed_and_reaped() {
    if !in_own_process("together::an_abandoned_start_is_killed_and_reaped") {
        return;
    }
    let begun = begin_with(&argv(&["sleep", "1000"]), &ExecSpec::default(), &[]).unwrap();
    let pid = begun.pid();
    let fd = pidfd(pid).expect("it is there");
    let (abandoned, reason) = begun.abandon();
    assert!(reason.to_string().starts_with("`sleep` was not started in time: "), "{reason}");
    wait_any(&[fd.as_fd()]);
    let mut abandoned = abandoned.unwrap();
    assert_eq!(abandoned.pid(), pid);
    assert!(abandoned.is_over());
    assert_eq!(state_of(pid), None);
}

#[test]
fn a_child_inherits_no_descriptor_while_another_one_starts() {
    let action = shell("for fd in /proc/$$/fd/*; do readlink $fd; done");
    let begun: Vec<PendingSpawn> = (0..8).map(|_| begin_with(&action, &ExecSpec::default(), &[]).unwrap()).collect();
    for begun in begun {
        let finished = Run::of(begun.wait().unwrap(), Capture::All, None).finish();
        let text = finished.text();
        let open: Vec<&str> = text.lines().filter(|line| line.starts_with("pipe:") || line.starts_with("socket:")).collect();
        assert!(open.len() == 2 && open[0] == open[1], "its two outputs, which are one pipe, and no other: {open:?}");
    }
}
