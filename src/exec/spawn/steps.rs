//! The child's program: from clone(2) to execve(2), as a list of system calls.
//!
//! All that a process is to be is set here, in the child, as far as possible with the rights of the job's own user: the
//! daemon touches no path of a job, and a file system that does not answer holds up this one child. The child shares the
//! daemon's memory, so this code makes system calls directly (`raw`), allocates nothing, does not panic, and writes only to
//! its [`Report`] and to the buffers that [`Steps`] hands it.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::libc::{self, c_char, c_int, c_long};

use super::env_file::{self, Fault};
use super::raw::{call, ids};

/// The exit code of a child that can't execute its program; its report says why.
const FAILED: usize = 127;

/// The longest path, its NUL included (`PATH_MAX` of linux/limits.h).
const PATH_MAX: usize = 4096;

/// The search path if there is no `PATH`: that of execvp(3).
const DEFAULT_PATH: &CStr = c"/bin:/usr/bin";

/// While it reads `env_file`, a child may have at least so many descriptors, whatever the job's own limit is.
const FEWEST_FILES: u64 = 16;

/// A descriptor that the child keeps until the exec, above the standard streams.
const WAKE: usize = 3;

/// What the child is doing, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Begin = 0,
    Session,
    Signals,
    Streams,
    OomScore,
    IoClass,
    Cgroup,
    Descriptors,
    Limits,
    Niceness,
    Groups,
    Group,
    User,
    Parent,
    Directory,
    EnvFile,
    Script,
    Exec,
}

impl Step {
    const ALL: [Step; 18] = [
        Step::Begin,
        Step::Session,
        Step::Signals,
        Step::Streams,
        Step::OomScore,
        Step::IoClass,
        Step::Cgroup,
        Step::Descriptors,
        Step::Limits,
        Step::Niceness,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Parent,
        Step::Directory,
        Step::EnvFile,
        Step::Script,
        Step::Exec,
    ];
}

/// What a failed [`Step::Exec`] has found in place of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Found {
    Unknown = 0,
    Nothing,
    Directory,
    /// A file that nobody may execute.
    NotExecutable,
    /// A file.
    File,
}

impl Found {
    const ALL: [Found; 5] = [Found::Unknown, Found::Nothing, Found::Directory, Found::NotExecutable, Found::File];
}

/// What a child says of itself, in memory that it shares with the daemon.
#[derive(Debug)]
pub(super) struct Report {
    step: AtomicU32,
    errno: AtomicI32,
    detail: AtomicU32,
    line: AtomicU32,
    /// The last path that was built.
    path: UnsafeCell<[u8; PATH_MAX]>,
}

/// The end of a child that has not executed its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub step: Step,
    /// 0 for a faulty `env_file`.
    pub errno: i32,
    pub found: Found,
    /// What is wrong with `env_file`, and where.
    pub fault: Option<(Fault, u32)>,
}

impl Report {
    pub fn clear(&self) {
        for word in [&self.step, &self.detail, &self.line] {
            word.store(0, Ordering::Relaxed);
        }
        self.errno.store(0, Ordering::Relaxed);
    }

    /// What the child is doing, or was when it ended.
    pub fn step(&self) -> Step {
        let number = self.step.load(Ordering::Acquire);
        Step::ALL.into_iter().find(|step| *step as u32 == number).unwrap_or(Step::Begin)
    }

    /// Why the child has not executed its program; `None` if it has, or was killed before.
    pub fn failed(&self) -> Option<Failed> {
        let (errno, detail) = (self.errno.load(Ordering::Acquire), self.detail.load(Ordering::Relaxed));
        let step = self.step();
        let line = self.line.load(Ordering::Relaxed);
        let fault =
            Fault::ALL.into_iter().find(|fault| step == Step::EnvFile && *fault as u32 == detail).map(|fault| (fault, line));
        let found = Found::ALL.into_iter().find(|found| *found as u32 == detail).unwrap_or(Found::Unknown);
        (errno != 0 || fault.is_some()).then_some(Failed { step, errno, found, fault })
    }

