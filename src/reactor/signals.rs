//! Signals as events: blocked for the whole process and read from a signalfd(2).

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the daemon listens to. SIGCHLD tells of the ends of processes that have no pidfd here: orphans of runs, and
/// every child where the kernel has no pidfds. For the others it is read together with the exit that it tells of.
const SIGNALS: [Signal; 5] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD];

/// Blocks the signals in this thread, and in every thread that it starts, and opens the descriptor that tells them.
pub(super) fn open() -> io::Result<SignalFd> {
    let set: SigSet = SIGNALS.into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The next signal, if one is pending.
pub(super) fn take(fd: &SignalFd) -> io::Result<Option<Signal>> {
    loop {
        match fd.read_signal() {
            Ok(Some(info)) => {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                if let Ok(signal) = Signal::try_from(number) {
                    return Ok(Some(signal));
                }
            }
            Ok(None) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
