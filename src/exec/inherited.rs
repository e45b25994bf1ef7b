//! Descriptors that the daemon was started with and knows nothing about: a terminal multiplexer's, a build tool's.

use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

/// Keeps every descriptor above standard error from the jobs, whoever opened it.
///
/// close_range(2) does it in one call since Linux 5.11; before that each is marked by itself.
///
/// # Errors
/// When `/proc/self/fd` can't be read on such an old kernel.
pub fn keep_from_children() -> io::Result<()> {
    // SAFETY: close_range only takes numbers; with CLOSE_RANGE_CLOEXEC it closes nothing and marks descriptors to be
    // closed on exec, which changes nothing for this process.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if Errno::result(done).is_ok() {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|fd| *fd > 2) else { continue };
        // SAFETY: only a flag of the descriptor is set; one that was closed meanwhile (that of the directory itself)
        // is EBADF, and nothing else runs in this process yet that could have opened another under its number.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}
