//! Processes of daemons that died, and of plugins, identified by their environment.
//!
//! These are no children of this daemon: when their own daemon died, they came to init. So every process is looked at.
//!
//! - At its start a daemon kills what earlier ones on the same state have left: plugins, which those could not terminate, and
//!   processes of runs that are over ([`kill_leftovers`]);
//! - after the end of a run that it has adopted, the rest of that run ([`kill_marked`]);
//! - after the exit of a plugin, what has left the plugin's process group ([`kill_plugins`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as UnixPid;

use super::mark::Mark;
use super::orphans::Known;
use super::proc::{self, Environ, Stat};
use crate::exec::sys;

/// Scans: a killed process may just have forked.
const SCANS: usize = 3;

/// How long to wait for killed processes to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The time that a process needs at most from the middle of execve(2), where it has no environment, to its end.
const RESCAN_DELAY: Duration = Duration::from_millis(5);

/// Sends SIGKILL to every process that a daemon that is gone has started and whose initial environment contains all of these
/// `NAME=value` entries: to those of plugins, and to those of runs but for the live ones, which this daemon has adopted, and for
/// what a run with `kill_mode: main` has left. Waits for them to be gone, because the next plugin may need resources that they
/// hold. Returns their number.
///
/// # Errors
/// When `/proc` can't be read.
pub fn kill_leftovers(entries: &[String], live: &[Known]) -> io::Result<usize> {
    kill_all(KILL_TIMEOUT, |stat, environ| {
        let Some(mark) = Mark::read(environ).filter(|_| environ.has_all(entries)) else { return false };
        let is_live = |known: &Known| known.run == mark.run && known.pid.start_ticks <= stat.start_ticks;
        mark.leave.is_none() && !mark.is_of_a_living_daemon(stat) && !(mark.run.is_some() && live.iter().any(is_live))
    })
}

/// Sends SIGKILL to every process of this daemon's plugins whose initial environment contains all of these `NAME=value` entries,
/// and returns their number. They are its children by now, and their exits cause SIGCHLD.
///
/// # Errors
/// When `/proc` can't be read.
pub fn kill_plugins(entries: &[String]) -> io::Result<usize> {
    kill_all(Duration::ZERO, |_, environ| {
        let is_of_plugin = |mark: Mark| mark.run.is_none() && mark.daemon == std::process::id();
        Mark::read(environ).is_some_and(is_of_plugin) && environ.has_all(entries)
    })
}

/// Sends SIGKILL to every process with this mark that is not older than `since` (clock ticks since boot), and returns their
/// number. For runs of a daemon that died, whose processes are not children of this one.
///
/// # Errors
/// When `/proc` can't be read.
pub(super) fn kill_marked(mark: &Mark, since: u64) -> io::Result<usize> {
    kill_all(Duration::ZERO, |stat, environ| stat.start_ticks >= since && Mark::read(environ).is_some_and(|found| found == *mark))
}

/// Sends SIGKILL to every process of this pid namespace for which that holds, again as long as there are new ones. With `wait`,
/// waits that long for each time's to be gone, and some milliseconds for what is in the middle of execve(2).
fn kill_all(wait: Duration, is_meant: impl Fn(Stat, &Environ) -> bool) -> io::Result<usize> {
    let own = nix::unistd::getpid().as_raw();
    let mut killed = 0;
    for scan in 1..=SCANS {
        let (mut fds, mut unknown) = (Vec::new(), false);
        for pid in proc::all()?.filter(|pid| *pid != own) {
            match kill_if(pid, &is_meant) {
                Scanned::Killed(fd) => fds.push(fd),
                Scanned::InExec => unknown = true,
                Scanned::Other => {}
            }
        }
        unknown &= !wait.is_zero() && scan < SCANS;
        killed += fds.len();
        if fds.is_empty() && !unknown {
            break;
        }
        wait_for(&fds, wait);
        if unknown {
            std::thread::sleep(RESCAN_DELAY);
        }
    }
    Ok(killed)
}

/// What a scan has made of a process.
enum Scanned {
    /// It was sent SIGKILL; with its pidfd, if the kernel has pidfds.
    Killed(Option<OwnedFd>),
    /// It is in the middle of execve(2) and has no environment.
    InExec,
    Other,
}

