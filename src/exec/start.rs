//! Making a child.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::{Group, User, getgrouplist};

use super::child::Child;
use super::spec::{Action, Capture, ExecSpec};
use super::{env, sys};

/// One attempt, ready to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What.
    pub action: &'a Action,
    /// In which surroundings.
    pub exec: &'a ExecSpec,
    /// Where the daemon was started: the `cwd` of jobs that name none.
    pub start_dir: &'a Path,
    /// The run's own variables; they win over all others.
    pub vars: &'a [(&'a str, Cow<'a, str>)],
}

/// Why nothing was started: a sentence with what was tried, on what, the OS's word and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// A program that is not there, or not in `PATH`.
    NotFound(String),
    /// A script that is not there.
    NoScript(PathBuf),
    /// A file that is not executable.
    NotExecutable(String),
    /// A working directory that can't be entered.
    Directory(PathBuf, String),
    /// A user or group that does not exist, or can't be become.
    Account(String),
    /// A variable or argument that can't be passed, or an `env_file` that can't be read.
    Environment(String),
    /// Anything else that the OS said.
    Os(String, String),
    /// A milestone has nothing to start.
    Nothing,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotFound(program) if program.contains('/') => write!(f, "`{program}` does not exist"),
            SpawnError::NotFound(program) => write!(f, "`{program}` was not found in PATH; install it or name its full path"),
            SpawnError::NoScript(path) => write!(f, "the script {} does not exist", path.display()),
            SpawnError::NotExecutable(program) => write!(f, "`{program}` is not executable; chmod +x, or name its interpreter"),
            SpawnError::Directory(path, said) => write!(f, "the working directory {} can't be used: {said}", path.display()),
            SpawnError::Account(said) | SpawnError::Environment(said) => f.write_str(said),
            SpawnError::Os(program, said) => write!(f, "`{program}` can't be started: {said}"),
            SpawnError::Nothing => f.write_str("there is no command to start"),
        }
    }
}

impl std::error::Error for SpawnError {}

/// Starts a process: own process group, stdin from `/dev/null`, both outputs in one pipe, no inherited descriptor,
/// empty signal mask. Without `user`, `umask`, `nice` or `limits` it takes std's posix_spawn path, which shares the
/// daemon's memory until exec instead of copying its page tables.
///
/// # Errors
/// Why nothing was started.
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    let exec = launch.exec;
    let cwd = exec.cwd.as_ref().map_or_else(|| launch.start_dir.to_owned(), |cwd| launch.start_dir.join(cwd));
    let (mut command, program) = command_of(launch.action, &cwd)?;
    command.current_dir(&cwd).process_group(0).stdin(Stdio::null());
    set_environment(&mut command, launch, &cwd)?;
    // Limits and niceness first: another account may have no right to them.
    sys::apply_in_child(&mut command, settings(exec));
    become_account(&mut command, exec)?;
    let output = attach_output(&mut command, exec.capture).map_err(|error| SpawnError::Os(program.clone(), error.to_string()))?;
    match command.spawn() {
        Ok(child) => Ok(Child::new(i32::try_from(child.id()).unwrap_or(i32::MAX), output)),
        Err(error) => Err(explain(&error, &program, &cwd)),
    }
}

fn command_of(action: &Action, cwd: &Path) -> Result<(Command, String), SpawnError> {
    let (program, args): (&str, Vec<OsString>) = match action {
        Action::Milestone => return Err(SpawnError::Nothing),
        Action::Shell(line) => ("/bin/sh", vec!["-c".into(), (&**line).into()]),
        Action::Argv(argv) => match argv.split_first() {
            Some((program, args)) => (program, args.iter().map(|arg| (&**arg).into()).collect()),
            None => return Err(SpawnError::Nothing),
        },
        Action::Script { interpreter, script, args } => {
            // The interpreter would say so too, in its own words and only in the log.
            if !cwd.join(script).exists() {
                return Err(SpawnError::NoScript(cwd.join(script)));
            }
            let Some((program, rest)) = interpreter.split_first() else { return Err(SpawnError::Nothing) };
            let rest = rest.iter().map(|arg| OsString::from(&**arg));
            (program, rest.chain([script.into()]).chain(args.iter().map(|arg| (&**arg).into())).collect())
        }
    };
    // A relative program is meant from the job's directory; whether the parent's or the child's counts is not said by
    // execvp(3) once a directory is changed, so it is made plain.
    let resolved = if program.contains('/') { cwd.join(program) } else { PathBuf::from(program) };
    let mut command = Command::new(resolved);
    command.args(args);
    Ok((command, program.to_owned()))
}

