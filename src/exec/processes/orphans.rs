//! Orphans: the daemon's children that it did not start.
//!
//! The daemon is a child subreaper ([`crate::exec::become_subreaper`]), so a process of a run that loses its parent becomes a
//! child of the daemon, whatever session, group or environment it has given itself. [`Orphans::sweep`] reaps those that have
//! exited and kills those whose run is over. Nothing but what the kernel says now is needed for that: a live process of the
//! daemon's own (a run's, a hook's, a plugin's) is [`Known`] to the caller, and an orphan
//!
//! 1. is left alone in the daemon's own session and group, where no run can be (setpgid(2): not across sessions);
//! 2. belongs to a live process in whose session or group it is, which dies with it, or to a run whose control group it is in,
//!    and is killed if that one has just ended;
//! 3. belongs to the run that its environment names ([`Mark`]), and is killed if that run is over, or in an earlier attempt;
//! 4. with no such trace is left alone if it belongs to nobody whom the daemon has started: a child from before the process
//!    became firelink (`sh -c 'ntpd & exec firelink run'`), or one that is older than everything that the daemon has started;
//! 5. else (`setsid env -i`) may belong to any live process that is not younger than itself, and is killed when none of these is
//!    left.
//!
//! Another thread of the daemon that starts a helper by std's `Command` waits for it itself. Its children are not looked at:
//! orphans come to the main thread.
//!
//! # Processes that are left on purpose
//!
//! What a run with [`KillMode::Main`] leaves is never killed. It is known by a word in its environment that the daemon gave to
//! such runs alone ([`Orphans::leave_word`]), by the session of the run's process, or, with no such trace, by having been there when
//! the run ended, if it could belong to that run by rule 5. What was known once is remembered, the process and its session, at
//! most [`MAX_LEFT`] that exist: it may move to another session, or clear its environment, at any time.
//!
//! # Attacks
//!
//! A process that forks without an end is killed by families, parents first: one with a pending SIGKILL makes no child
//! (`copy_process` in kernel/fork.c). The children of the dead come to the daemon, so it looks again until a look finds nothing
//! to kill, for at most [`BUDGET`] at once. Hundreds of processes that use the processor leave the daemon too small a share of it
//! to kill faster than they fork, so it takes a real-time priority meanwhile, if it may.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid as UnixPid, getpgrp, getpid, getsid};

use super::mark::{Mark, Marked};
use super::proc::{self, Stat};
use crate::exec::cgroup::{Cgroups, GroupOwner};
use crate::exec::marks::ORPHANS;
use crate::exec::spec::KillMode;
use crate::exec::sys;
use crate::model::{Pid, RunId};

/// The longest that one sweep takes of the processor's time, but for what it is doing then. Not of the clock's: on a machine with
/// hundreds of processes that run, nearly all of that would be theirs.
const BUDGET: Duration = Duration::from_millis(10);

/// The longest that one sweep takes by the clock.
const SWEEP_TIMEOUT: Duration = Duration::from_millis(200);

/// The number of processes to kill from which on it is urgent.
const URGENT: usize = 8;

/// The most processes and sessions that are left alone, and the most children from before the daemon: together less than the
/// 128 KiB of a variable, by which a daemon that replaces itself hands them on.
const MAX_LEFT: usize = 2048;
const MAX_INHERITED: usize = 2048;

/// The most processes whose end is remembered until a sweep has identified every orphan.
const MAX_ENDED: usize = 1024;

/// The descriptors that [`Orphans::end_all`] waits for at once.
const WAITED_FOR: usize = 64;

/// A child that the daemon has started and not reaped, or adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The process.
    pub pid: Pid,
    /// Its run; `None` for a process without one, like a plugin.
    pub run: Option<RunId>,
}

impl Known {
    /// A process that can have no orphans: the daemon's own helper, or one that was killed before it executed its program.
    #[must_use]
    pub fn childless(pid: i32) -> Known {
        Known { pid: Pid { pid, start_ticks: u64::MAX }, run: None }
    }
}