    fn begin(&self, step: Step) {
        self.step.store(step as u32, Ordering::Release);
    }

    fn fail(&self, errno: c_int, detail: u32, line: u32) {
        self.detail.store(detail, Ordering::Relaxed);
        self.line.store(line, Ordering::Relaxed);
        self.errno.store(errno, Ordering::Release);
    }
}

/// What the child is to do. Strings end with a NUL, arrays of strings with a null; all of it stays as it is until the child has
/// executed its program or is gone.
#[derive(Debug)]
pub(super) struct Steps {
    pub report: *const Report,
    /// The daemon's pid.
    pub parent: c_int,
    /// Signals that the daemon ignores.
    pub ignored: &'static [c_int],
    /// Whether the kernel has close_range(2); else the daemon has set close-on-exec on all of its descriptors.
    pub closes_range: bool,
    /// The write end of the pipe that is closed when the program is executed.
    pub wake: c_int,
    /// `/dev/null`.
    pub null: c_int,
    /// stdout and stderr; -1: `/dev/null`.
    pub outputs: [c_int; 2],
    /// The path of the first output, if it is to be reopened for reading and writing and used as both.
    pub reopen: *const c_char,
    /// The daemon is protected from the OOM killer, or has an I/O class of its own: the job is not and has none.
    pub resets_oom_score: bool,
    pub resets_io_class: bool,
    /// The directory of the control group to enter, unless clone3(2) has entered it; else -1.
    pub cgroup: c_int,
    pub limits: [Option<(c_int, u64)>; 4],
    pub nice: Option<c_int>,
    pub umask: Option<u32>,
    pub groups: Option<(*const u32, usize)>,
    pub gid: Option<u32>,
    pub uid: Option<u32>,
    pub cwd: *const c_char,
    /// Must exist, if it is not null: the interpreter would report it in the run's log only.
    pub script: *const c_char,
    pub program: *const c_char,
    /// `argv[1..]` are the arguments from the program's name on; the first place is for a shell's name.
    pub argv: *mut *const c_char,
    /// The environment without `env_file`.
    pub envp: *const *const c_char,
    /// Null without an `env_file`.
    pub env_file: *const c_char,
    /// Where it is read to, [`env_file::LARGEST`] and two bytes more.
    pub text: *mut u8,
    /// The environment that `env_file` overrides, and that which overrides it.
    pub lower: *const *const c_char,
    pub upper: *const *const c_char,
    /// Room for all of them and [`env_file::MOST`] more.
    pub merged: *mut *const c_char,
}

/// An errno, and the details of the report.
struct Stop {
    errno: c_int,
    detail: u32,
    line: u32,
}

impl From<c_int> for Stop {
    fn from(errno: c_int) -> Stop {
        Stop { errno, detail: 0, line: 0 }
    }
}

/// The child. It never returns.
///
/// # Safety
/// To be called in a new process, with steps as [`Steps`] says.
pub(super) unsafe extern "C" fn child(steps: *const Steps) -> ! {
    // SAFETY: the caller's.
    let (steps, report) = unsafe { (&*steps, &*(*steps).report) };
    // SAFETY: the caller's.
    if let Err(stop) = unsafe { become_program(steps, report) } {
        report.fail(stop.errno, stop.detail, stop.line);
    }
    loop {
        // SAFETY: ends this process, whatever memory it shares; it has no other thread.
        let _ = unsafe { call(libc::SYS_exit_group, [FAILED, 0, 0, 0, 0]) };
    }
}

const HERE: usize = libc::AT_FDCWD as usize;