fn set_environment(command: &mut Command, launch: &Launch<'_>, cwd: &Path) -> Result<(), SpawnError> {
    // What speaks to the daemon itself is not for its jobs.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("FIRELINK_") || text.starts_with("LISTEN_") || text == "NOTIFY_SOCKET" || text == "WATCHDOG_USEC" {
            command.env_remove(&name);
        }
    }
    command.envs(launch.exec.env.iter().map(|(name, value)| (name, value)));
    if let Some(file) = &launch.exec.env_file {
        command.envs(env::read(&cwd.join(file)).map_err(SpawnError::Environment)?);
    }
    for (name, value) in launch.vars {
        // No variable can carry a NUL; an S3 key or a payload can.
        if value.contains('\0') {
            return Err(SpawnError::Environment(format!("the variable {name} can't be passed: its value contains a NUL byte")));
        }
        command.env(name, &**value);
    }
    Ok(())
}

fn become_account(command: &mut Command, exec: &ExecSpec) -> Result<(), SpawnError> {
    let unknown = |what: &str, name: &str| SpawnError::Account(format!("there is no {what} `{name}` on this machine"));
    let said = |what: &str, errno: nix::errno::Errno| SpawnError::Account(format!("the {what} can't be looked up: {errno}"));
    let group = match &exec.group {
        Some(name) => {
            let group = match name.parse() {
                Ok(gid) => Group::from_gid(nix::unistd::Gid::from_raw(gid)),
                Err(_) => Group::from_name(name),
            };
            Some(group.map_err(|errno| said("group", errno))?.ok_or_else(|| unknown("group", name))?.gid)
        }
        None => None,
    };
    let Some(name) = &exec.user else {
        if let Some(gid) = group {
            sys::become_account(command, None, Some(gid.as_raw()), None);
        }
        return Ok(());
    };
    let user = match name.parse() {
        Ok(uid) => User::from_uid(nix::unistd::Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = user.map_err(|errno| said("user", errno))?.ok_or_else(|| unknown("user", name))?;
    let gid = group.unwrap_or(user.gid);
    let groups = if nix::unistd::Uid::effective().is_root() {
        let c_name = std::ffi::CString::new(user.name.as_str()).map_err(|_| unknown("user", name))?;
        let groups = getgrouplist(&c_name, gid).map_err(|errno| said("user's groups", errno))?;
        Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
    } else {
        None
    };
    sys::become_account(command, Some(user.uid.as_raw()), Some(gid.as_raw()), groups);
    let account = [("HOME", user.dir.as_os_str()), ("SHELL", user.shell.as_os_str())];
    let own = |name: &str| exec.env.iter().any(|(known, _)| known == name);
    command.envs(account.into_iter().filter(|(name, _)| !own(name)));
    command.envs([("USER", &user.name), ("LOGNAME", &user.name)].into_iter().filter(|(name, _)| !own(name)));
    Ok(())
}

fn settings(exec: &ExecSpec) -> sys::ChildSettings {
    let limits = &exec.limits;
    let limit = |value: Option<u64>| value.map(|value| libc::rlim_t::try_from(value).unwrap_or(libc::RLIM_INFINITY));
    sys::ChildSettings {
        umask: exec.umask.map(|mask| mask as libc::mode_t),
        nice: exec.nice,
        memory: limit(limits.memory),
        pids: limit(limits.pids),
        cpu_secs: limit(limits.cpu_secs),
        open_files: limit(limits.open_files),
    }
}

/// Both outputs into one pipe, whose read end never blocks; or nowhere.
fn attach_output(command: &mut Command, capture: Capture) -> io::Result<Option<OwnedFd>> {
    if capture == Capture::None {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        return Ok(None);
    }
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    command.stdout(writer.try_clone()?).stderr(writer);
    Ok(Some(reader))
}

/// What the OS meant. ENOENT may be the program's, its interpreter's or the directory's.
fn explain(error: &io::Error, program: &str, cwd: &Path) -> SpawnError {
    if let Err(said) = std::fs::read_dir(cwd) {
        return SpawnError::Directory(cwd.to_owned(), said.to_string());
    }
    match error.raw_os_error() {
        Some(libc::ENOENT) if program.contains('/') && cwd.join(program).exists() => {
            SpawnError::Os(program.to_owned(), "the interpreter that its first line names does not exist".into())
        }
        Some(libc::ENOENT) => SpawnError::NotFound(program.to_owned()),
        Some(libc::EACCES) if is_file_without_x(&cwd.join(program)) => SpawnError::NotExecutable(program.to_owned()),
        Some(libc::EACCES) if !program.contains('/') => SpawnError::NotFound(program.to_owned()),
        Some(libc::ENOEXEC) => {
            SpawnError::Os(program.to_owned(), "it is neither a program for this machine nor a script with a `#!` line".into())
        }
        Some(libc::E2BIG) => {
            SpawnError::Environment(format!("`{program}` can't be started: its arguments and environment are too large"))
        }
        Some(libc::EPERM) => {
            SpawnError::Account(format!("`{program}` can't be started as another user or group, or with these limits: {error}"))
        }
        _ => SpawnError::Os(program.to_owned(), error.to_string()),
    }
}

fn is_file_without_x(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 == 0)
}
