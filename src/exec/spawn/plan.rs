//! What a process is to be, in the form in which its child reads it. No path is looked at here: that is the child's part.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use nix::libc::{self, c_int};

use super::account::Account;
use super::daemon;
use super::env_file;
use super::environment::Environment;
use super::launch::{Launch, SpawnError};
use super::memory::{Mapping, Slot};
use super::steps::Steps;
use crate::exec::marks::DAEMON_PID;
use crate::exec::spec::{Action, Limits};

/// The names in messages about a failed start.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// The program as configured.
    pub program: String,
    /// Its working directory.
    pub cwd: PathBuf,
    pub script: Option<PathBuf>,
    pub env_file: Option<PathBuf>,
    pub user: Option<String>,
}

/// A launch with everything looked up that is the daemon's to look up.
#[derive(Debug)]
pub(super) struct Plan {
    pub named: Named,
    program: CString,
    args: Vec<CString>,
    pub env: Environment,
    cwd: CString,
    script: Option<CString>,
    env_file: Option<CString>,
    account: Account,
    limits: [Option<(c_int, u64)>; 4],
    nice: Option<c_int>,
    umask: Option<u32>,
}

impl Plan {
    pub fn of(launch: &Launch<'_>) -> Result<Plan, SpawnError> {
        let exec = launch.exec;
        let cwd = exec.cwd.as_ref().map_or_else(|| launch.start_dir.to_owned(), |cwd| launch.start_dir.join(cwd));
        let (program, args) = command_of(launch.action)?;
        let script = match launch.action {
            Action::Script { script, .. } => Some(script),
            _ => None,
        };
        let account = Account::of(exec)?;
        let mut env = Environment::inherited(&exec.inherit_env, account.is_other_user());
        add_variables(launch, &account, &mut env)?;
        let string = |name: &OsStr| {
            let nul = |_| SpawnError::Environment(format!("`{program}` can't be started: a name contains a NUL byte"));
            CString::new(name.as_bytes()).map_err(nul)
        };
        let limits = launch.cgroup.map_or(&exec.limits, |(_, limits)| limits);
        Ok(Plan {
            program: string(OsStr::new(&program))?,
            args: args.iter().map(|arg| string(arg)).collect::<Result<_, _>>()?,
            env,
            cwd: string(cwd.as_os_str())?,
            script: script.map(|script| string(script.as_os_str())).transpose()?,
            env_file: exec.env_file.as_ref().map(|file| string(file.as_os_str())).transpose()?,
            account,
            limits: limits_of(limits),
            nice: exec.nice,
            umask: exec.umask,
            named: Named {
                script: script.map(|script| cwd.join(script)),
                env_file: exec.env_file.as_ref().map(|file| cwd.join(file)),
                cwd,
                program,
                user: exec.user.clone(),
            },
        })
    }

