//! One daemon a state: an flock(2) on `state_dir/lock`, which holds the pid and goes away with the process.
//!
//! Not quite with it: a child that the daemon was starting when it was killed has the descriptor until its exec closes
//! it. So a lock whose holder is gone is waited for, for a moment.

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

/// From fork to exec is a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Held for the daemon's life.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the state can't be had.
#[derive(Debug)]
pub enum LockError {
    /// Another daemon has it.
    Held {
        /// The state's directory.
        dir: PathBuf,
        /// The other daemon's pid, if the file tells.
        pid: Option<u32>,
    },
    /// The directory or the file can't be used.
    Refused {
        /// What was tried, on what.
        tried: String,
        /// The OS's word.
        said: String,
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
            LockError::Refused { tried, said } => write!(f, "can't {tried}: {said}"),
        }
    }
}

impl std::error::Error for LockError {}

impl Lock {
    /// Makes the directory if need be (mode 0700) and takes the lock.
    ///
    /// # Errors
    /// When another daemon holds it, or the directory can't be written.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let refused = |tried: String| move |error: std::io::Error| LockError::Refused { tried, said: error.to_string() };
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(dir).map_err(refused(format!("make the state directory {}", dir.display())))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(refused(format!("open {}", path.display())))?;
        let patience = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    let written =
                        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
                    written.map_err(refused(format!("write {}", path.display())))?;
                    return Ok(Lock { _file: file });
                }
                Err((mut held, Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    let read = held.rewind().and_then(|()| held.read_to_string(&mut text));
                    let pid = read.ok().and_then(|_| text.trim().parse().ok());
                    if pid.is_none_or(is_alive) || Instant::now() >= patience {
                        return Err(LockError::Held { dir: dir.into(), pid });
                    }
                    std::thread::sleep(LOOK_EVERY);
                    file = held;
                }
                Err((_, errno)) => {
                    return Err(LockError::Refused { tried: format!("lock {}", path.display()), said: errno.desc().into() });
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
    fn the_lock_of_a_daemon_that_is_gone_is_waited_for_while_a_child_that_never_came_to_its_exec_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        // What is left of such a daemon: its pid in the file, and somebody else with the descriptor.
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        std::fs::write(dir.path().join("lock"), format!("{pid}\n")).unwrap();
        let holder = Flock::lock(File::open(dir.path().join("lock")).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let (taken, state) = std::sync::mpsc::channel();
        let dir_of_the_other = dir.path().to_owned();
        let other = std::thread::spawn(move || taken.send(Lock::take(&dir_of_the_other).is_ok()));
        assert!(state.recv_timeout(LOOK_EVERY * 4).is_err(), "it waits");
        drop(holder);
        assert_eq!(state.recv_timeout(PATIENCE * 10), Ok(true));
        other.join().unwrap().unwrap();
    }
}
