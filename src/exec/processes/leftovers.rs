//! Processes that plugins leave behind, identified by their environment.
//!
//! A plugin belongs to no run, so its processes carry [`PLUGIN`] instead of the number of a run. They are killed in two cases:
//! a daemon that crashed could not terminate its plugins, so the next one on the same state does; and processes that left
//! the process group of a plugin are killed after its exit.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as UnixPid;

use super::proc::{self, Stat};
use crate::exec::marks::{DAEMON_PID, PLUGIN};
use crate::exec::sys;

/// Scans: a killed process may just have forked.
const SCANS: usize = 3;

/// How long to wait for killed processes to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The daemon whose plugins are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Daemons that are gone. Waits for the processes to be gone, because the next plugin may need resources that they hold.
    Gone,
    /// This one. The processes are its children by now, and their exits cause SIGCHLD.
    This,
}

/// Sends SIGKILL to every process of a plugin whose initial environment contains all of these `NAME=value` entries, and returns
/// their number.
///
/// # Errors
/// When `/proc` can't be read.
pub fn kill_plugins(entries: &[String], daemon: Daemon) -> io::Result<usize> {
    let namespace = std::fs::read_link("/proc/self/ns/pid")?;
    let matches = |pid: i32| {
        carries(pid, entries, daemon)
            // In a container the same path may be another directory, and the daemon's pid another process.
            && std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|other| other == namespace)
    };
    let mut killed = 0;
    for _ in 0..SCANS {
        let found: Vec<i32> = proc::all()?.filter(|pid| matches(*pid)).collect();
        let killed_fds: Vec<Option<OwnedFd>> = found.iter().filter_map(|pid| end(*pid, matches)).collect();
        if killed_fds.is_empty() {
            break;
        }
        killed += killed_fds.len();
        if daemon == Daemon::Gone {
            wait_for(&killed_fds);
        }
    }
    Ok(killed)
}

fn carries(pid: i32, entries: &[String], daemon: Daemon) -> bool {
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let value = |name: &str| {
        let mut entries = environ.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let has = |wanted: &String| environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
    if value(PLUGIN) != Some(b"1") || !entries.iter().all(has) {
        return false;
    }
    let of = value(DAEMON_PID).and_then(|pid| std::str::from_utf8(pid).ok()?.parse::<i32>().ok());
    match daemon {
        Daemon::This => of.and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id()),
        Daemon::Gone => !of.is_some_and(|of| is_daemon_of(of, pid)),
    }
}

/// True if the daemon that a process names is alive: the pid may have been reused, by a younger process.
fn is_daemon_of(daemon: i32, pid: i32) -> bool {
    let (Some(daemon), Some(of)) = (Stat::of(daemon), Stat::of(pid)) else { return false };
    !daemon.is_zombie() && daemon.start_ticks <= of.start_ticks
}

/// Kills a process. `None` if it does not match after all; else its pidfd, if the kernel has pidfds.
fn end(pid: i32, matches: impl Fn(i32) -> bool) -> Option<Option<OwnedFd>> {
    match sys::pidfd_open(pid) {
        // Checked again, now that the pidfd pins the process.
        Ok(fd) => (matches(pid) && sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok()).then_some(Some(fd)),
        Err(_) => (matches(pid) && kill(UnixPid::from_raw(pid), Signal::SIGKILL).is_ok()).then_some(None),
    }
}

fn wait_for(killed_fds: &[Option<OwnedFd>]) {
    let until = Instant::now() + KILL_TIMEOUT;
    for fd in killed_fds.iter().flatten() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // Whatever the result: the next scan finds what is still there.
        let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process that runs until it is killed, as a daemon with this pid would have started it.
    fn plugin(tag: &str, daemon: u32) -> Child {
        let mut command = Command::new("cat");
        command.env("FIRELINK_TEST_LEFTOVERS", tag).env(PLUGIN, "1").env(DAEMON_PID, daemon.to_string());
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
        // A number that no process can have.
        let mut left = plugin(&tag, 0x7fff_fff0);
        let mut own = plugin(&tag, std::process::id());
        assert_eq!(kill_plugins(&["FIRELINK_TEST_LEFTOVERS=other".into(), entry[0].clone()], Daemon::Gone).unwrap(), 0);
        assert_eq!(kill_plugins(&entry, Daemon::Gone).unwrap(), 1);
        assert!(!left.wait().unwrap().success());
        assert!(own.try_wait().unwrap().is_none(), "its daemon is alive");
        assert!(kill_plugins(&entry, Daemon::This).unwrap() >= 1);
        assert!(!own.wait().unwrap().success());
    }
}
