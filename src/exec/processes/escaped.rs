//! Processes that outlive their run's process group, and zombies that nobody else reaps.
//!
//! The daemon is a child subreaper ([`crate::exec::become_subreaper`]), so a process of a run that loses its parent becomes a
//! child of the daemon, whatever session or group it has moved to. [`sweep`] checks the daemon's children that it did not
//! start: zombies are reaped, and processes of runs that have ended are killed.
//!
//! Other processes are reparented to the daemon too: children from before its own exec, all orphans if it is pid 1 of a
//! container, and helpers that another thread of the daemon started by std's `Command`. So:
//!
//! - a process in the daemon's own process group is left alone, and not even reaped, because no run is ever in it: wait(2)
//!   of the thread that started it would fail;
//! - only a process whose environment names this daemon's pid and a run that has ended is signalled, through a pidfd, so
//!   that a reused pid is never hit.
//!
//! What can't be identified survives: a process that left its group *and* cleared or overwrote its environment (`setsid env
//! -i …`), or that runs as another user than a daemon without root's rights. It is reaped all the same.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::unistd::getpgrp;

use super::proc::{self, Mark, Marked, Stat};
use crate::exec::sys;
use crate::model::{Pid, RunId};

/// The most descendants killed at once, each of which takes a descriptor. Others lose their parents, are reparented to the
/// daemon and found by the next sweep.
const MAX_FAMILY: usize = 128;

/// A child that the daemon has started and not reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The process.
    pub pid: Pid,
    /// Its run; `None` for a process without one, like a plugin.
    pub run: Option<RunId>,
}

impl Known {
    /// A process that has not executed its program yet: its start time is of no use, since it has no children.
    #[must_use]
    pub fn starting(pid: i32, run: Option<RunId>) -> Known {
        Known { pid: Pid { pid, start_ticks: 0 }, run }
    }
}

/// A process that outlived its run and was sent SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapedProcess {
    /// The run.
    pub run: RunId,
    /// The process.
    pub pid: i32,
}

/// The result of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The number of zombies reaped.
    pub reaped: usize,
    /// The processes that were sent SIGKILL, without their descendants. Their exits cause SIGCHLD, and the next sweep reaps them.
    pub killed: Vec<EscapedProcess>,
    /// An orphan was in the middle of execve(2), where it can't be identified: the sweep has to be repeated after some 10 ms,
    /// since no signal may cause one.
    pub again: bool,
}

/// Reaps zombies and kills processes of runs that have ended. To be called on each SIGCHLD and after each reaped child, with all
/// children that the daemon has started and not reaped, whose exit statuses are left alone.
///
/// It checks each child by its pid instead of waiting for any: waitid(2) with `P_ALL` returns the same known zombie until that
/// one is reaped, and hides the others.
///
/// # Errors
/// When `/proc` can't be read; it may be called again.
pub fn sweep(known: &[Known]) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let ours: HashSet<i32> = known.iter().map(|known| known.pid.pid).collect();
    let own_group = getpgrp().as_raw();
    for pid in proc::own_children()? {
        if ours.contains(&pid) {
            continue;
        }
        // The pid of a child is not reused until it is reaped.
        let Some(stat) = Stat::of(pid).filter(|stat| stat.group != own_group) else { continue };
        if stat.is_zombie() {
            swept.reaped += usize::from(sys::wait(pid, true)?.is_some());
        } else {
            match owner(pid, stat, known) {
                Owner::Ended(run) if kill_family(pid) => swept.killed.push(EscapedProcess { run, pid }),
                Owner::Ended(_) | Owner::Another => {}
                Owner::NotYetKnown => swept.again = true,
            }
        }
    }
    Ok(swept)
}

/// The owner of an orphan.
enum Owner {
    /// A run that has ended.
    Ended(RunId),
    /// A live run, or unknown.
    Another,
    NotYetKnown,
}

fn owner(pid: i32, stat: Stat, known: &[Known]) -> Owner {
    // In the group of a live run: it is killed with that run.
    if known.iter().any(|known| known.pid.pid == stat.group) {
        return Owner::Another;
    }
    let mark = match Marked::of(pid) {
        Marked::By(mark) if mark.daemon == std::process::id() => mark,
        Marked::By(_) | Marked::Not => return Owner::Another,
        Marked::NotYetKnown => return Owner::NotYetKnown,
    };
    // Older than the run's process: of an earlier attempt, which has ended.
    let lives = |known: &Known| known.run == Some(mark.run) && known.pid.start_ticks <= stat.start_ticks;
    if known.iter().any(lives) { Owner::Another } else { Owner::Ended(mark.run) }
}

/// Sends SIGKILL to a child of the daemon and to its descendants. True if the child was sent it.
fn kill_family(top: i32) -> bool {
    let mut family: Vec<(OwnedFd, i32)> = Vec::new();
    let Ok(fd) = sys::pidfd_open(top) else {
        // Without pidfds by pid, which is not reused until the child is reaped.
        return nix::sys::signal::kill(nix::unistd::Pid::from_raw(top), Signal::SIGKILL).is_ok();
    };
    family.push((fd, top));
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|(_, pid)| *pid) {
        next += 1;
        for pid in proc::children(parent).unwrap_or_default() {
            // The pidfd first: if the pid is reused after that, the signal fails.
            if family.len() < MAX_FAMILY
                && let Ok(fd) = sys::pidfd_open(pid)
                && Stat::of(pid).is_some_and(|stat| stat.parent == parent)
            {
                family.push((fd, pid));
            }
        }
    }
    // Parents first, so that none of them restarts a child that died.
    let mut sent = family.iter().map(|(fd, _)| sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok());
    let top_was_sent = sent.next().unwrap_or(false);
    sent.for_each(drop);
    top_was_sent
}

/// Sends SIGKILL to every process with this mark that is not older than `since` (clock ticks since boot), and returns their
/// number. For runs of a daemon that died, whose processes are not children of this one.
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn kill_marked(mark: &Mark, since: u64) -> io::Result<usize> {
    let own_namespace = std::fs::read_link("/proc/self/ns/pid")?;
    let is_of_it = |pid: i32| {
        Stat::of(pid).is_some_and(|stat| stat.start_ticks >= since && !stat.is_zombie())
            && Mark::of(pid).is_some_and(|found| found == *mark)
            // In another pid namespace, the daemon's pid is that of another process.
            && std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == own_namespace)
    };
    let mut killed = 0;
    for pid in proc::all()? {
        if is_of_it(pid)
            && let Ok(fd) = sys::pidfd_open(pid)
            // Again, now that the pidfd pins the process.
            && is_of_it(pid)
            && sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok()
        {
            killed += 1;
        }
    }
    Ok(killed)
}
