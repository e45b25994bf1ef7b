//! What exactly is started: the file, its arguments, its environment, its account. All of it is found out before the
//! fork, where there is time to look things up and to say what is wrong.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, Group, Uid, User, access, getgrouplist};

use super::spec::{Action, ExecSpec};
use super::start::{Launch, SpawnError};
use super::{env, posix};

/// The variable by which a process is known as one of this very daemon's: the daemon's pid.
pub(super) const DAEMON_PID: &str = "FIRELINK_DAEMON_PID";

/// Where programs are looked for if there is no `PATH`: what execvp(3) takes.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Whom the child becomes; nothing, for the daemon's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
}

/// A start, with nothing left to find out.
pub(super) struct Plan {
    /// The program as the job names it, which is also its `argv[0]`.
    pub program: String,
    /// Its file.
    pub path: PathBuf,
    /// Its arguments after `argv[0]`.
    pub args: Vec<OsString>,
    /// All of its environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory, absolute if the daemon's is.
    pub cwd: PathBuf,
    pub account: Account,
}

impl Plan {
    pub fn of(launch: &Launch<'_>) -> Result<Plan, SpawnError> {
        let exec = launch.exec;
        let cwd = exec.cwd.as_ref().map_or_else(|| launch.start_dir.to_owned(), |cwd| launch.start_dir.join(cwd));
        let (program, args) = command_of(launch.action, &cwd)?;
        let mut env = inherited();
        let account = account_of(exec, &mut env)?;
        add_variables(launch, &cwd, &mut env)?;
        let path = find(&program, &cwd, env.get(OsStr::new("PATH")))?;
        Ok(Plan { program, path, args, env, cwd, account })
    }

    /// By posix_spawn(3): the outer error is about what was asked for, the inner what the OS said.
    pub fn start(&self, outputs: [Option<BorrowedFd<'_>>; 2]) -> Result<io::Result<i32>, SpawnError> {
        let nul = |_| SpawnError::Environment(format!("`{}` can't be started: a name contains a NUL byte", self.program));
        let path = CString::new(self.path.as_os_str().as_bytes()).map_err(nul)?;
        let cwd = CString::new(self.cwd.as_os_str().as_bytes()).map_err(nul)?;
        let argv = [self.program.as_bytes()].into_iter().chain(self.args.iter().map(|arg| arg.as_bytes()));
        let argv = argv.map(CString::new).collect::<Result<Vec<_>, _>>().map_err(nul)?;
        let pair = |(name, value): (&OsString, &OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat());
        let envp = self.env.iter().map(pair).collect::<Result<Vec<_>, _>>().map_err(nul)?;
        Ok(posix::spawn(&posix::Program { path: &path, argv: &argv, envp: &envp, cwd: &cwd, outputs }))
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
            // The interpreter would say so too, in its own words and only in the log.
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

/// The daemon's own environment but for what speaks to the daemon itself.
fn inherited() -> BTreeMap<OsString, OsString> {
    let for_the_daemon = |name: &OsString| {
        let name = name.as_bytes();
        name == b"NOTIFY_SOCKET" || [&b"FIRELINK_"[..], b"LISTEN_", b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os().filter(|(name, _)| !for_the_daemon(name)).collect()
}

fn add_variables(launch: &Launch<'_>, cwd: &Path, env: &mut BTreeMap<OsString, OsString>) -> Result<(), SpawnError> {
    for (name, value) in &launch.exec.env {
        refuse_nul(name, OsStr::new(&**value))?;
        env.insert(name.into(), value.into());
    }
    if let Some(file) = &launch.exec.env_file {
        env.extend(env::read(&cwd.join(file)).map_err(SpawnError::Environment)?.into_iter().map(|(n, v)| (n.into(), v.into())));
    }
    for (name, value) in launch.vars {
        refuse_nul(name, value)?;
        env.insert(name.into(), (&**value).into());
    }
    env.insert(DAEMON_PID.into(), std::process::id().to_string().into());
    Ok(())
}

/// No variable can carry a NUL; an S3 key or a payload can.
fn refuse_nul(name: &str, value: &OsStr) -> Result<(), SpawnError> {
    match name.contains('\0') || value.as_bytes().contains(&0) {
        true => Err(SpawnError::Environment(format!("the variable {name} can't be passed: its value contains a NUL byte"))),
        false => Ok(()),
    }
}

/// The program's file: a relative path is meant from the job's directory, a name without a slash from the job's own
/// `PATH`, each of whose directories is tried in turn as execvp(3) does.
fn find(program: &str, cwd: &Path, path: Option<&OsString>) -> Result<PathBuf, SpawnError> {
    if program.contains('/') {
        return Ok(cwd.join(program));
    }
    let path = path.map_or(DEFAULT_PATH.into(), Clone::clone).into_vec();
    path.split(|byte| *byte == b':')
        .map(|dir| cwd.join(OsStr::from_bytes(dir)).join(program))
        .find(|file| access(file, AccessFlags::X_OK).is_ok() && file.is_file())
        .ok_or_else(|| SpawnError::NotFound(program.to_owned()))
}

fn account_of(exec: &ExecSpec, env: &mut BTreeMap<OsString, OsString>) -> Result<Account, SpawnError> {
    let unknown = |what: &str, name: &str| SpawnError::Account(format!("there is no {what} `{name}` on this machine"));
    let said = |what: &str, errno: Errno| SpawnError::Account(format!("the {what} can't be looked up: {errno}"));
    let is_root = Uid::effective().is_root();
    let group = match &exec.group {
        Some(name) => {
            let group = match name.parse() {
                Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
                Err(_) => Group::from_name(name),
            };
            Some(group.map_err(|errno| said("group", errno))?.ok_or_else(|| unknown("group", name))?.gid)
        }
        None => None,
    };
    let Some(name) = &exec.user else {
        // Root's own supplementary groups are no part of what was asked for.
        let groups = group.filter(|_| is_root).map(|gid| vec![gid.as_raw()]);
        return Ok(Account { uid: None, gid: group.map(Gid::as_raw), groups });
    };
    let user = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = user.map_err(|errno| said("user", errno))?.ok_or_else(|| unknown("user", name))?;
    let gid = group.unwrap_or(user.gid);
    let groups = if is_root {
        let c_name = CString::new(user.name.as_str()).map_err(|_| unknown("user", name))?;
        let groups = getgrouplist(&c_name, gid).map_err(|errno| said("user's groups", errno))?;
        Some(groups.into_iter().map(Gid::as_raw).collect())
    } else {
        None
    };
    env.insert("HOME".into(), user.dir.into());
    env.insert("SHELL".into(), user.shell.into());
    env.insert("USER".into(), user.name.clone().into());
    env.insert("LOGNAME".into(), user.name.into());
    Ok(Account { uid: Some(user.uid.as_raw()), gid: Some(gid.as_raw()), groups })
}
