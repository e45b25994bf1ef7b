//! Reading `/proc` (proc(5)).

use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::getpid;

use crate::exec::sys::exit_from_status;
use crate::model::{Exit, Pid};

/// The longest `/proc/PID/stat`: 52 numbers of at most 20 digits and a name of at most 64 characters.
const STAT: usize = 1280;

/// `PF_EXITING` of linux/sched.h, in field 9.
const EXITING: u64 = 0x4;

/// The bit of SIGKILL among pending signals, in field 31.
const SIGKILL_PENDING: u64 = 1 << 8;

/// The used fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exec) struct Stat {
    /// Field 3.
    pub state: char,
    /// Field 4: its parent.
    pub parent: i32,
    /// Field 5: its process group.
    pub group: i32,
    /// Field 6: its session.
    pub session: i32,
    /// It exits, or SIGKILL is pending: it makes no more children.
    pub is_dying: bool,
    /// Field 22: when it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Field 50: the address of its environment, 0 in the middle of execve(2) and without permission.
    env_start: u64,
    /// Field 52: the status of wait(2); also 0 without permission.
    exit_status: i32,
}

impl Stat {
    /// Of a process; `None` if there is none.
    pub fn of(pid: i32) -> Option<Stat> {
        // One read(2): the kernel formats the whole line at the first, and this is called for each start and each orphan.
        let mut stat = [0; STAT];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
        let stat = stat.get(..length)?;
        // Field 2 is the name in parentheses, which may contain anything, even parentheses.
        let after_name = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(after_name + 2..)?).ok()?;
        // `rest` begins with field 3.
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let flags: u64 = fields.nth(9 - 7)?.parse().ok()?;
        let start_ticks = fields.nth(22 - 10)?.parse().ok()?;
        let pending: u64 = fields.nth(31 - 23)?.parse().ok()?;
        let env_start = fields.nth(50 - 32)?.parse().ok()?;
        let exit_status = fields.nth(52 - 51)?.trim_end().parse().ok()?;
        let is_dying = flags & EXITING != 0 || pending & SIGKILL_PENDING != 0;
        Some(Stat { state, parent, group, session, is_dying, start_ticks, env_start, exit_status })
    }

    /// True for a process that has exited and is not reaped.
    pub fn is_zombie(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The present time in the unit of [`Stat::start_ticks`]: clock ticks of `CLOCK_BOOTTIME` (proc(5)).
pub(in crate::exec) fn now_ticks() -> Option<u64> {
    // `USER_HZ` of asm/param.h: 100 on every architecture that has not inherited another one from the systems before Linux.
    const USER_HZ: u64 = 100;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let nanos = u64::try_from(now.tv_nsec()).ok()?;
    Some(u64::try_from(now.tv_sec()).ok()? * USER_HZ + nanos / (1_000_000_000 / USER_HZ))
}

/// The start time of a process in clock ticks since boot.
pub(in crate::exec) fn start_ticks(pid: i32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.start_ticks)
}

/// The exit status of a zombie, of any parent.
pub(in crate::exec) fn exit_of_zombie(pid: Pid) -> Option<Exit> {
    // The status is 0 without PTRACE_MODE_READ access (ptrace(2)), which reading this link checks.
    std::fs::read_link(format!("/proc/{}/ns/user", pid.pid)).ok()?;
    let stat = Stat::of(pid.pid)?;
    (stat.is_zombie() && stat.start_ticks == pid.start_ticks).then(|| exit_from_status(stat.exit_status))
}

/// The identity of a process that exists now.
pub(in crate::exec) fn identify(pid: i32) -> Pid {
    Pid { pid, start_ticks: start_ticks(pid).unwrap_or(0) }
}

/// The real user of a process; `None` if there is none.
pub(in crate::exec) fn real_uid(pid: i32) -> Option<u32> {
    status_field(pid, "Uid:")
}

/// The process that traces this one (ptrace(2)), if there is one. Known of a zombie too.
pub(in crate::exec) fn tracer(pid: i32) -> Option<i32> {
    status_field(pid, "TracerPid:").filter(|tracer| *tracer > 0)
}

/// The first number behind a name in `/proc/PID/status`.
fn status_field<T: FromStr>(pid: i32, name: &str) -> Option<T> {
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    // The name of the program comes before, with line ends escaped.
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The longest initial environment: execve(2) grants arguments and environment together 3/4 of 8 MiB. A process can claim any
/// part of its memory to be its environment (prctl(2), `PR_SET_MM`), so what is read is bounded.
const ENVIRONMENT: u64 = 6 << 20;

/// The initial environment of a process, `/proc/PID/environ`.
#[derive(Debug)]
pub(in crate::exec) struct Environ(Vec<u8>);

impl Environ {
    /// Of a process; `None` if there is none, or it may not be inspected.
    pub fn of(pid: i32) -> Option<Environ> {
        let mut environ = Vec::new();
        File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRONMENT).read_to_end(&mut environ).ok()?;
        Some(Environ(environ))
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0)
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.entries().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The value of a variable, if it is a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.value(name)?).ok()?.parse().ok()
    }

    /// True if it contains all of these `NAME=value` entries.
    pub fn has_all(&self, wanted: &[String]) -> bool {
        wanted.iter().all(|wanted| self.entries().any(|entry| entry == wanted.as_bytes()))
    }

    /// True for a process in the middle of execve(2), which has no environment yet. One whose environment is really empty has an
    /// address of it all the same.
    pub fn is_missing(&self, stat: Stat) -> bool {
        self.0.is_empty() && stat.env_start == 0 && !stat.is_dying && !stat.is_zombie()
    }
}

