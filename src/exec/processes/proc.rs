//! Reading `/proc` (proc(5)).

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use crate::exec::marks::DAEMON_PID;
use crate::exec::sys::exit_from_status;
use crate::model::{Exit, Pid, RunId};

/// The longest `/proc/PID/stat`: 52 numbers of at most 20 digits and a name of at most 64 characters.
const STAT: usize = 1280;

/// The used fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exec) struct Stat {
    /// Field 3.
    pub state: char,
    /// Field 4: its parent.
    pub parent: i32,
    /// Field 5: its process group.
    pub group: i32,
    /// Field 22: when it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Field 52: the status of wait(2); also 0 without permission.
    exit_status: i32,
}

impl Stat {
    /// Of a process; `None` if there is none.
    pub fn of(pid: i32) -> Option<Stat> {
        // One read(2): the kernel formats the whole line at the first, and this is called for each start and each orphan.
        let mut stat = [0; STAT];
        let length = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
        let stat = stat.get(..length)?;
        // Field 2 is the name in parentheses, which may contain anything, even parentheses.
        let after_name = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(after_name + 2..)?).ok()?;
        // `rest` begins with field 3.
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(22 - 6)?.parse().ok()?;
        let exit_status = fields.nth(52 - 23)?.trim_end().parse().ok()?;
        Some(Stat { state, parent, group, start_ticks, exit_status })
    }

    /// True for a process that has exited and is not reaped.
    pub fn is_zombie(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
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

/// The run of a process, by its initial environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::exec) struct Mark {
    /// The pid of the daemon that started the run.
    pub daemon: u32,
    /// The run.
    pub run: RunId,
    /// Distinguishes the run from one with the same number in another state: its job, and when it was scheduled.
    job: Vec<u8>,
    scheduled_at: Vec<u8>,
}

/// The result of reading a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::exec) enum Marked {
    /// The process has one.
    By(Mark),
    /// It has none, has overwritten it, has exited, or may not be inspected.
    Not,
    /// It is in the middle of execve(2), where it has no environment yet.
    NotYetKnown,
}

impl Marked {
    /// Of a process.
    pub fn of(pid: i32) -> Marked {
        match std::fs::read(format!("/proc/{pid}/environ")) {
            // A process whose environment is really empty has an address of it all the same.
            Ok(environ) if environ.is_empty() && env_start(pid) == Some(0) => Marked::NotYetKnown,
            Ok(environ) => Mark::read(&environ).map_or(Marked::Not, Marked::By),
            Err(_) => Marked::Not,
        }
    }
}

fn value_in(environ: &[u8], name: &str) -> Option<Vec<u8>> {
    let of_name = |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    environ.split(|byte| *byte == 0).find_map(of_name)
}

/// A variable in the initial environment of a process.
pub(in crate::exec) fn variable(pid: i32, name: &str) -> Option<OsString> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    value_in(&environ, name).map(OsString::from_vec)
}

/// Field 50 of `/proc/PID/stat`: the address of the environment; `None` for a zombie, which has none.
fn env_start(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 2..)?).ok()?;
    if rest.starts_with(['Z', 'X']) {
        return None;
    }
    rest.split(' ').nth(50 - 3)?.parse().ok()
}

impl Mark {
    /// Reads the mark of a process.
    pub fn of(pid: i32) -> Option<Mark> {
        match Marked::of(pid) {
            Marked::By(mark) => Some(mark),
            Marked::Not | Marked::NotYetKnown => None,
        }
    }

    fn read(environ: &[u8]) -> Option<Mark> {
        let value = |name: &str| value_in(environ, name);
        let text = |name: &str| String::from_utf8(value(name)?).ok();
        Some(Mark {
            daemon: text(DAEMON_PID)?.parse().ok()?,
            run: RunId(text("FIRELINK_RUN_ID")?.parse().ok()?),
            job: value("FIRELINK_JOB").unwrap_or_default(),
            scheduled_at: value("FIRELINK_SCHEDULED_AT").unwrap_or_default(),
        })
    }
}

/// The children of this process, zombies included, as by [`children`]: with one read if this thread is the only one, by the link
/// count of `/proc/self/task` (one for each thread, `.` and `..`).
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn own_children() -> io::Result<Vec<i32>> {
    let alone = std::fs::metadata("/proc/self/task").is_ok_and(|task| task.nlink() == 3);
    if alone && let Ok(text) = std::fs::read_to_string("/proc/thread-self/children") {
        return Ok(pids(&text).collect());
    }
    children(nix::unistd::getpid().as_raw())
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
        // In a process with other threads.
        assert!(own_children().unwrap().contains(&pid));
        assert!(children(pid).unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(me).unwrap().contains(&pid));
    }

    #[test]
    fn an_incomplete_mark_is_none() {
        let environ = b"A=1\0FIRELINK_RUN_ID=7\0FIRELINK_DAEMON_PID=12\0FIRELINK_JOB=x\0";
        let mark = Mark::read(environ).unwrap();
        assert_eq!((mark.daemon, mark.run), (12, RunId(7)));
        for environ in [&b""[..], b"FIRELINK_RUN_ID=7\0", b"FIRELINK_RUN_ID=x\0FIRELINK_DAEMON_PID=1\0", b"XFIRELINK_RUN_ID=7\0"]
        {
            assert_eq!(Mark::read(environ), None);
        }
    }
}
