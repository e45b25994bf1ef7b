//! One daemon per state directory: an flock(2) on `state_dir/lock`, which contains the pid. The kernel releases it when the
//! last descriptor is closed.
//!
//! That may be after the daemon's death: a child that it was starting when it was killed holds the descriptor until its exec.
//! So if the lock is held and the pid's process is gone, the lock is retried for up to two seconds.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::dir::{self, LOCK};
use crate::files::Dir;

/// Far more than the time from fork to exec.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Held for the daemon's life.
#[derive(Debug)]
pub struct Lock {
    dir: Arc<Dir>,
    notes: Vec<String>,
    _file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another daemon holds it.
    Held {
        /// The state's directory.
        dir: PathBuf,
        /// The other daemon's pid, if the file has one.
        pid: Option<u32>,
    },
    /// The directory, or something in it, is another user's; a sentence for a person.
    Refused(String),
    /// A system call failed.
    Failed {
        /// The operation, as in `can't {action}`.
        action: String,
        /// The error's message.
        message: String,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { dir, pid } => {
                let who = pid.map_or("another daemon".into(), |pid| format!("the daemon with pid {pid}"));
                write!(
                    f,
                    "{who} already runs on the state in {}; stop it (`firelink stop`), or give this one its own with --state-dir",
                    dir.display()
                )
            }
            LockError::Refused(why) => f.write_str(why),
            LockError::Failed { action, message } => write!(f, "can't {action}: {message}"),
        }
    }
}

impl std::error::Error for LockError {}

impl Lock {
    /// Takes the lock of a state directory, which is made if it is missing. Its owner and mode, and those of the files in it, are
    /// checked: what is the daemon's is fixed (see [`Lock::take_notes`]).
    ///
    /// # Errors
    /// When another daemon holds it, when the directory can't be written, or when it is another user's.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let failed = |action: String| move |error: std::io::Error| LockError::Failed { action, message: error.to_string() };
        let (state, mut notes) = dir::open(dir).map_err(LockError::Refused)?;
        let path = dir.join(LOCK);
        let opened = state.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK);
        let mut file = opened.map_err(failed(format!("open {}", path.display())))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let pid = format!("{}\n", std::process::id());
                    // In this order, so that who reads it while a daemon replaces itself finds the pid, which is the same.
                    let written = file.write_all_at(pid.as_bytes(), 0).and_then(|()| file.set_len(pid.len() as u64));
                    written.map_err(failed(format!("write {}", path.display())))?;
                    notes.extend(dir::check_files(&state).map_err(LockError::Refused)?);
                    return Ok(Lock { dir: Arc::new(state), notes, _file: file });
                }
                Err((mut held, Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    let read = held.rewind().and_then(|()| held.read_to_string(&mut text));
                    let pid = read.ok().and_then(|_| text.trim().parse().ok());
                    if pid.is_none_or(is_alive) || Instant::now() >= deadline {
                        return Err(LockError::Held { dir: dir.into(), pid });
                    }
                    std::thread::sleep(RETRY_INTERVAL);
                    file = held;
                }
                Err((_, errno)) => {
                    return Err(LockError::Failed { action: format!("lock {}", path.display()), message: errno.desc().into() });
                }
            }
        }
    }
}

impl Lock {
    /// What was changed of the modes in the directory, each a sentence for the log.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> Arc<Dir> {
        Arc::clone(&self.dir)
    }
}

fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = Lock::take(&state).unwrap();
        match Lock::take(&state) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        Lock::take(&state).unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_daemon_is_awaited_while_a_child_before_its_exec_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        // A dead pid in the file, and another holder of the descriptor.
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        std::fs::write(dir.path().join("lock"), format!("{pid}\n")).unwrap();
        let holder = Flock::lock(File::open(dir.path().join("lock")).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let (taken, state) = std::sync::mpsc::channel();
        let dir_of_the_other = dir.path().to_owned();
        let other = std::thread::spawn(move || taken.send(Lock::take(&dir_of_the_other).is_ok()));
        assert!(state.recv_timeout(RETRY_INTERVAL * 4).is_err(), "taken while it is held");
        drop(holder);
        assert_eq!(state.recv_timeout(LOCK_TIMEOUT * 10), Ok(true));
        other.join().unwrap().unwrap();
    }
}
