//! The program to execute: file, arguments, environment, account. All of it is resolved before the fork, where look-ups and
//! error messages are possible.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, Group, Uid, User, access, getgrouplist};

use super::env_file;
use super::environment::Environment;
use super::launch::{Launch, SpawnError};
use crate::exec::marks::DAEMON_PID;
use crate::exec::spec::{Action, ExecSpec};

/// The search path if there is no `PATH`: that of execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The account of the child; all `None` for the daemon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::exec) struct Account {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
}

/// The arguments of execve(2).
#[derive(Debug)]
pub(in crate::exec) struct Program {
    /// The resolved file.
    pub path: CString,
    /// Its arguments, from `argv[0]` on.
    pub argv: Vec<CString>,
    pub env: Environment,
    /// Its working directory.
    pub cwd: CString,
}

impl Program {
    /// Pointers for execve(2), valid while `self` lives; not to be written through.
    pub fn argv(&self) -> Vec<*const c_char> {
        null_terminated(self.argv.iter().map(|arg| &**arg))
    }

    /// The same for the environment.
    pub fn envp(&self) -> Vec<*const c_char> {
        null_terminated(self.env.strings())
    }
}

fn null_terminated<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings.map(CStr::as_ptr).chain([ptr::null()]).collect()
}

/// The names in messages about a failed start.
#[derive(Clone, Debug)]
pub(in crate::exec) struct Named {
    /// The program as configured.
    pub program: String,
    /// Its file.
    pub path: PathBuf,
    /// Its working directory.
    pub cwd: PathBuf,
}

/// A resolved launch.
pub(in crate::exec) struct Plan {
    /// The program as configured, which is also its `argv[0]`.
    pub program: String,
    /// Its file.
    pub path: PathBuf,
    /// Its arguments after `argv[0]`.
    pub args: Vec<OsString>,
    /// All of its environment.
    pub env: Environment,
    /// Its working directory, absolute if the daemon's is.
    pub cwd: PathBuf,
    pub account: Account,
}

impl Plan {
    pub fn of(launch: &Launch<'_>) -> Result<Plan, SpawnError> {
        let exec = launch.exec;
        let cwd = exec.cwd.as_ref().map_or_else(|| launch.start_dir.to_owned(), |cwd| launch.start_dir.join(cwd));
        let (program, args) = command_of(launch.action, &cwd)?;
        let mut env = Environment::inherited();
        let account = account_of(exec, &mut env)?;
        add_variables(launch, &cwd, &mut env)?;
        let path = find(&program, &cwd, env.get("PATH"))?;
        Ok(Plan { program, path, args, env, cwd, account })
    }

    /// The part for the kernel; takes the environment.
    pub fn program(&mut self) -> Result<Program, SpawnError> {
        let argv = [self.program.as_bytes()].into_iter().chain(self.args.iter().map(|arg| arg.as_bytes()));
        Ok(Program {
            path: self.string(self.path.as_os_str().as_bytes())?,
            argv: argv.map(|arg| self.string(arg)).collect::<Result<_, _>>()?,
            cwd: self.string(self.cwd.as_os_str().as_bytes())?,
            env: std::mem::take(&mut self.env),
        })
    }

    /// The names for messages.
    pub fn named(&self) -> Named {
        Named { program: self.program.clone(), path: self.path.clone(), cwd: self.cwd.clone() }
    }

    fn string(&self, name: &[u8]) -> Result<CString, SpawnError> {
        let nul = |_| SpawnError::Environment(format!("`{}` can't be started: a name contains a NUL byte", self.program));
        CString::new(name).map_err(nul)
    }
}

fn command_of(action: &Action, cwd: &Path) -> Result<(String, Vec<OsString>), SpawnError> {
    let (program, args): (&str, Vec<OsString>) = match action {
        Action::Milestone => return Err(SpawnError::Nothing),
        Action::Shell(line) => ("/bin/sh", vec!["-c".into(), (&**line).into()]),
        Action::Argv(argv) => match argv.split_first() {
            Some((program, args)) => (program, args.iter().map(|arg| (&**arg).into()).collect()),
            None => return Err(SpawnError::Nothing),
        },
        Action::Script { interpreter, script, args } => {
            // The interpreter would report it too, but only in the run's log.
            if !cwd.join(script).exists() && cwd.exists() {
                return Err(SpawnError::NoScript(cwd.join(script)));
            }
            let Some((program, rest)) = interpreter.split_first() else { return Err(SpawnError::Nothing) };
            let rest = rest.iter().map(|arg| OsString::from(&**arg));
            (program, rest.chain([script.into()]).chain(args.iter().map(|arg| (&**arg).into())).collect())
        }
    };
    if program.contains('\0') || args.iter().any(|arg| arg.as_bytes().contains(&0)) {
        let program = program.replace('\0', "\\0");
        return Err(SpawnError::Environment(format!("an argument of `{program}` contains a NUL byte")));
    }
    Ok((program.to_owned(), args))
}

