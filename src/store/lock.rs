//! One daemon per state directory: an flock(2) on `state_dir/lock`, which contains the pid. The kernel releases it when the
//! last descriptor is closed.
//!
//! That may be after the daemon's death: a child that it was starting when it was killed holds the descriptor until its exec.
//! So if the lock is held and the pid's process is gone, the lock is retried for up to two seconds.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Far more than the time from fork to exec.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Held for the daemon's life.
#[derive(Debug)]
pub struct Lock {
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
            LockError::Failed { action, message } => write!(f, "can't {action}: {message}"),
        }
    }
}

impl std::error::Error for LockError {}

impl Lock {
    /// Creates the directory if it is missing (mode 0700) and takes the lock.
    ///
    /// # Errors
    /// When another daemon holds it, or the directory can't be written.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let failed = |action: String| move |error: std::io::Error| LockError::Failed { action, message: error.to_string() };
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(dir).map_err(failed(format!("create the state directory {}", dir.display())))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed(format!("open {}", path.display())))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    let written =
                        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
                    written.map_err(failed(format!("write {}", path.display())))?;
                    return Ok(Lock { _file: file });
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