/// A process that outlived its run and was sent SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapedProcess {
    /// The run, if the process can be told from those of others.
    pub run: Option<RunId>,
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
    /// The sweep has to be repeated after some 10 ms, since no signal may cause one: an orphan was in the middle of execve(2),
    /// where it can't be identified, or there were too many for one sweep.
    pub again: bool,
}

/// A process of the daemon that has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    pid: Pid,
    run: Option<RunId>,
    mode: KillMode,
    /// When, in the unit of start times.
    at: u64,
}

/// A process that is left alone, and the session with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    id: i32,
    /// When it was noted, in the unit of start times: a process with this id that is younger is another one, and the session of
    /// that is another session.
    noted: u64,
}

/// What the daemon knows of orphans besides what the kernel says. See the module.
#[derive(Debug)]
pub struct Orphans {
    /// When the process became firelink, in the unit of start times. Nothing older is of a run.
    since: u64,
    /// The children that it had then.
    inherited: Vec<Pid>,
    leave_word: String,
    left: Vec<Left>,
    /// Those of which not all orphans have been identified since.
    ended: Vec<Ended>,
    /// Where the last sweep stopped for lack of time: an index into the children.
    at: usize,
}

/// The decision about an orphan.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    /// For good: it, and every process of its session.
    LeaveForGood,
    Kill(Option<RunId>),
    NotYetKnown,
}

/// What a sweep looks at.
struct Look<'a> {
    known: &'a [Known],
    pids: HashSet<i32>,
    groups: Option<&'a Cgroups>,
    own_pid: i32,
    /// Session and process group.
    own: (i32, i32),
    until: Instant,
    /// The same in the thread's time of the processor.
    cpu_until: Duration,
}

impl Look<'_> {
    fn is_over(&self) -> bool {
        thread_time() >= self.cpu_until || Instant::now() >= self.until
    }
}