#[cfg(test)]
impl From<&[u8]> for Environ {
    fn from(environ: &[u8]) -> Environ {
        Environ(environ.to_vec())
    }
}

/// True if a process is in the pid namespace of this one: elsewhere a pid in its environment is that of another process.
pub(in crate::exec) fn shares_pid_namespace(pid: i32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    of(&pid.to_string()).is_some_and(|namespace| of("self") == Some(namespace))
}

/// True if a process descends from this one.
pub(in crate::exec) fn is_descendant(pid: i32) -> bool {
    /// A process tree deeper than this is nobody's but an attacker's.
    const DEPTH: usize = 1 << 10;
    let own = getpid().as_raw();
    let parents = std::iter::successors(Some(pid), |pid| Stat::of(*pid).map(|stat| stat.parent).filter(|parent| *parent > 0));
    parents.skip(1).take(DEPTH).any(|parent| parent == own)
}

/// Children of this process, zombies included.
#[derive(Debug)]
pub(in crate::exec) struct OwnChildren {
    pub pids: Vec<i32>,
    /// They are those of the main thread: what it has started, and all orphans, which the kernel gives to the first thread of
    /// a subreaper that lives (`find_alive_thread` in kernel/exit.c). Else those of every thread.
    pub of_main_thread: bool,
}

/// The children of this process's main thread by one read, or those of all its threads on kernels without
/// `CONFIG_PROC_CHILDREN`.
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn own_children() -> io::Result<OwnChildren> {
    let own = getpid().as_raw();
    match std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => Ok(OwnChildren { pids: pids(&text).collect(), of_main_thread: true }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(OwnChildren { pids: children_by_scan(own)?, of_main_thread: false })
        }
        Err(error) => Err(error),
    }
}

fn pids(text: &str) -> impl Iterator<Item = i32> {
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok())
}

/// The children of a process, zombies included. From `/proc/PID/task/TID/children` (Linux 4.2, `CONFIG_PROC_CHILDREN`), which can
/// miss a child only while another is reaped, for the daemon's own children by this very thread. On kernels without it, every
/// process is read.
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn children(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        match std::fs::read_to_string(thread?.path().join("children")) {
            Ok(text) => children.extend(pids(&text)),
            // A thread that has just ended, or a kernel without the file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !std::fs::exists("/proc/thread-self/children")? {
                    return children_by_scan(pid);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn children_by_scan(pid: i32) -> io::Result<Vec<i32>> {
    Ok(all()?.filter(|other| Stat::of(*other).is_some_and(|stat| stat.parent == pid)).collect())
}

/// All visible processes.
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn all() -> io::Result<impl Iterator<Item = i32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_of_a_process_is_stable_and_a_missing_one_has_none() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(me).unwrap() > 0);
        assert_eq!(start_ticks(me), start_ticks(me));
        assert_eq!(start_ticks(0), None);
    }

    #[test]
    fn both_implementations_find_the_same_children() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(me).unwrap().contains(&pid));
        assert!(children_by_scan(me).unwrap().contains(&pid));
        assert!(children(pid).unwrap().is_empty());
        let of_main = own_children().unwrap();
        assert!(of_main.of_main_thread);
        assert!(!of_main.pids.contains(&pid), "this thread of a test started it");
        assert!(is_descendant(pid) && !is_descendant(me) && !is_descendant(1));
        assert!(shares_pid_namespace(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(me).unwrap().contains(&pid));
        assert!(!is_descendant(pid));
    }

    #[test]
    fn the_fields_of_a_process_are_those_of_the_kernel() {
        let me = i32::try_from(std::process::id()).unwrap();
        let stat = Stat::of(me).unwrap();
        assert_eq!(stat.session, nix::unistd::getsid(None).unwrap().as_raw());
        assert_eq!(stat.group, nix::unistd::getpgrp().as_raw());
        assert_eq!(stat.parent, nix::unistd::getppid().as_raw());
        assert!(!stat.is_dying && stat.env_start > 0);
        assert!(
            (stat.start_ticks..=stat.start_ticks + 360_000).contains(&now_ticks().unwrap()),
            "{} and {:?}",
            stat.start_ticks,
            now_ticks()
        );
        assert_eq!(real_uid(me), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(tracer(me), None);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environ = Environ::from(&b"A=1\0FIRELINK_RUN_ID=7\0B=\0"[..]);
        assert_eq!(environ.number::<u64>("FIRELINK_RUN_ID"), Some(7));
        assert_eq!((environ.value("B"), environ.value("RUN_ID"), environ.value("B=")), (Some(&b""[..]), None, None));
        assert!(environ.has_all(&["A=1".into(), "FIRELINK_RUN_ID=7".into()]));
        assert!(!environ.has_all(&["A=1".into(), "FIRELINK_RUN_ID=".into()]));
    }
}
