//! What outlives its run's process group, and the zombies that nobody else will reap.
//!
//! The daemon is a child subreaper ([`crate::exec::become_subreaper`]), so a process of a run that loses its parent becomes a
//! child of the daemon, whatever session or group it has moved to. [`sweep`] looks at the daemon's children that it did
//! not start itself: those that have ended are reaped, and those of a run that is over are ended.
//!
//! Foreign processes come that way too: children from before the daemon's own exec, as pid 1 of a container everybody's
//! orphans, and a helper that another thread of the daemon started with its own `Command`. So:
//!
//! - nothing in the daemon's own process group is touched, not even reaped, because no run is ever in it: its parent's
//!   own wait would find nothing;
//! - only what carries this daemon's pid and the number of a run that is over in its environment is signalled, through
//!   a pidfd, so that a number given to another process meanwhile can't be hit.
//!
//! What the kernel hides therefore survives: a process that left its group *and* cleared or overwrote its environment
//! (`setsid env -i …`), or that runs as another user than a daemon without root's rights. It is reaped all the same.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::unistd::getpgrp;

use super::proc::{self, Mark, Marked, Stat};
use crate::exec::sys;
use crate::model::{Pid, RunId};

/// How much of one stray's family is ended at once, each of which takes a descriptor. The rest lose their parents, come
/// to the daemon and meet the next sweep.
const FAMILY: usize = 128;

/// A child that the daemon started and has not reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The process.
    pub pid: Pid,
    /// Its run; `None` for what is of no run, like a plugin.
    pub run: Option<RunId>,
}

/// A process that outlived its run and was sent SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapedProcess {
    /// The run.
    pub run: RunId,
    /// The process.
    pub pid: i32,
}

/// What a sweep has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many zombies were reaped.
    pub reaped: usize,
    /// Whom it sent SIGKILL, family members not counted. Their ends come as SIGCHLD, upon which the next sweep reaps
    /// them.
    pub killed: Vec<EscapedProcess>,
    /// True if an orphan was in the middle of execve(2), where nobody can tell whose it is: to be called again shortly
    /// (some 10 ms), since nothing else may bring the next sweep.
    pub again: bool,
}

/// Reaps and ends what is left of runs that are over. To be called on each SIGCHLD and after each reaped child, with
/// every child that the daemon has started and not reaped: their exit statuses are left alone.
///
/// It looks at each child by its number instead of waiting for any: waitid(2) with `P_ALL` shows the same known zombie
/// again and again, and hides those behind it, until that one is reaped.
///
/// # Errors
/// When `/proc` can't be read; nothing is lost by calling again.
pub fn sweep(known: &[Known]) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let ours: HashSet<i32> = known.iter().map(|known| known.pid.pid).collect();
    let own_group = getpgrp().as_raw();
    for pid in proc::own_children()? {
        if ours.contains(&pid) {
            continue;
        }
        // What it says can't be about another process: the number of a child is its own until it is reaped.
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

/// Whose an orphan is.
enum Owner {
    /// This run's, which is over.
    Ended(RunId),
    /// A living run's, or nobody can prove whose.
    Another,
    NotYetKnown,
}

fn owner(pid: i32, stat: Stat, known: &[Known]) -> Owner {
    // In the group of a living run: that run's, and it ends with it.
    if known.iter().any(|known| known.pid.pid == stat.group) {
        return Owner::Another;
    }
    let mark = match Marked::of(pid) {
        Marked::By(mark) if mark.daemon == std::process::id() => mark,
        Marked::By(_) | Marked::Not => return Owner::Another,
        Marked::NotYetKnown => return Owner::NotYetKnown,
    };
    // One that is older than the run's process is of an earlier attempt, which is over.
    let lives = |known: &Known| known.run == Some(mark.run) && known.pid.start_ticks <= stat.start_ticks;
    if known.iter().any(lives) { Owner::Another } else { Owner::Ended(mark.run) }
}

/// Sends SIGKILL to a child of the daemon and to its descendants. True if the child was sent it.
fn kill_family(top: i32) -> bool {
    let mut family: Vec<(OwnedFd, i32)> = Vec::new();
    let Ok(fd) = sys::pidfd_open(top) else {
        // Without pidfds the number must do, which a child keeps until it is reaped.
        return nix::sys::signal::kill(nix::unistd::Pid::from_raw(top), Signal::SIGKILL).is_ok();
    };
    family.push((fd, top));
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|(_, pid)| *pid) {
        next += 1;
        for pid in proc::children(parent).unwrap_or_default() {
            // The descriptor first: if the number comes to mean another process after that, the signal finds nobody.
            if family.len() < FAMILY
                && let Ok(fd) = sys::pidfd_open(pid)
                && Stat::of(pid).is_some_and(|stat| stat.parent == parent)
            {
                family.push((fd, pid));
            }
        }
    }
    // Parents first, so that none of them sees a child die and starts another.
    let mut sent = family.iter().map(|(fd, _)| sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok());
    let top_was_sent = sent.next().unwrap_or(false);
    sent.for_each(drop);
    top_was_sent
}

/// Sends SIGKILL to every process that carries a mark and is no older than `since` (clock ticks since boot); returns how
/// many. For runs of a daemon that died, whose processes are not children of this one.
///
/// # Errors
/// When `/proc` can't be read.
pub(in crate::exec) fn kill_marked(mark: &Mark, since: u64) -> io::Result<usize> {
    let own_namespace = std::fs::read_link("/proc/self/ns/pid")?;
    let is_of_it = |pid: i32| {
        Stat::of(pid).is_some_and(|stat| stat.start_ticks >= since && !stat.is_zombie())
            && Mark::of(pid).is_some_and(|found| found == *mark)
            // In another one the daemon's number would be another daemon's.
            && std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == own_namespace)
    };
    let mut killed = 0;
    for pid in proc::all()? {
        if is_of_it(pid)
            && let Ok(fd) = sys::pidfd_open(pid)
            // Again, now that the descriptor holds on to one process.
            && is_of_it(pid)
            && sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok()
        {
            killed += 1;
        }
    }
    Ok(killed)
}
