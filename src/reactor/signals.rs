//! Signals as events: blocked for the whole process and read from a signalfd(2).

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// The signals that the daemon reads. SIGCHLD reports the ends of processes that have no pidfd here: orphans of runs, and
/// every child where the kernel has no pidfds. For the others it comes together with the exit that it reports.
const SIGNALS: [Signal; 5] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD];

/// Blocks the signals in this thread, and in every thread that it starts, and opens their descriptor.
pub(super) fn open() -> io::Result<SignalFd> {
    let set: SigSet = SIGNALS.into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The signals that are pending: as many as there are kinds of them, since none of these is queued twice.
///
/// # Errors
/// What read(2) said.
pub(super) fn take(fd: &SignalFd) -> io::Result<Vec<Signal>> {
    const INFO: usize = size_of::<siginfo>();
    // One more than there can be, so that what was read is known to be all.
    let mut infos = [0_u8; (SIGNALS.len() + 1) * INFO];
    let mut taken = Vec::new();
    loop {
        let count = match nix::unistd::read(fd, &mut infos) {
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Ok(taken),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        // `ssi_signo` is the first field (signalfd(2)).
        let numbers = infos[..count].chunks_exact(INFO).filter_map(|info| Some(i32::from_ne_bytes(*info.first_chunk()?)));
        taken.extend(numbers.filter_map(|number| Signal::try_from(number).ok()));
        if count < infos.len() {
            return Ok(taken);
        }
    }
}
