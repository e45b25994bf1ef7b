//! Starting a child.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;

use super::launch::{Launch, SpawnError};
use super::plan::{self, Account, Named, Plan};
use super::{clone, output, posix};
use crate::exec::marks::OUTPUT;
use crate::exec::processes::Child;
use crate::exec::spec::{Capture, ExecSpec, Limits};
use crate::exec::sys;

/// Starts a process: own process group, stdin from `/dev/null`, both outputs in one pipe, no inherited descriptors, no blocked
/// and no ignored signals. Returns before the child has called execve(2); with `user`, `group`, `umask`, `nice`, `limits` or a
/// control group, after that.
///
/// # Errors
/// When the process can't be started.
pub fn begin(launch: &Launch<'_>) -> Result<PendingSpawn, SpawnError> {
    let mut plan = Plan::of(launch)?;
    let (mut reader, mut writer) = (None, None);
    if launch.exec.capture != Capture::None {
        let pipe = output::Pipe::new().map_err(|error| SpawnError::Os(plan.program.clone(), error.to_string()))?;
        plan::set(&mut plan.env, OUTPUT, OsStr::new(&pipe.name))?;
        (reader, writer) = (Some(pipe.reader), Some(pipe.writer));
    }
    let made = start(&mut plan, launch, Outputs::Together(writer))?;
    Ok(PendingSpawn { made, reader, named: plan.named() })
}

/// A process that may not have executed its program yet.
#[must_use = "dropped, it is killed"]
pub struct PendingSpawn {
    made: Made,
    reader: Option<OwnedFd>,
    named: Named,
}

enum Made {
    Starting(clone::Starting),
    Started(Child),
}

impl PendingSpawn {
    /// True if [`PendingSpawn::wait_for_exec`] would not block.
    #[must_use]
    pub fn has_execed(&self) -> bool {
        match &self.made {
            Made::Starting(starting) => starting.has_execed(),
            Made::Started(_) => true,
        }
    }

    /// Waits until the program is executed, which usually is the case already.
    ///
    /// # Errors
    /// When it could not be executed.
    pub fn wait_for_exec(self) -> Result<Child, SpawnError> {
        let mut child = self.made.wait_for_exec(&self.named)?;
        child.set_output(self.reader);
        Ok(child)
    }
}

impl Made {
    fn wait_for_exec(self, named: &Named) -> Result<Child, SpawnError> {
        match self {
            Made::Starting(starting) => starting.wait_for_exec().map_err(|error| explain(&error, named, None)),
            Made::Started(child) => Ok(child),
        }
    }
}

/// Starts a process as [`begin`] does, and waits until it has executed its program.
///
/// # Errors
/// When the process can't be started.
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    begin(launch)?.wait_for_exec()
}

/// A child whose stdout and stderr are two pipes.
#[derive(Debug)]
pub struct Apart {
    /// The process.
    pub child: Child,
    /// The read end of its stdout, non-blocking.
    pub stdout: OwnedFd,
    /// The read end of its stderr, non-blocking.
    pub stderr: OwnedFd,
}

/// Starts a process as [`spawn`] does, but with each output in a pipe of its own, whatever `output.capture` is: for a process
/// whose output is read by the daemon.
///
/// # Errors
/// When the process can't be started.
pub fn spawn_apart(launch: &Launch<'_>) -> Result<Apart, SpawnError> {
    let mut plan = Plan::of(launch)?;
    let os = |error: io::Error| SpawnError::Os(plan.program.clone(), error.to_string());
    let (stdout, out) = output::pipe().map_err(os)?;
    let (stderr, err) = output::pipe().map_err(os)?;
    let child = start(&mut plan, launch, Outputs::Apart(out, err))?.wait_for_exec(&plan.named())?;
    Ok(Apart { child, stdout, stderr })
}

/// The outputs of a process: the write ends of pipes.
enum Outputs {
    /// Both into one, or to `/dev/null`.
    Together(Option<OwnedFd>),
    Apart(OwnedFd, OwnedFd),
}