    /// What the child reads, with the outputs and the write end of the pipe that reports its exec.
    ///
    /// # Errors
    /// What mmap(2) said.
    pub fn prepare(self, outputs: [c_int; 2], reopen: bool, wake: c_int) -> std::io::Result<Prepared> {
        let daemon = daemon::properties()?;
        let slot = Slot::take()?;
        let strings = |strings: &mut dyn Iterator<Item = &CStr>| -> Vec<*const c_char> {
            strings.map(CStr::as_ptr).chain([ptr::null()]).collect()
        };
        let mut argv: Vec<*const c_char> = vec![ptr::null(), self.program.as_ptr()];
        argv.extend(self.args.iter().map(|arg| arg.as_ptr()));
        argv.push(ptr::null());
        let reopen = match outputs[0] {
            fd @ 0.. if reopen => CString::new(format!("/proc/self/fd/{fd}")).ok(),
            _ => None,
        };
        let or_null = |string: &Option<CString>| string.as_ref().map_or(ptr::null(), |string| string.as_ptr());
        let (envp, lower, upper, file) = match &self.env_file {
            None => (strings(&mut self.env.strings()), Vec::new(), Vec::new(), None),
            Some(_) => {
                let (lower, upper) = (strings(&mut self.env.lower()), strings(&mut self.env.upper()));
                let pointers = (lower.len() + upper.len() + env_file::MOST) * size_of::<*const c_char>();
                // Private: its contents are nobody else's.
                let file = Mapping::new(pointers + env_file::LARGEST + 2, libc::MAP_PRIVATE)?;
                (Vec::new(), lower, upper, Some((file, pointers)))
            }
        };
        let (merged, text) = match &file {
            // SAFETY: within the mapping.
            Some((file, pointers)) => (file.start().cast(), unsafe { file.start().add(*pointers) }),
            None => (ptr::null_mut(), ptr::null_mut()),
        };
        let steps = Steps {
            report: slot.report(),
            parent: nix::unistd::getpid().as_raw(),
            ignored: daemon.ignored_signals(),
            closes_range: daemon.has_close_range,
            wake,
            null: daemon.null.as_raw_fd(),
            outputs,
            reopen: or_null(&reopen),
            resets_oom_score: daemon.has_low_oom_score,
            resets_io_class: daemon.has_io_class,
            cgroup: -1,
            limits: self.limits,
            nice: self.nice,
            umask: self.umask,
            groups: self.account.groups.as_ref().map(|groups| (groups.as_ptr(), groups.len())),
            gid: self.account.gid,
            uid: self.account.uid,
            cwd: self.cwd.as_ptr(),
            script: or_null(&self.script),
            program: self.program.as_ptr(),
            argv: argv.as_mut_ptr(),
            envp: envp.as_ptr(),
            env_file: or_null(&self.env_file),
            text,
            lower: lower.as_ptr(),
            upper: upper.as_ptr(),
            merged,
        };
        let held = Held { plan: self, _pointers: [argv, envp, lower, upper], _reopen: reopen, _file: file.map(|(file, _)| file) };
        Ok(Prepared { steps: Box::new(steps), slot, held })
    }
}

/// What a child works on, and all that it points to.
#[derive(Debug)]
pub(super) struct Prepared {
    pub steps: Box<Steps>,
    pub slot: Slot,
    held: Held,
}

// SAFETY: the pointers in `steps` are into what it owns.
unsafe impl Send for Prepared {}

#[derive(Debug)]
struct Held {
    plan: Plan,
    _pointers: [Vec<*const c_char>; 4],
    _reopen: Option<CString>,
    _file: Option<Mapping>,
}

impl Prepared {
    /// The names for messages.
    pub fn named(&self) -> &Named {
        &self.held.plan.named
    }

    /// The child has executed its program or is gone.
    pub fn release(self) {
        self.slot.give_back();
    }
}

fn command_of(action: &Action) -> Result<(String, Vec<OsString>), SpawnError> {
    let (program, args): (&str, Vec<OsString>) = match action {
        Action::Milestone => return Err(SpawnError::Nothing),
        Action::Shell(line) => ("/bin/sh", vec!["-c".into(), (&**line).into()]),
        Action::Argv(argv) => match argv.split_first() {
            Some((program, args)) => (program, args.iter().map(|arg| (&**arg).into()).collect()),
            None => return Err(SpawnError::Nothing),
        },
        Action::Script { interpreter, script, args } => {
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

fn limits_of(limits: &Limits) -> [Option<(c_int, u64)>; 4] {
    let limit = |resource, value: Option<u64>| value.map(|value| (resource as c_int, value));
    [
        limit(libc::RLIMIT_AS, limits.memory),
        limit(libc::RLIMIT_NPROC, limits.pids),
        limit(libc::RLIMIT_CPU, limits.cpu_secs),
        limit(libc::RLIMIT_NOFILE, limits.open_files),
    ]
}

fn add_variables(launch: &Launch<'_>, account: &Account, env: &mut Environment) -> Result<(), SpawnError> {
    for (name, value) in &account.variables {
        env.set(name, value).map_err(|_| has_nul(name))?;
    }
    for (name, value) in &launch.exec.env {
        env.set(name, OsStr::new(value)).map_err(|_| has_nul(name))?;
    }
    for (name, value) in launch.vars {
        fix(env, name, value)?;
    }
    fix(env, DAEMON_PID, OsStr::new(&std::process::id().to_string()))
}

/// A variable that no `env_file` overrides. It can't contain a NUL byte; an S3 key or a payload can.
pub(super) fn fix(env: &mut Environment, name: &str, value: &OsStr) -> Result<(), SpawnError> {
    env.fix(name, value).map_err(|_| has_nul(name))
}

fn has_nul(name: &str) -> SpawnError {
    SpawnError::Environment(format!("the variable {name} can't be passed: its value contains a NUL byte"))
}