fn add_variables(launch: &Launch<'_>, cwd: &Path, env: &mut Environment) -> Result<(), SpawnError> {
    for (name, value) in &launch.exec.env {
        set(env, name, OsStr::new(value))?;
    }
    if let Some(file) = &launch.exec.env_file {
        for (name, value) in env_file::read(&cwd.join(file)).map_err(SpawnError::Environment)? {
            set(env, &name, OsStr::new(&value))?;
        }
    }
    for (name, value) in launch.vars {
        set(env, name, value)?;
    }
    set(env, DAEMON_PID, OsStr::new(&std::process::id().to_string()))
}

/// A variable can't contain a NUL byte; an S3 key or a payload can.
pub(in crate::exec) fn set(env: &mut Environment, name: &str, value: &OsStr) -> Result<(), SpawnError> {
    let nul = |_| SpawnError::Environment(format!("the variable {name} can't be passed: its value contains a NUL byte"));
    env.set(name, value).map_err(nul)
}

/// The program's file: a path is relative to the job's directory; a name without a slash is looked up in the job's own `PATH`,
/// as in execvp(3).
fn find(program: &str, cwd: &Path, path: Option<&OsStr>) -> Result<PathBuf, SpawnError> {
    if program.contains('/') {
        return Ok(cwd.join(program));
    }
    let path = path.map_or(DEFAULT_PATH.as_bytes(), OsStr::as_bytes);
    path.split(|byte| *byte == b':')
        .map(|dir| cwd.join(OsStr::from_bytes(dir)).join(program))
        .find(|file| access(file, AccessFlags::X_OK).is_ok() && file.is_file())
        .ok_or_else(|| SpawnError::NotFound(program.to_owned()))
}

fn account_of(exec: &ExecSpec, env: &mut Environment) -> Result<Account, SpawnError> {
    let unknown = |what: &str, name: &str| SpawnError::Account(format!("there is no {what} `{name}` on this machine"));
    let failed = |what: &str, errno: Errno| SpawnError::Account(format!("the {what} can't be looked up: {errno}"));
    let group = match &exec.group {
        Some(name) => {
            let group = match name.parse() {
                Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
                Err(_) => Group::from_name(name),
            };
            Some(group.map_err(|errno| failed("group", errno))?.ok_or_else(|| unknown("group", name))?.gid)
        }
        None => None,
    };
    if exec.user.is_none() && group.is_none() {
        return Ok(Account::default());
    }
    let is_root = Uid::effective().is_root();
    let Some(name) = &exec.user else {
        // Without root's own supplementary groups, which were not asked for.
        let groups = group.filter(|_| is_root).map(|gid| vec![gid.as_raw()]);
        return Ok(Account { uid: None, gid: group.map(Gid::as_raw), groups });
    };
    let user = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = user.map_err(|errno| failed("user", errno))?.ok_or_else(|| unknown("user", name))?;
    let gid = group.unwrap_or(user.gid);
    let groups = if is_root {
        let c_name = CString::new(user.name.as_str()).map_err(|_| unknown("user", name))?;
        let groups = getgrouplist(&c_name, gid).map_err(|errno| failed("user's groups", errno))?;
        Some(groups.into_iter().map(Gid::as_raw).collect())
    } else {
        None
    };
    set(env, "HOME", user.dir.as_os_str())?;
    set(env, "SHELL", user.shell.as_os_str())?;
    set(env, "USER", OsStr::new(&user.name))?;
    set(env, "LOGNAME", OsStr::new(&user.name))?;
    Ok(Account { uid: Some(user.uid.as_raw()), gid: Some(gid.as_raw()), groups })
}