/// # Safety
/// As [`child`].
unsafe fn become_program(steps: &Steps, report: &Report) -> Result<(), Stop> {
    let envp;
    // SAFETY: all of these are system calls on numbers, on strings that live until the exec, and on locals of the right
    // layout; the descriptors, dispositions and credentials that they change are this process's own.
    unsafe {
        report.begin(Step::Session);
        call(libc::SYS_setsid, [0; 5])?;
        report.begin(Step::Signals);
        for signal in steps.ignored {
            // As the kernel has it: handler, flags, restorer, mask. Zeros are the default disposition.
            let default = [0_u64; 4];
            call(libc::SYS_rt_sigaction, [number(*signal), default.as_ptr() as usize, 0, 8, 0])?;
        }
        report.begin(Step::Streams);
        streams(steps)?;
        if steps.resets_oom_score {
            report.begin(Step::OomScore);
            write_to(HERE, c"/proc/self/oom_score_adj", b"0")?;
        }
        if steps.resets_io_class {
            report.begin(Step::IoClass);
            // ioprio_set(2): IOPRIO_WHO_PROCESS, this process, IOPRIO_CLASS_NONE.
            call(libc::SYS_ioprio_set, [1, 0, 0, 0, 0])?;
        }
        if steps.cgroup >= 0 {
            report.begin(Step::Cgroup);
            write_to(number(steps.cgroup), c"cgroup.procs", b"0")?;
        }
        if steps.closes_range {
            report.begin(Step::Descriptors);
            if number(steps.wake) != WAKE {
                call(libc::SYS_dup3, [number(steps.wake), WAKE, number(libc::O_CLOEXEC), 0, 0])?;
            }
            // Libraries, or the parent of the daemon, may have opened descriptors without close-on-exec.
            call(libc::SYS_close_range, [WAKE + 1, u32::MAX as usize, 0, 0, 0])?;
        }
        report.begin(Step::Limits);
        for (resource, limit) in steps.limits.iter().flatten() {
            set_limit(*resource, if is_of_files(*resource) { (*limit).max(FEWEST_FILES) } else { *limit })?;
        }
        report.begin(Step::Niceness);
        if let Some(nice) = steps.nice {
            // getpriority(2) returns 20 - nice; PRIO_PROCESS, this process.
            let now = 20 - c_int::try_from(call(libc::SYS_getpriority, [0, 0, 0, 0, 0])?).unwrap_or(20);
            call(libc::SYS_setpriority, [0, 0, number(now.saturating_add(nice).clamp(-20, 19)), 0, 0])?;
        }
        if let Some(mask) = steps.umask {
            call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0])?;
        }
        // Groups first, the user last: each needs the rights that the next drops.
        if let Some((groups, count)) = steps.groups {
            report.begin(Step::Groups);
            call(ids::SETGROUPS, [count, groups as usize, 0, 0, 0])?;
        }
        if let Some(gid) = steps.gid {
            report.begin(Step::Group);
            call(ids::SETGID, [gid as usize, 0, 0, 0, 0])?;
        }
        if let Some(uid) = steps.uid {
            report.begin(Step::User);
            call(ids::SETUID, [uid as usize, 0, 0, 0, 0])?;
        }
        // From here on it may wait for a file system. A daemon that dies meanwhile takes it along: the next one could not know
        // of a process that begins after all. Not before: a change of credentials resets it (prctl(2)).
        report.begin(Step::Parent);
        call(libc::SYS_prctl, [number(libc::PR_SET_PDEATHSIG), number(libc::SIGKILL), 0, 0, 0])?;
        if call(libc::SYS_getppid, [0; 5])? != number(steps.parent) {
            return Err(libc::ESRCH.into());
        }
        report.begin(Step::Directory);
        call(libc::SYS_chdir, [steps.cwd as usize, 0, 0, 0, 0])?;
        envp = if steps.env_file.is_null() {
            steps.envp
        } else {
            report.begin(Step::EnvFile);
            environment(steps)?
        };
        if !steps.script.is_null() {
            report.begin(Step::Script);
            // Only what is not there: an interpreter may read what this user may not look up otherwise.
            if call(libc::SYS_faccessat, [HERE, steps.script as usize, number(libc::F_OK), 0, 0]) == Err(libc::ENOENT) {
                return Err(libc::ENOENT.into());
            }
        }
        report.begin(Step::Exec);
        for (resource, limit) in steps.limits.iter().flatten().filter(|(resource, _)| is_of_files(*resource)) {
            set_limit(*resource, *limit)?;
        }
        call(libc::SYS_prctl, [number(libc::PR_SET_PDEATHSIG), 0, 0, 0, 0])?;
        let none = 0_u64;
        call(libc::SYS_rt_sigprocmask, [number(libc::SIG_SETMASK), (&raw const none) as usize, 0, 8, 0])?;
        Err(execute(steps, report, envp))
    }
}

