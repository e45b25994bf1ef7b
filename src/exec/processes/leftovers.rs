//! What plugins leave behind: processes known by the variables that they were started with.
//!
//! A plugin is of no run, so its processes carry [`PLUGIN`] instead of a run's number. Two cases end what carries it:
//! a daemon that was killed could not end its plugins, so the next one on the same state does; and what left the
//! process group of a plugin that has ended is found by the same variables.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as UnixPid;

use super::proc::{self, Stat};
use crate::exec::marks::{DAEMON_PID, PLUGIN};
use crate::exec::sys;

/// One that is killed may just have started another, so they are looked for again.
const LOOKS: usize = 3;

/// How long the kernel gets to end those that were killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whose plugins are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Of daemons that are gone. Their ends are waited for, because the next plugin may need what they hold.
    Gone,
    /// Of this one. They are its children by now, and their ends come as SIGCHLD.
    This,
}

/// Sends SIGKILL to every process of a plugin whose environment, as it was when its program began, holds all of these
/// `NAME=value` entries; returns how many.
///
/// # Errors
/// When `/proc` can't be read.
pub fn kill_plugins(entries: &[String], daemon: Daemon) -> io::Result<usize> {
    let namespace = std::fs::read_link("/proc/self/ns/pid")?;
    let is_meant = |pid: i32| {
        carries(pid, entries, daemon)
            // In a container the same path may be another directory, and the daemon's number another process.
            && std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|other| other == namespace)
    };
    let mut killed = 0;
    for _ in 0..LOOKS {
        let found: Vec<i32> = proc::all()?.filter(|pid| is_meant(*pid)).collect();
        let ending: Vec<Option<OwnedFd>> = found.iter().filter_map(|pid| end(*pid, is_meant)).collect();
        if ending.is_empty() {
            break;
        }
        killed += ending.len();
        if daemon == Daemon::Gone {
            wait_for(&ending);
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

/// True if the daemon that a process names still lives: the number may have come to another process since, which is
/// then younger.
fn is_daemon_of(daemon: i32, pid: i32) -> bool {
    let (Some(daemon), Some(of)) = (Stat::of(daemon), Stat::of(pid)) else { return false };
    !daemon.is_zombie() && daemon.start_ticks <= of.start_ticks
}

/// Kills one process. `None` if it was none of these after all; else what tells of its end, where the kernel can.
fn end(pid: i32, is_meant: impl Fn(i32) -> bool) -> Option<Option<OwnedFd>> {
    match sys::pidfd_open(pid) {
        // Looked at again, now that the descriptor holds on to one process.
        Ok(fd) => (is_meant(pid) && sys::pidfd_send_signal(fd.as_fd(), Signal::SIGKILL).is_ok()).then_some(Some(fd)),
        Err(_) => (is_meant(pid) && kill(UnixPid::from_raw(pid), Signal::SIGKILL).is_ok()).then_some(None),
    }
}

fn wait_for(ending: &[Option<OwnedFd>]) {
    let until = Instant::now() + PATIENCE;
    for fd in ending.iter().flatten() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // Whatever it says: whoever is still there is met by the next look.
        let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process that lives until it is killed, as a daemon with this number would have started it.
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
    fn only_plugins_with_all_entries_of_a_daemon_that_is_gone_are_ended() {
        let tag = format!("a{}", std::process::id());
        let entry = vec![format!("FIRELINK_TEST_LEFTOVERS={tag}")];
        // A number that no process can have.
        let mut left = plugin(&tag, 0x7fff_fff0);
        let mut own = plugin(&tag, std::process::id());
        assert_eq!(kill_plugins(&["FIRELINK_TEST_LEFTOVERS=other".into(), entry[0].clone()], Daemon::Gone).unwrap(), 0);
        assert_eq!(kill_plugins(&entry, Daemon::Gone).unwrap(), 1);
        assert!(!left.wait().unwrap().success());
        assert!(own.try_wait().unwrap().is_none(), "its daemon lives");
        assert!(kill_plugins(&entry, Daemon::This).unwrap() >= 1);
        assert!(!own.wait().unwrap().success());
    }
}
