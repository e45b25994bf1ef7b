//! Detaching from the terminal: a child in a session of its own becomes the daemon, and the parent waits until it is ready.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};

/// The two returns of [`detach`].
#[derive(Debug)]
pub enum Detached {
    /// In the child, which becomes the daemon.
    Child(Readiness),
    /// In the parent, after the child is ready (`None`) or has exited (its exit code).
    Parent(Option<i32>),
}

/// Reports to the parent that the daemon is ready. Dropped, it reports a failure.
#[derive(Debug)]
pub struct Readiness {
    pipe: OwnedFd,
}

/// Forks. The child leads a new session without a terminal; it keeps the standard streams until it is ready, for its error
/// messages.
///
/// # Errors
/// The error of pipe(2), fork(2) or waitpid(2); and when the process has more than one thread.
pub fn detach() -> io::Result<Detached> {
    // fork(2) copies the calling thread alone; locks of other threads would stay locked in the child.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() != 1) {
        return Err(io::Error::other("the process has more than one thread"));
    }
    let (read, write) = pipe()?;
    // SAFETY: there is one thread, so the child may call any function.
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

/// The exit code of the child, as in a shell.
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
    /// Redirects the standard streams to `/dev/null`, and reports to the parent.
    ///
    /// # Errors
    /// When /dev/null can't be opened.
    pub fn tell(self) -> io::Result<()> {
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        dup2_stderr(&nothing)?;
        // It fails if the parent was killed meanwhile.
        let _ = File::from(self.pipe).write(b"+");
        Ok(())
    }
}
