//! System calls that neither std nor nix wraps safely.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{self, SigHandler, Signal};

use crate::model::Exit;

/// pidfd_open(2): a descriptor that becomes readable when the process ends. Close-on-exec by definition.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The exit status of the process of a pidfd, after its parent has reaped it: `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux
/// 6.15. `None` on older kernels, or before it is reaped.
pub(super) fn pidfd_exit(fd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: zeroed, it is a valid value of this struct of integers, whose size is part of the request.
    unsafe { (*info.as_mut_ptr()).mask = libc::PIDFD_INFO_EXIT.into() };
    // SAFETY: the descriptor is borrowed and so open; `info` is a local of the type that the request names and outlives
    // the call.
    let code = unsafe { libc::ioctl(fd.as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) };
    // SAFETY: it was zeroed, and the kernel has filled it in or left it so.
    let info = unsafe { info.assume_init() };
    let known = code == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    known.then(|| exit_from_status(info.exit_code))
}

/// Decodes a status of wait(2).
pub(super) fn exit_from_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code(status >> 8 & 0xff),
        signal => Exit::Signal(signal),
    }
}

/// True if this kernel has pidfd_open(2) (Linux 5.3).
#[must_use]
pub fn has_pidfd() -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or(1);
    pidfd_open(me).is_ok()
}

/// Columns and lines of a terminal (ioctl_tty(2), `TIOCGWINSZ`); none for what is no terminal or does not know.
#[must_use]
pub fn terminal_size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the descriptor is borrowed and so open; the kernel fills in a local of the right type that outlives the call.
    let code = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) };
    // SAFETY: all-zero is a valid winsize, which the call has filled in or left so.
    let size = unsafe { size.assume_init() };
    (code == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Makes this process a child subreaper: orphaned descendants are reparented to it instead of init (prctl(2),
/// `PR_SET_CHILD_SUBREAPER`). Also resets SIGCHLD to its default: ignored, as a parent may have left it, it makes the kernel
/// discard exit statuses (wait(2)). And ignores SIGXFSZ: under a file size limit, a write beyond it then fails as on a full
/// disk (setrlimit(2)) instead of killing the daemon. To be called once, before anything is started; children get the
/// default disposition of both signals.
///
/// # Errors
/// What prctl(2) or sigaction(2) said.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: the default disposition installs no handler, and this process has none for SIGCHLD.
    unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    // SAFETY: neither does ignoring.
    unsafe { signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    // SAFETY: this option takes an integer and touches no memory of ours.
    let code = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) };
    Errno::result(code).map(drop).map_err(Into::into)
}

/// The exit status of a child that has exited; `reap` also reaps it. Not by nix, which reports death by a real-time signal as an
/// error.
///
/// # Errors
/// The error of waitid(2): `ECHILD` for a process that is not a child.
pub(super) fn wait(pid: i32, reap: bool) -> io::Result<Option<Exit>> {
    wait_with(pid, libc::WNOHANG | if reap { 0 } else { libc::WNOWAIT })
}

/// Waits for a child that was killed, and reaps it.
///
/// # Errors
/// The error of waitid(2).
pub(super) fn wait_for_death(pid: i32) -> io::Result<()> {
    wait_with(pid, 0).map(drop)
}

fn wait_with(pid: i32, flags: libc::c_int) -> io::Result<Option<Exit>> {
    let id = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is a local of the right type that outlives the call.
        let code = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), libc::WEXITED | flags) };
        match Errno::result(code) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // SAFETY: it was zeroed, which is a valid siginfo_t, and waitid has filled it in or left it so; these two fields
    // are those of SIGCHLD, the only signal that waitid tells of.
    let (about, code, status) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code, info.si_status())
    };
    Ok(match code {
        _ if about == 0 => None,
        libc::CLD_EXITED => Some(Exit::Code(status)),
        _ => Some(Exit::Signal(status)),
    })
}

/// Sends a signal to the process of a pidfd (pidfd_send_signal(2), Linux 5.1).
///
/// # Errors
/// `ESRCH` for a process that is gone.
pub(super) fn pidfd_send_signal(fd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed and so open; a null siginfo asks for what kill(2) would send.
    let code = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as libc::c_int, none, 0) };
    Errno::result(code).map(drop).map_err(Into::into)
}

/// True if this kernel has close_range(2) (Linux 5.9).
pub(super) fn has_close_range() -> bool {
    // SAFETY: three integers go in, and no descriptor has such a number.
    unsafe { libc::syscall(libc::SYS_close_range, libc::c_uint::MAX, libc::c_uint::MAX, 0) == 0 }
}

/// Sets close-on-exec on every descriptor of this process from `first` on, for kernels without close_range(2).
///
/// # Errors
/// When `/proc/self/fd` can't be read.
pub(super) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok()) else { continue };
        if u32::try_from(fd).is_ok_and(|fd| fd >= first) {
            // SAFETY: two integers go in. EBADF, for one that was closed meanwhile, is no harm.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// The lowest real-time priority of this thread, for as long as it is held.
#[derive(Debug)]
pub(super) struct Urgent {
    policy: libc::c_int,
}

impl Urgent {
    /// `None` without the right to it (sched(7): `CAP_SYS_NICE` or `RLIMIT_RTPRIO`), and for a thread that has a real-time policy.
    pub(super) fn begin() -> Option<Urgent> {
        // SAFETY: an integer goes in; 0 is the calling thread.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let policy = libc::c_int::try_from(policy).ok()?;
        let is_ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&policy);
        (is_ordinary && set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)).then_some(Urgent { policy })
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        set_policy(self.policy, 0);
    }
}

/// sched_setscheduler(2) for this thread. By system call: musl's function refuses.
fn set_policy(policy: libc::c_int, priority: libc::c_int) -> bool {
    // The struct of the kernel has this member alone; that of some C libraries has more.
    let parameter = [priority];
    // SAFETY: `parameter` is a local of the kernel's layout that outlives the call, which only reads it.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, parameter.as_ptr()) == 0 }
}

/// An extended attribute of a file (getxattr(2)); `None` if it does not exist or is longer than 16 bytes.
pub(super) fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes()).ok()?, CString::new(name).ok()?);
    let mut value = [0_u8; 16];
    // SAFETY: both strings end with a NUL and live until the call returns, which writes no more than it is given room for.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec)
}
