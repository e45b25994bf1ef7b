//! A failed step as a sentence for a person.

use std::io;

use nix::libc;

use super::launch::SpawnError;
use super::plan::Named;
use super::steps::{Failed, Found, Step};

pub(super) fn explain(failed: Failed, named: &Named) -> SpawnError {
    let Failed { step, errno, found, fault } = failed;
    let program = named.program.clone();
    let said = io::Error::from_raw_os_error(errno);
    let os = |what: &str| SpawnError::Os(program.clone(), format!("{what}: {said}"));
    match step {
        Step::Directory => SpawnError::Directory(named.cwd.clone(), said.to_string()),
        Step::EnvFile => {
            let file = named.env_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            SpawnError::Environment(match fault {
                Some((fault, 0)) => format!("env_file {file} {}", fault.text()),
                Some((fault, line)) => format!("env_file {file}:{line}: {}", fault.text()),
                None => format!("env_file {file} can't be read: {said}"),
            })
        }
        Step::Script => SpawnError::NoScript(named.script.clone().unwrap_or_default()),
        Step::Exec => of_exec(errno, found, named, &said),
        Step::Groups | Step::Group | Step::User => {
            SpawnError::Account(format!("`{program}` can't be started as another user or group: {said}"))
        }
        Step::Niceness => SpawnError::Account(format!("`{program}` can't be started with this `nice`: {said}")),
        Step::Limits => SpawnError::Account(format!("`{program}` can't be started with these `limits`: {said}")),
        Step::Cgroup => os("it can't enter its control group"),
        Step::OomScore => os("its OOM score can't be reset"),
        Step::IoClass => os("its I/O class can't be reset"),
        Step::Session => os("it can't lead a session"),
        Step::Parent => os("the daemon is gone"),
        Step::Begin | Step::Signals | Step::Streams | Step::Descriptors => os("its descriptors and signals can't be set up"),
    }
}

fn of_exec(errno: i32, found: Found, named: &Named, said: &io::Error) -> SpawnError {
    let program = named.program.clone();
    match (errno, found) {
        (libc::ENOENT, Found::File) => SpawnError::Os(program, "the interpreter that its first line names does not exist".into()),
        (libc::ENOENT | libc::ENOTDIR, _) => SpawnError::NotFound(program),
        (libc::EACCES, Found::Directory) => SpawnError::IsDirectory(program),
        (libc::EACCES, Found::NotExecutable) => SpawnError::NotExecutable(program),
        (libc::EACCES, _) if let Some(user) = &named.user => SpawnError::Forbidden(program, user.clone()),
        (libc::ENOEXEC, _) => SpawnError::Os(program, "it is neither an executable for this machine nor a script".into()),
        (libc::E2BIG, _) => {
            SpawnError::Environment(format!("`{program}` can't be started: its arguments and environment are too large"))
        }
        _ => SpawnError::Os(program, said.to_string()),
    }
}