fn kill_if(pid: i32, is_meant: impl Fn(Stat, &Environ) -> bool) -> Scanned {
    let is_meant = |pid: i32| {
        let Some(environ) = Environ::of(pid) else { return Some(false) };
        // Read after the environment: it may have had none, and have one by now.
        let stat = Stat::of(pid).filter(|stat| !stat.is_zombie() && !stat.is_dying);
        match stat {
            None => Some(false),
            Some(stat) if environ.is_missing(stat) => None,
            Some(stat) => Some(is_meant(stat, &environ) && proc::shares_pid_namespace(pid)),
        }
    };
    match is_meant(pid) {
        None => return Scanned::InExec,
        Some(false) => return Scanned::Other,
        Some(true) => {}
    }
    let fd = sys::pidfd_open(pid).ok();
    // Again, now that the pidfd pins the process.
    if is_meant(pid) != Some(true) {
        return Scanned::Other;
    }
    let was_sent = match &fd {
        Some(fd) => sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok(),
        None => kill(UnixPid::from_raw(pid), Signal::SIGKILL).is_ok(),
    };
    if was_sent { Scanned::Killed(fd) } else { Scanned::Other }
}

fn wait_for(fds: &[Option<OwnedFd>], wait: Duration) {
    let until = Instant::now() + wait;
    for fd in fds.iter().flatten() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // Whatever the result: the next scan finds what is still there.
        let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::marks::{DAEMON_PID, LEAVE, PLUGIN, RUN_ID};
    use crate::model::{Pid, RunId};
    use std::process::{Child, Command, Stdio};

    /// A number that no process can have.
    const GONE: u32 = 0x7fff_fff0;

    /// A process that runs until it is killed, as a daemon with this pid would have started it.
    fn start(tag: &str, daemon: u32, vars: &[(&str, &str)]) -> Child {
        let mut command = Command::new("cat");
        command.env("FIRELINK_TEST_LEFTOVERS", tag).env(DAEMON_PID, daemon.to_string()).envs(vars.iter().copied());
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        // In the middle of execve(2) it has no environment yet.
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::fs::read(format!("/proc/{}/environ", child.id())).unwrap().is_empty() && Instant::now() < deadline {}
        child
    }

    #[test]
    fn only_plugins_of_a_dead_daemon_with_all_entries_are_killed() {
        let tag = format!("a{}", std::process::id());
        let entry = vec![format!("FIRELINK_TEST_LEFTOVERS={tag}")];
        let mut left = start(&tag, GONE, &[(PLUGIN, "1")]);
        let mut own = start(&tag, std::process::id(), &[(PLUGIN, "1")]);
        assert_eq!(kill_leftovers(&["FIRELINK_TEST_LEFTOVERS=other".into(), entry[0].clone()], &[]).unwrap(), 0);
        assert_eq!(kill_leftovers(&entry, &[]).unwrap(), 1);
        assert!(!left.wait().unwrap().success());
        assert!(own.try_wait().unwrap().is_none(), "its daemon is alive");
        assert!(kill_plugins(&entry).unwrap() >= 1);
        assert!(!own.wait().unwrap().success());
    }

    #[test]
    fn of_the_runs_of_a_dead_daemon_the_adopted_ones_and_what_was_left_on_purpose_go_on() {
        let tag = format!("b{}", std::process::id());
        let entry = vec![format!("FIRELINK_TEST_LEFTOVERS={tag}")];
        let mut over = start(&tag, GONE, &[(RUN_ID, "1")]);
        let mut adopted = start(&tag, GONE, &[(RUN_ID, "2")]);
        let mut left = start(&tag, GONE, &[(RUN_ID, "3"), (LEAVE, "word")]);
        let mut earlier = start(&tag, GONE, &[(RUN_ID, "4")]);
        let pid = |child: &Child| proc::identify(i32::try_from(child.id()).unwrap());
        let later = Pid { start_ticks: pid(&earlier).start_ticks + 1, ..pid(&adopted) };
        let live = [Known { pid: pid(&adopted), run: Some(RunId(2)) }, Known { pid: later, run: Some(RunId(4)) }];
        assert_eq!(kill_leftovers(&entry, &live).unwrap(), 2);
        assert!(!over.wait().unwrap().success());
        assert!(!earlier.wait().unwrap().success(), "of an earlier attempt");
        for child in [&mut adopted, &mut left] {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