/// The time that the processor has spent on this thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl Orphans {
    /// To be called before anything is started. A daemon that has replaced itself goes on with what it
    /// [handed on](Orphans::handed_on); for any other, the children that it has now are none of its own.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn at_start() -> io::Result<Orphans> {
        let handed_on = std::env::var(ORPHANS).ok().and_then(|text| Orphans::read(&text));
        handed_on.map_or_else(Orphans::of_children, Ok)
    }

    fn of_children() -> io::Result<Orphans> {
        let mut word = [0_u8; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut word)?;
        let leave_word = word.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let since = proc::now_ticks().unwrap_or(0);
        let mut inherited: Vec<Pid> = proc::own_children()?.pids.into_iter().map(proc::identify).collect();
        inherited.truncate(MAX_INHERITED);
        Ok(Orphans { since, inherited, leave_word, left: Vec::new(), ended: Vec::new(), at: 0 })
    }

    /// The variable by which the program that this process becomes by execve(2) knows all of this.
    #[must_use]
    pub fn handed_on(&self) -> (&'static str, String) {
        let pairs = |pairs: &mut dyn Iterator<Item = (i32, u64)>| {
            pairs.map(|(id, ticks)| format!("{id}.{ticks}")).collect::<Vec<_>>().join(",")
        };
        let inherited = pairs(&mut self.inherited.iter().map(|child| (child.pid, child.start_ticks)));
        let left = pairs(&mut self.left.iter().map(|left| (left.id, left.noted)));
        let Orphans { since, leave_word, .. } = self;
        (ORPHANS, format!("pid={} since={since} word={leave_word} inherited={inherited} left={left}", std::process::id()))
    }

    /// `None` for a text that another process has handed on, to its children for example, or another version.
    fn read(text: &str) -> Option<Orphans> {
        let value = |name: &str| text.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        (value("pid")?.parse() == Ok(std::process::id())).then_some(())?;
        let pairs = |name: &str| -> Option<Vec<(i32, u64)>> {
            let pair = |pair: &str| pair.split_once('.').and_then(|(id, ticks)| Some((id.parse().ok()?, ticks.parse().ok()?)));
            value(name)?.split(',').filter(|pair| !pair.is_empty()).map(pair).collect()
        };
        Some(Orphans {
            since: value("since")?.parse().ok()?,
            inherited: pairs("inherited")?.into_iter().map(|(pid, start_ticks)| Pid { pid, start_ticks }).collect(),
            leave_word: value("word")?.to_owned(),
            left: pairs("left")?.into_iter().map(|(id, noted)| Left { id, noted }).collect(),
            ended: Vec::new(),
            at: 0,
        })
    }

    /// The value of [`crate::exec::LEAVE`] for processes of runs with [`KillMode::Main`]: random, so that no other job knows it.
    #[must_use]
    pub fn leave_word(&self) -> &str {
        &self.leave_word
    }

    /// A process that the daemon has started has ended: its session and what else it leaves are looked for by the next sweep.
    pub fn ended(&mut self, known: Known, mode: KillMode) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.remove(0);
        }
        self.ended.push(Ended { pid: known.pid, run: known.run, mode, at: proc::now_ticks().unwrap_or(u64::MAX) });
    }

    /// Reaps orphans that have exited and kills those whose run is over. To be called on each SIGCHLD and after each reaped
    /// child, with all processes that the daemon has started and not reaped, whose exit statuses are left alone, and with its
    /// control groups, if it has any.
    ///
    /// It checks each child by its pid instead of waiting for any: waitid(2) with `P_ALL` returns the same known zombie until
    /// that one is reaped, and hides the others.
    ///
    /// # Errors
    /// When `/proc` can't be read; it may be called again.
    pub fn sweep(&mut self, known: &[Known], groups: Option<&Cgroups>) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let mut children = proc::own_children()?;
        if children.pids.is_empty() {
            self.ended.clear();
            return Ok(swept);
        }
        let pids = known.iter().map(|known| known.pid.pid).collect();
        let own = (getsid(None)?.as_raw(), getpgrp().as_raw());
        let (until, cpu_until) = (Instant::now() + SWEEP_TIMEOUT, thread_time() + BUDGET);
        let look = Look { known, pids, groups, own_pid: getpid().as_raw(), own, until, cpu_until };
        let mut urgent = None;
        loop {
            if swept.killed.len() >= URGENT && urgent.is_none() {
                urgent = sys::Urgent::begin();
            }
            let killed = swept.killed.len();
            let is_whole = self.look(&children, &look, &mut swept)?;
            if !is_whole {
                swept.again = true;
                return Ok(swept);
            }
            if swept.killed.len() == killed {
                self.at = 0;
                if !swept.again {
                    self.ended.clear();
                }
                return Ok(swept);
            }
            children = proc::own_children()?;
        }
    }

    /// One look at each child; false if the time was too short for all.
    fn look(&mut self, children: &proc::OwnChildren, look: &Look<'_>, swept: &mut Swept) -> io::Result<bool> {
        let count = children.pids.len();
        let first = if self.at < count { self.at } else { 0 };
        for step in 0..count {
            let at = (first + step) % count;
            let pid = children.pids[at];
            if look.pids.contains(&pid) {
                continue;
            }
            if look.is_over() {
                self.at = at;
                return Ok(false);
            }
            // The pid of a child is not reused until it is reaped.
            let Some(stat) = Stat::of(pid) else { continue };
            let is_in_own_group = (stat.session, stat.group) == look.own;
            if stat.is_zombie() {
                // A helper of another thread, whose exit status that thread waits for.
                if children.of_main_thread || !is_in_own_group {
                    swept.reaped += usize::from(sys::wait(pid, true)?.is_some());
                    self.inherited.retain(|child| child.pid != pid);
                }
                continue;
            }
            if stat.is_dying || is_in_own_group {
                continue;
            }
            match self.verdict(pid, stat, look) {
                Verdict::Leave => {}
                Verdict::LeaveForGood => [pid, stat.session].into_iter().for_each(|id| self.leave(id)),
                // Between the signal's delivery and its exit a process does not look like one that dies.
                Verdict::Kill(run) if kill_family(pid, look) && swept.killed.iter().all(|killed| killed.pid != pid) => {
                    swept.killed.push(EscapedProcess { run, pid });
                }
                Verdict::Kill(_) => {}
                Verdict::NotYetKnown => swept.again = true,
            }
        }
        Ok(true)
    }

    /// The rules of the module, in their order.
    fn verdict(&mut self, pid: i32, stat: Stat, look: &Look<'_>) -> Verdict {
        let leads = |known: Pid| known.pid == stat.session || known.pid == stat.group;
        if look.known.iter().any(|known| leads(known.pid)) {
            return Verdict::Leave;
        }
        // The latest: a session's id is reused once the session is empty.
        if let Some(ended) = self.ended.iter().rev().find(|ended| leads(ended.pid)) {
            return match ended.mode {
                KillMode::Run => Verdict::Kill(ended.run),
                KillMode::Main => Verdict::LeaveForGood,
            };
        }
        if self.is_left(pid, stat) {
            return Verdict::Leave;
        }
        let lives = |run: RunId| look.known.iter().any(|known| known.run == Some(run));
        match look.groups.and_then(|groups| groups.owner_of(pid)) {
            Some(GroupOwner { mode: KillMode::Main, .. }) => return Verdict::Leave,
            Some(GroupOwner { run, .. }) if lives(run) => return Verdict::Leave,
            Some(GroupOwner { run, .. }) => return Verdict::Kill(Some(run)),
            None => {}
        }
        match Marked::of(pid) {
            Marked::By(mark) if mark.leave.as_deref() == Some(self.leave_word.as_bytes()) => return Verdict::LeaveForGood,
            Marked::By(Mark { daemon, run: Some(run), .. }) if daemon == std::process::id() => {
                // Older than the run's process: of an earlier attempt, which has ended.
                let lives = |known: &Known| known.run == Some(run) && known.pid.start_ticks <= stat.start_ticks;
                return if look.known.iter().any(lives) { Verdict::Leave } else { Verdict::Kill(Some(run)) };
            }
            Marked::By(_) | Marked::Not => {}
            Marked::NotYetKnown => return Verdict::NotYetKnown,
        }
        let is_inherited = self.inherited.contains(&Pid { pid, start_ticks: stat.start_ticks });
        if is_inherited || stat.start_ticks < self.since {
            return Verdict::Leave;
        }
        let left_it =
            |ended: &Ended| ended.mode == KillMode::Main && (ended.pid.start_ticks..=ended.at).contains(&stat.start_ticks);
        if self.ended.iter().any(left_it) {
            return Verdict::LeaveForGood;
        }
        let may_own = |known: &Known| known.pid.start_ticks <= stat.start_ticks;
        if look.known.iter().any(may_own) { Verdict::Leave } else { Verdict::Kill(None) }
    }

    fn is_left(&mut self, pid: i32, stat: Stat) -> bool {
        if self.left.iter().any(|left| left.id == pid && stat.start_ticks <= left.noted) {
            return true;
        }
        let Some(at) = self.left.iter().position(|left| left.id == stat.session) else { return false };
        let is_reused = Stat::of(stat.session).is_some_and(|leader| leader.start_ticks > self.left[at].noted);
        if is_reused {
            self.left.swap_remove(at);
        }
        !is_reused
    }

    fn leave(&mut self, id: i32) {
        let noted = proc::now_ticks().unwrap_or(u64::MAX);
        if let Some(left) = self.left.iter_mut().find(|left| left.id == id) {
            left.noted = noted;
            return;
        }
        if self.left.len() >= MAX_LEFT {
            let ids = |pid: i32| Stat::of(pid).map(|stat| [pid, stat.session]);
            let alive: HashSet<i32> = proc::all().map(|all| all.filter_map(ids).flatten().collect()).unwrap_or_default();
            self.left.retain(|left| alive.contains(&left.id));
        }
        if self.left.len() < MAX_LEFT {
            self.left.push(Left { id, noted });
        }
    }

    /// Kills what is to be killed until nothing of it is left, for at most this long: the last sweep of a daemon that ends.
    ///
    /// # Errors
    /// As [`Orphans::sweep`].
    pub fn end_all(&mut self, known: &[Known], groups: Option<&Cgroups>, timeout: Duration) -> io::Result<Swept> {
        /// A process in the middle of execve(2) is looked at again after this long.
        const AGAIN: Duration = Duration::from_millis(10);
        let until = Instant::now() + timeout;
        let mut all = Swept::default();
        loop {
            let mut swept = self.sweep(known, groups)?;
            all.reaped += swept.reaped;
            all.killed.append(&mut swept.killed);
            let dying = dying_children()?;
            all.again = swept.again || !dying.is_empty();
            let left = until.saturating_duration_since(Instant::now());
            if !all.again || left.is_zero() {
                return Ok(all);
            }
            let mut fds: Vec<PollFd<'_>> = dying.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
            let wait = if swept.again || fds.is_empty() { left.min(AGAIN) } else { left };
            // Whatever the result: the next sweep finds what is still there.
            let _ = poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO));
        }
    }
}