/// An argument for a system call; the kernel takes as much of it as the parameter has.
fn number(value: c_int) -> usize {
    value as isize as usize
}

/// stdin from `/dev/null`, and the outputs.
///
/// # Safety
/// As [`child`].
unsafe fn streams(steps: &Steps) -> Result<(), c_int> {
    // SAFETY: numbers, and a string that lives until the exec. A duplicate does not have the close-on-exec flag.
    unsafe {
        let copy = |fd: usize, target: usize| call(libc::SYS_dup3, [fd, target, 0, 0, 0]);
        copy(number(steps.null), 0)?;
        let again = match steps.reopen.is_null() {
            true => None,
            false => call(libc::SYS_openat, [HERE, steps.reopen as usize, number(libc::O_RDWR | libc::O_CLOEXEC), 0, 0]).ok(),
        };
        for (target, output) in [(1, steps.outputs[0]), (2, steps.outputs[1])] {
            let given = if output < 0 { steps.null } else { output };
            copy(again.unwrap_or(number(given)), target)?;
        }
    }
    Ok(())
}

/// # Safety
/// As [`child`].
unsafe fn write_to(directory: usize, name: &CStr, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: strings and bytes that live until the calls return.
    unsafe {
        let flags = number(libc::O_WRONLY | libc::O_CLOEXEC);
        let fd = call(libc::SYS_openat, [directory, name.as_ptr() as usize, flags, 0, 0])?;
        let written = call(libc::SYS_write, [fd, text.as_ptr() as usize, text.len(), 0, 0]);
        let _ = call(libc::SYS_close, [fd, 0, 0, 0, 0]);
        written.map(drop)
    }
}

fn is_of_files(resource: c_int) -> bool {
    resource == libc::RLIMIT_NOFILE as c_int
}

/// # Safety
/// As [`child`].
unsafe fn set_limit(resource: c_int, limit: u64) -> Result<(), c_int> {
    // struct rlimit64 of prlimit(2): soft and hard.
    let both = [limit; 2];
    // SAFETY: the kernel reads a local of the right layout.
    unsafe { call(libc::SYS_prlimit64, [0, number(resource), both.as_ptr() as usize, 0, 0]) }.map(drop)
}

/// Reads `env_file` and merges it between the other variables.
///
/// # Safety
/// As [`child`].
unsafe fn environment(steps: &Steps) -> Result<*const *const c_char, Stop> {
    let fault = |fault: Fault, line| Stop { errno: 0, detail: fault as u32, line };
    // SAFETY: the daemon does not touch the buffers until this process has executed its program or is gone; their sizes are
    // those that `Steps` states, and nothing is written beyond: one variable of each array, and of the file no more than `MOST`.
    unsafe {
        // A FIFO without a writer must not block the open, and a terminal not become this session's.
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        let fd = call(libc::SYS_openat, [HERE, steps.env_file as usize, number(flags), 0, 0])?;
        match mode_of(fd, c"".as_ptr(), libc::AT_EMPTY_PATH) {
            Ok(mode) if mode & libc::S_IFMT != libc::S_IFREG => return Err(fault(Fault::NotRegular, 0)),
            // A device without an end is read no further than the limit.
            Ok(_) | Err(_) => {}
        }
        let mut length = 0;
        loop {
            let room = env_file::LARGEST + 1 - length;
            match call(libc::SYS_read, [fd, steps.text as usize + length, room, 0, 0])? {
                0 => break,
                count => length += count,
            }
            if length > env_file::LARGEST {
                return Err(fault(Fault::TooLarge, 0));
            }
        }
        let text = std::slice::from_raw_parts_mut(steps.text, length + 1);
        // The variables of the file begin where those below them end, and are moved down when those are merged.
        let below = count(steps.lower);
        let own = steps.merged.add(below);
        let mut found = 0;
        let start = steps.text;
        env_file::parse(text, length, |offset| {
            own.add(found).write(start.add(offset).cast_const().cast());
            found += 1;
        })
        .map_err(|(what, line)| fault(what, line))?;
        let mut out = 0;
        for index in 0..below {
            let entry = steps.lower.add(index).read();
            if !is_in(entry, own, found) && !is_in(entry, steps.upper, count(steps.upper)) {
                steps.merged.add(out).write(entry);
                out += 1;
            }
        }
        for index in 0..found {
            let entry = own.add(index).read();
            // The last value of a name counts.
            if !is_in(entry, own.add(index + 1), found - index - 1) && !is_in(entry, steps.upper, count(steps.upper)) {
                steps.merged.add(out).write(entry);
                out += 1;
            }
        }
        for index in 0..count(steps.upper) {
            steps.merged.add(out).write(steps.upper.add(index).read());
            out += 1;
        }
        steps.merged.add(out).write(ptr::null());
    }
    Ok(steps.merged)
}

