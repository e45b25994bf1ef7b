use std::io::Read as _;
use std::path::Path;

use super::*;
use crate::exec::spec::{Action, ExecSpec, Limits};
use crate::model::Exit;

fn launch<'a>(action: &'a Action, exec: &'a ExecSpec) -> Launch<'a> {
    Launch { action, exec, start_dir: Path::new("/"), vars: &[], cgroup: None }
}

/// The output and the exit of a process that is started in both ways; they must not differ.
fn run(action: &Action, exec: &ExecSpec) -> Result<(String, Exit), String> {
    let [one, other] = [true, false].map(|may_share_memory| {
        let pending = begin_with(may_share_memory, &launch(action, exec)).map_err(|error| error.to_string())?;
        let mut child = pending.wait().map_err(|error| error.to_string())?;
        let mut output = std::fs::File::from(child.take_output().unwrap());
        let mut bytes = Vec::new();
        loop {
            let _ = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            match output.read_to_end(&mut bytes) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let exit = loop {
            let _ = poll(&mut [PollFd::new(child.pidfd().unwrap(), PollFlags::POLLIN)], PollTimeout::NONE);
            if let Some(exit) = child.try_reap().unwrap() {
                break exit;
            }
        };
        Ok((String::from_utf8_lossy(&bytes).into_owned(), exit))
    });
    assert_eq!(one, other);
    one
}

fn shell(line: &str) -> Action {
    Action::Shell(line.into())
}

fn argv(words: &[&str]) -> Action {
    Action::Argv(words.iter().map(|word| Box::from(*word)).collect())
}

fn file(dir: &Path, name: &str, mode: u32, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn a_child_leads_its_own_session_without_descriptors_and_parent_death_signal() {
    let line = "set -- $(cut -d' ' -f4-7 /proc/$$/stat); [ $2 = $$ ] && [ $3 = $$ ] && [ $4 = 0 ] && echo own; ls -1 /proc/$$/fd";
    let exec = ExecSpec { limits: Limits { open_files: Some(9), ..Limits::default() }, umask: Some(0o27), ..ExecSpec::default() };
    assert_eq!(run(&shell(line), &exec).unwrap(), ("own\n0\n1\n2\n".to_owned(), Exit::Code(0)));
    let (text, _) = run(&shell("umask; ulimit -n; readlink /proc/self/fd/0"), &exec).unwrap();
    assert_eq!(text, "0027\n9\n/dev/null\n");
}

#[test]
fn a_script_without_a_first_line_is_run_by_the_shell_with_and_without_settings() {
    let dir = tempfile::tempdir().unwrap();
    let script = file(dir.path(), "script", 0o755, "echo \"$0\" \"$1\"\n");
    for exec in [ExecSpec::default(), ExecSpec { nice: Some(1), ..ExecSpec::default() }] {
        let (text, exit) = run(&argv(&[&script, "two words"]), &exec).unwrap();
        assert_eq!((text, exit), (format!("{script} two words\n"), Exit::Code(0)));
    }
    let binary = file(dir.path(), "binary", 0o755, "\x7fELF\0 of another machine");
    assert!(run(&argv(&[&binary]), &ExecSpec::default()).unwrap_err().contains("neither an executable for this machine"));
}

#[test]
fn the_program_is_looked_up_as_execvp_does_in_the_path_of_the_env_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| dir.path().join(name);
    file(&at("a"), "prog", 0o644, "#!/bin/sh\necho a\n");
    file(&at("c"), "prog", 0o755, "#!/bin/sh\necho c\n");
    file(&at("b"), "plain", 0o644, "");
    file(&at("c"), "lost", 0o755, "#!/no/such/interpreter\n");
    let path = format!("PATH={}\n", ["a", "none", "b", "c"].map(|name| at(name).display().to_string()).join(":"));
    let exec = ExecSpec {
        env: vec![("PATH".into(), "/usr/bin".into())],
        env_file: Some(file(dir.path(), "env", 0o600, &path).into()),
        ..ExecSpec::default()
    };
    assert_eq!(run(&argv(&["prog"]), &exec).unwrap().0, "c\n");
    assert_eq!(run(&argv(&["plain"]), &exec).unwrap_err(), "`plain` is not executable; chmod +x, or name its interpreter");
    assert!(run(&argv(&["lost"]), &exec).unwrap_err().contains("the interpreter that its first line names does not exist"));
    assert!(run(&argv(&["none"]), &exec).unwrap_err().contains("was not found in PATH"));
}

#[test]
fn variables_of_the_env_file_override_those_of_the_job_and_not_those_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let text = "TWICE=1\nFROM_FILE='x y'\nJOB=file\nFIRELINK_DAEMON_PID=1\nTWICE=2";
    let exec = ExecSpec {
        env: vec![("JOB".into(), "job".into()), ("OTHER".into(), "job".into())],
        env_file: Some(file(dir.path(), "env", 0o600, text).into()),
        ..ExecSpec::default()
    };
    let (text, _) = run(&shell("env | grep -v ^FIRELINK_OUTPUT="), &exec).unwrap();
    let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}="))).collect::<Vec<_>>();
    assert_eq!(of("TWICE"), ["TWICE=2"]);
    assert_eq!(of("FROM_FILE"), ["FROM_FILE=x y"]);
    assert_eq!(of("JOB"), ["JOB=file"]);
    assert_eq!(of("OTHER"), ["OTHER=job"]);
    assert_eq!(of("FIRELINK_DAEMON_PID"), [format!("FIRELINK_DAEMON_PID={}", std::process::id())]);
    assert_eq!(of("PATH").len(), 1);
}

