//! Becoming a daemon: a child in a session of its own goes on, and its parent waits to hear whether it came up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

/// Who goes on after [`detach`].
#[derive(Debug)]
pub enum Detached {
    /// The daemon to be.
    Child(Readiness),
    /// The parent, once it knows: none when the daemon is up, else how the child ended.
    Parent(Option<i32>),
}

/// The child's word to its parent. Dropped unused it says that there will be no daemon.
#[derive(Debug)]
pub struct Readiness {
    pipe: OwnedFd,
}

/// Forks. The child is the leader of a new session without a terminal; its standard streams are still the parent's, so
/// that it can say why it does not come up.
///
/// # Errors
/// What pipe(2), fork(2) or waitpid(2) said; and when the process has more than one thread.
pub fn detach() -> io::Result<Detached> {
    // fork(2) copies the calling thread alone; what another one had locked would stay locked in the child for ever.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() != 1) {
        return Err(io::Error::other("the process has more than one thread"));
    }
    let (read, write) = pipe()?;
    // SAFETY: there is one thread, so that the child may go on like any process.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(read);
            setsid()?;
            Ok(Detached::Child(Readiness { pipe: write }))
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut word = [0];
            match File::from(read).read(&mut word)? {
                0 => Ok(Detached::Parent(Some(ended(child)?))),
                _ => Ok(Detached::Parent(None)),
            }
        }
    }
}

/// The exit code with which a child that does not come up has ended, as a shell tells it.
fn ended(child: Pid) -> io::Result<i32> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as libc::c_int),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Readiness {
    /// The daemon is up: it lets go of the parent's standard streams and of the parent.
    ///
    /// # Errors
    /// When /dev/null can't be opened.
    pub fn tell(self) -> io::Result<()> {
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        dup2_stderr(&nothing)?;
        // A parent that was killed meanwhile needs no answer.
        let _ = File::from(self.pipe).write(b"+");
        Ok(())
    }
}