/// The length of an array that ends with a null.
///
/// # Safety
/// It must be one.
unsafe fn count(strings: *const *const c_char) -> usize {
    let mut count = 0;
    // SAFETY: the caller's; the end is not passed.
    while !unsafe { strings.add(count).read() }.is_null() {
        count += 1;
    }
    count
}

/// True if one of these variables has the name of `entry`.
///
/// # Safety
/// All of them must be `NAME=value` with a NUL.
unsafe fn is_in(entry: *const c_char, strings: *const *const c_char, count: usize) -> bool {
    (0..count).any(|index| {
        let mut at = 0;
        loop {
            // SAFETY: the caller's; a difference, of which the NUL would be one, ends it.
            let (one, other) = unsafe { (entry.add(at).read(), strings.add(index).read().add(at).read()) };
            match one {
                _ if one != other => return false,
                0 => return false,
                61 => return true,
                _ => at += 1,
            }
        }
    })
}

/// `stx_mode` of statx(2) (Linux 4.11).
///
/// # Safety
/// `path` ends with a NUL.
unsafe fn mode_of(directory: usize, path: *const c_char, flags: c_int) -> Result<u32, c_int> {
    // struct statx has 256 bytes; the mode is at 28, the size of its 16-bit field.
    let mut out = [0_u64; 32];
    // SAFETY: the kernel fills in a local that is large enough.
    unsafe {
        let asked = (libc::STATX_TYPE | libc::STATX_MODE) as usize;
        call(libc::SYS_statx, [directory, path as usize, number(flags), asked, (&raw mut out) as usize])?;
    }
    let bytes = out[3].to_ne_bytes();
    Ok(u32::from(u16::from_ne_bytes([bytes[4], bytes[5]])))
}

/// Executes the program, as execvp(3) does; returns only on failure.
///
/// # Safety
/// As [`child`].
unsafe fn execute(steps: &Steps, report: &Report, envp: *const *const c_char) -> Stop {
    // SAFETY: as `Steps` says.
    unsafe {
        let name = CStr::from_ptr(steps.program);
        if name.to_bytes().contains(&b'/') {
            let errno = execute_file(steps, steps.program, envp);
            return Stop { errno, detail: look(steps.program) as u32, line: 0 };
        }
        let path = variable(envp, b"PATH=").unwrap_or(DEFAULT_PATH.to_bytes());
        let mut denied = false;
        for directory in path.split(|byte| *byte == b':') {
            let Some(file) = join(report, directory, name) else { continue };
            match execute_file(steps, file, envp) {
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ESTALE | libc::ENOTDIR | libc::ENODEV | libc::ETIMEDOUT => {}
                errno => return Stop { errno, detail: look(file) as u32, line: 0 },
            }
        }
        // What the message is about: the first file of this name.
        for directory in path.split(|byte| *byte == b':') {
            if let Some(file) = join(report, directory, name)
                && let found @ (Found::File | Found::NotExecutable) = look(file)
            {
                return Stop { errno: if denied { libc::EACCES } else { libc::ENOENT }, detail: found as u32, line: 0 };
            }
        }
        Stop { errno: libc::ENOENT, detail: Found::Nothing as u32, line: 0 }
    }
}