#[test]
fn an_env_file_that_is_faulty_large_or_a_fifo_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &str| {
        let exec = ExecSpec { env_file: Some(path.into()), ..ExecSpec::default() };
        run(&argv(&["true"]), &exec).unwrap_err()
    };
    let large = file(dir.path(), "large", 0o600, &"#".repeat(1 << 20));
    assert!(run(&argv(&["true"]), &ExecSpec { env_file: Some(large.clone().into()), ..ExecSpec::default() }).is_ok());
    file(dir.path(), "large", 0o600, &"#".repeat((1 << 20) + 1));
    assert_eq!(refused(&large), format!("env_file {large} is larger than 1 MiB"));
    let faulty = file(dir.path(), "faulty", 0o600, "A=1\nsecret");
    assert_eq!(refused(&faulty), format!("env_file {faulty}:2: a line must be KEY=value"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = fifo.display().to_string();
    assert_eq!(refused(&fifo), format!("env_file {fifo} is not a regular file"));
    assert_eq!(refused("/dev/zero"), "env_file /dev/zero is not a regular file");
    let missing = dir.path().join("missing").display().to_string();
    assert_eq!(refused(&missing), format!("env_file {missing} can't be read: No such file or directory (os error 2)"));
}

#[test]
fn each_refused_step_is_named() {
    let exec = ExecSpec { nice: Some(-5), ..ExecSpec::default() };
    if nix::unistd::Uid::effective().is_root() {
        assert!(run(&argv(&["true"]), &exec).is_ok());
        let exec = ExecSpec { user: Some("nobody".into()), nice: Some(-5), ..ExecSpec::default() };
        assert_eq!(run(&shell("id -un; nice; cat /proc/$$/oom_score_adj"), &exec).unwrap().0, "nobody\n-5\n0\n");
        return;
    }
    assert!(run(&argv(&["true"]), &exec).unwrap_err().starts_with("`true` can't be started with this `nice`: "));
    let exec = ExecSpec { user: Some("root".into()), ..ExecSpec::default() };
    assert!(run(&argv(&["true"]), &exec).unwrap_err().starts_with("`true` can't be started as another user or group: "));
}

#[test]
fn the_start_time_of_a_child_is_that_of_the_kernel() {
    let mut known = 0;
    for _ in 0..50 {
        let mut pending = begin(&launch(&argv(&["true"]), &ExecSpec::default())).unwrap();
        let started = pending.started.take().unwrap();
        if let Some(ticks) = started.start_ticks {
            known += 1;
            assert_eq!(crate::exec::processes::proc::start_ticks(started.pid), Some(ticks));
        }
        pending.started = Some(started);
        let mut child = pending.wait().unwrap();
        while child.try_reap().unwrap().is_none() {}
    }
    assert!(known > 0, "one in a hundred starts falls on the edge between two ticks, or somebody else had the processor");
}