/// Some of the children that were sent SIGKILL and have not exited.
fn dying_children() -> io::Result<Vec<OwnedFd>> {
    let is_dying = |pid: &i32| Stat::of(*pid).is_some_and(|stat| stat.is_dying);
    let dying = proc::own_children()?.pids.into_iter().filter(is_dying);
    Ok(dying.filter_map(|pid| sys::pidfd_open(pid).ok()).take(WAITED_FOR).collect())
}

/// Sends SIGKILL to a child of the daemon and to its descendants, parents first. True if the child was sent it.
fn kill_family(top: i32, look: &Look<'_>) -> bool {
    let children = |parent: i32| proc::children(parent).unwrap_or_default().into_iter().map(move |pid| (pid, parent));
    let mut family: Vec<(i32, i32)> = children(top).collect();
    // By its pid, which is not reused until the child is reaped.
    let was_sent = kill(UnixPid::from_raw(top), Signal::SIGKILL).is_ok();
    while let Some((pid, parent)) = family.pop()
        && !look.is_over()
    {
        // The pidfd first: if the pid is reused after that, the signal fails. Without pidfds, and when the time is over, a
        // process is found by a later look, after the death of its parent.
        let Ok(fd) = sys::pidfd_open(pid) else { continue };
        let Some(stat) = Stat::of(pid).filter(|stat| !stat.is_dying) else { continue };
        let is_of_it = stat.parent == parent || stat.parent == look.own_pid;
        if is_of_it && !look.pids.contains(&pid) {
            family.extend(children(pid));
            let _ = sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL);
        }
    }
    was_sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_read_by_the_same_process_alone() {
        let orphans = Orphans {
            since: 7,
            inherited: vec![Pid { pid: 12, start_ticks: 3 }, Pid { pid: 14, start_ticks: 7 }],
            leave_word: "abc".into(),
            left: vec![Left { id: 50, noted: 60 }],
            ended: Vec::new(),
            at: 0,
        };
        let (_, text) = orphans.handed_on();
        let read = Orphans::read(&text).unwrap();
        assert_eq!((read.since, &read.inherited, &read.leave_word), (7, &orphans.inherited, &orphans.leave_word));
        assert_eq!(read.left, orphans.left);
        let own = format!("pid={} ", std::process::id());
        assert!(Orphans::read(&text.replace(&own, "pid=1 ")).is_none(), "inherited by another process");
        assert!(Orphans::read(&text.replace("12.3", "12")).is_none());
        assert!(Orphans::read(&own).is_none());
    }

    #[test]
    fn what_is_left_alone_is_bounded_by_what_exists() {
        let mut orphans = Orphans::of_children().unwrap();
        let own = nix::unistd::getsid(None).unwrap().as_raw();
        orphans.leave(own);
        // Ids of no process: beyond the kernel's largest.
        (0..2 * i32::try_from(MAX_LEFT).unwrap()).for_each(|id| orphans.leave((1 << 23) + id));
        assert!(orphans.left.len() <= MAX_LEFT);
        assert!(orphans.left.iter().any(|left| left.id == own), "it exists");
    }
}