impl Outputs {
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match self {
            Outputs::Together(writer) => [writer.as_ref().map(AsFd::as_fd); 2],
            Outputs::Apart(out, err) => [Some(out.as_fd()), Some(err.as_fd())],
        }
    }

    /// Reopens a common pipe for reading and writing.
    fn reopen_both_ways(self) -> Outputs {
        match self {
            Outputs::Together(writer) => Outputs::Together(writer.map(output::reopen_both_ways)),
            apart @ Outputs::Apart(..) => apart,
        }
    }
}

fn start(plan: &mut Plan, launch: &Launch<'_>, outputs: Outputs) -> Result<Made, SpawnError> {
    // Libraries, or the parent of the daemon, may have opened descriptors without close-on-exec.
    sys::close_on_exec_from(3).map_err(|error| SpawnError::Os(plan.program.clone(), error.to_string()))?;
    let settings = settings(launch.exec, launch.cgroup.map_or(&launch.exec.limits, |(_, limits)| limits));
    let started = match launch.cgroup {
        None if settings == sys::ChildSettings::default() && plan.account == Account::default() => {
            match clone::start(plan.program()?, outputs.fds(), matches!(outputs, Outputs::Together(_))) {
                Ok(starting) => return Ok(Made::Starting(starting)),
                // A sandbox that forbids it, or another architecture.
                Err((_, program)) => posix::spawn(&program, outputs.reopen_both_ways().fds()),
            }
        }
        cgroup => fork_and_exec(plan, settings, cgroup.map(|(door, _)| door), outputs.reopen_both_ways().fds()),
    };
    match started {
        Ok(pid) => Ok(Made::Started(Child::new(pid, None, None))),
        Err(error) => Err(explain(&error, &plan.named(), launch.exec.user.as_deref())),
    }
}

/// By std, which can run code in the child.
fn fork_and_exec(
    plan: &Plan,
    settings: sys::ChildSettings,
    door: Option<BorrowedFd<'_>>,
    outputs: [Option<BorrowedFd<'_>>; 2],
) -> io::Result<i32> {
    let mut command = Command::new(&plan.path);
    command.arg0(&plan.program).args(&plan.args).env_clear().envs(plan.env.pairs());
    command.current_dir(&plan.cwd).process_group(0).stdin(Stdio::null());
    let stdio = |output: Option<BorrowedFd<'_>>| match output {
        Some(writer) => writer.try_clone_to_owned().map(Stdio::from),
        None => Ok(Stdio::null()),
    };
    command.stdout(stdio(outputs[0])?).stderr(stdio(outputs[1])?);
    if let Some(door) = door {
        sys::enter_group(&mut command, door);
    }
    // Limits and niceness first: another account may have no right to them.
    sys::apply_in_child(&mut command, settings);
    let Account { uid, gid, groups } = &plan.account;
    sys::become_account(&mut command, *uid, *gid, groups.clone());
    i32::try_from(command.spawn()?.id()).map_err(io::Error::other)
}

fn settings(exec: &ExecSpec, limits: &Limits) -> sys::ChildSettings {
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

/// Explains an error: ENOENT may be about the program, its interpreter or the directory.
fn explain(error: &io::Error, named: &Named, user: Option<&str>) -> SpawnError {
    let Named { program, cwd, path } = named;
    // By search permission, which is what chdir(2) needs; listing it may be forbidden.
    if let Err(said) = std::fs::metadata(cwd.join(".")) {
        return SpawnError::Directory(cwd.to_owned(), said.to_string());
    }
    match error.raw_os_error() {
        Some(libc::ENOENT) if path.exists() => {
            SpawnError::Os(program.to_owned(), "the interpreter that its first line names does not exist".into())
        }
        Some(libc::ENOENT) => SpawnError::NotFound(program.to_owned()),
        Some(libc::EACCES) if path.is_dir() => SpawnError::IsDirectory(program.to_owned()),
        Some(libc::EACCES) if is_file_without_x(path) => SpawnError::NotExecutable(program.to_owned()),
        Some(libc::EACCES) if let Some(user) = user => SpawnError::Forbidden(program.to_owned(), user.to_owned()),
        Some(libc::ENOEXEC) => SpawnError::Os(
            program.to_owned(),
            "it is neither an executable for this machine nor a script with a `#!` line".into(),
        ),
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
