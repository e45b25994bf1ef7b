//! Sockets that a supervisor hands over: sd_listen_fds(3).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};

/// The first descriptor that a supervisor hands over (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: RawFd = 3;

/// How many descriptors were handed over to this very process.
fn passed() -> RawFd {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i64>().ok());
    let ours = number("LISTEN_PID") == Some(i64::from(std::process::id()));
    number("LISTEN_FDS").filter(|_| ours).and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0).clamp(0, 64)
}

/// The listening Unix socket that a supervisor has handed over (socket activation), if there is one. The descriptor
/// itself stays open besides, for the program that this one may become.
///
/// # Errors
/// When the descriptor can't be used.
pub fn passed_socket() -> io::Result<Option<UnixListener>> {
    for fd in FIRST_PASSED..FIRST_PASSED + passed() {
        // SAFETY: the supervisor says by LISTEN_PID and LISTEN_FDS that this descriptor is open and ours, and nothing here
        // closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let is_stream = getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
        let listens = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
        let family = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&fd)).ok().and_then(|name| name.family());
        if is_stream && listens && family == Some(AddressFamily::Unix) {
            return Ok(Some(UnixListener::from(fd.try_clone_to_owned()?)));
        }
    }
    Ok(None)
}

/// Lets the program that this one is about to become have what was handed over. What this process starts does not get it:
/// [`crate::exec`] closes every descriptor.
pub(super) fn pass_on() {
    for fd in FIRST_PASSED..FIRST_PASSED + passed() {
        // SAFETY: as in `passed_socket`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // It fails for what is not open, which then is not missed.
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()));
    }
}