/// Builds a path in the report; `None` if it is too long.
fn join(report: &Report, directory: &[u8], name: &CStr) -> Option<*const c_char> {
    // SAFETY: only this process uses it, until it has executed its program or is gone.
    let path = unsafe { &mut *report.path.get() };
    let directory = if directory.is_empty() { b"." } else { directory };
    let name = name.to_bytes_with_nul();
    let slash = directory.len();
    path.get_mut(..slash)?.copy_from_slice(directory);
    *path.get_mut(slash)? = b'/';
    path.get_mut(slash + 1..slash + 1 + name.len())?.copy_from_slice(name);
    Some(path.as_ptr().cast())
}

/// The value of a variable; `name` ends with `=`.
///
/// # Safety
/// An environment as of execve(2).
unsafe fn variable<'a>(envp: *const *const c_char, name: &[u8]) -> Option<&'a [u8]> {
    // SAFETY: the caller's.
    unsafe { (0..count(envp)).find_map(|index| CStr::from_ptr(envp.add(index).read()).to_bytes().strip_prefix(name)) }
}

/// Executes a file; one without a `#!` line that is no binary is a script for the shell, as execvp(3) has it. Returns the errno.
///
/// # Safety
/// As [`child`].
unsafe fn execute_file(steps: &Steps, file: *const c_char, envp: *const *const c_char) -> c_int {
    const SHELL: &CStr = c"/bin/sh";
    let execve = |path: *const c_char, argv: *const *const c_char| {
        // SAFETY: strings and arrays as execve(2) wants them.
        let refused = unsafe { call(libc::SYS_execve as c_long, [path as usize, argv as usize, envp as usize, 0, 0]) };
        refused.err().unwrap_or(libc::EIO)
    };
    // SAFETY: `argv` has a place before its first argument, and is this process's to write to.
    unsafe {
        let own = steps.argv.add(1);
        let errno = execve(file, own);
        if errno != libc::ENOEXEC || is_binary(file) {
            return errno;
        }
        let name = own.read();
        steps.argv.write(SHELL.as_ptr());
        own.write(file);
        let errno = execve(SHELL.as_ptr(), steps.argv);
        own.write(name);
        errno
    }
}

/// True for a file with a NUL byte in its first line, or one that can't be read: POSIX's definition of a text file, as shells
/// test it.
///
/// # Safety
/// `file` ends with a NUL.
unsafe fn is_binary(file: *const c_char) -> bool {
    let mut head = [0_u8; 128];
    // SAFETY: the kernel writes into a local of the size that it is given.
    let read = unsafe {
        call(libc::SYS_openat, [HERE, file as usize, number(libc::O_RDONLY | libc::O_CLOEXEC), 0, 0]).and_then(|fd| {
            let read = call(libc::SYS_read, [fd, head.as_mut_ptr() as usize, head.len(), 0, 0]);
            let _ = call(libc::SYS_close, [fd, 0, 0, 0, 0]);
            read
        })
    };
    let Ok(length) = read else { return true };
    head.get(..length).unwrap_or_default().split(|byte| *byte == b'\n').next().is_some_and(|line| line.contains(&0))
}

/// What is at a path.
///
/// # Safety
/// It ends with a NUL.
unsafe fn look(path: *const c_char) -> Found {
    // SAFETY: the caller's.
    match unsafe { mode_of(HERE, path, 0) } {
        Ok(mode) if mode & libc::S_IFMT == libc::S_IFDIR => Found::Directory,
        Ok(mode) if mode & 0o111 == 0 => Found::NotExecutable,
        Ok(_) => Found::File,
        Err(libc::ENOENT | libc::ENOTDIR) => Found::Nothing,
        Err(_) => Found::Unknown,
    }
}
