//! clone(2) with the daemon's memory shared until exec, so that a child starts while the daemon goes on.
//!
//! posix_spawn(3) shares the memory as well, but blocks its caller until the exec: some hundred microseconds in which a
//! daemon with a thousand due jobs can't start the next one. Here the caller goes on, starts others, and asks later
//! ([`Starting::wait_for_exec`]) whether the program was executed. Why this is sound:
//!
//! - the child runs on a stack of its own and reads only the data that [`Starting`] owns; both live until the kernel reports
//!   that the child does not use this memory any more (`CLONE_CHILD_CLEARTID`: it writes a zero and wakes a futex when the
//!   child executes its program or exits, set_tid_address(2));
//! - the child makes system calls directly, not through the C library, whose `errno` it would share with the daemon's thread,
//!   and writes one word only: the errno of its failure;
//! - no signal handler runs in it: the daemon has none but std's for stack overflows, and the child resets every altered
//!   disposition to its default before it unblocks signals.
//!
//! For the architectures whose calling convention is implemented here; the others use posix_spawn(3).

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_long, c_void};

use super::plan::Program;
use crate::exec::processes::Child;
use crate::exec::sys;

/// The size of the child's stack; it calls one function, which makes system calls.
const STACK: usize = 16 << 10;

/// The exit code of a child that can't execute its program; nobody sees it.
const FAILED: usize = 127;

/// The data that the child reads, and the two words that it and the kernel write.
#[repr(C)]
struct Shared {
    /// 1 while the child uses this memory; the kernel sets it to 0.
    uses: AtomicU32,
    /// The errno of the system call that failed.
    error: AtomicI32,
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    cwd: *const c_char,
    /// The path of the first output, if it is to be reopened for reading and writing.
    reopen: *const c_char,
    /// stdout and stderr; -1: `/dev/null`.
    outputs: [c_int; 2],
    /// Signals to reset to their default disposition.
    altered: &'static [c_int],
}

/// The signals whose disposition is not the default. Read once: the daemon sets them before its first start
/// ([`sys::become_subreaper`]) and never changes them.
fn altered_signals() -> &'static [c_int] {
    static ALTERED: OnceLock<Vec<c_int>> = OnceLock::new();
    // The C library reserves some and does not report them.
    let hidden = 32..libc::SIGRTMIN();
    ALTERED.get_or_init(|| (1..=libc::SIGRTMAX()).filter(|signal| hidden.contains(signal) || sys::is_altered(*signal)).collect())
}

/// A process that may not have executed its program yet. Dropped, it is killed and reaped.
pub(in crate::exec) struct Starting {
    pid: i32,
    pidfd: Option<OwnedFd>,
    start_ticks: Option<u64>,
    done: bool,
    shared: Box<Shared>,
    _program: Program,
    _pointers: [Vec<*const c_char>; 2],
    _reopen: Option<CString>,
    _stack: Box<[MaybeUninit<u128>]>,
}

/// The current time in the clock and unit of process start times (proc(5), field 22 of `/proc/PID/stat`; `USER_HZ` of
/// asm/param.h on both architectures).
fn ticks() -> Option<u64> {
    const USER_HZ: u64 = 100;
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    let nanos = u64::try_from(now.tv_nsec()).ok()?;
    Some(u64::try_from(now.tv_sec()).ok()? * USER_HZ + nanos / (1_000_000_000 / USER_HZ))
}

/// Creates the child: in a process group of its own, with stdin from `/dev/null`, these outputs (`None`: `/dev/null`), no
/// blocked and no ignored signals. All other descriptors must be close-on-exec. With `reopen` the child reopens the first
/// output for reading and writing, if it can, and uses that as both outputs.
///
/// # Errors
/// The error of clone(2), with the program returned. Errors of the child come from [`Starting::wait_for_exec`].
pub(in crate::exec) fn start(
    program: Program,
    outputs: [Option<BorrowedFd<'_>>; 2],
    reopen: bool,
) -> Result<Starting, (io::Error, Program)> {
    let (argv, envp) = (program.argv(), program.envp());
    let fd = |output: Option<BorrowedFd<'_>>| output.map_or(-1, |fd| fd.as_raw_fd());
    let reopen = match outputs[0] {
        Some(fd) if reopen => CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok(),
        _ => None,
    };
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>());
    let shared = Box::new(Shared {
        uses: AtomicU32::new(1),
        error: AtomicI32::new(0),
        path: program.path.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: program.cwd.as_ptr(),
        reopen: reopen.as_ref().map_or(ptr::null(), |name| name.as_ptr()),
        outputs: outputs.map(fd),
        altered: altered_signals(),
    });
    let mut pidfd: c_int = -1;
    let before = ticks();
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the child begins in `child` on a stack of its own, which is big enough for that one function, aligned as a
    // u128 and grows down from its end. All that `shared` points to, `shared` itself and the stack go into the `Starting`
    // below, which frees none of it before the kernel has cleared `uses`; the boxes and the buffers of the vectors do not
    // move with it. A failed clone has made no child.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            ptr::from_ref(&*shared).cast_mut().cast(),
            &raw mut pidfd,
            ptr::null_mut::<c_void>(),
            shared.uses.as_ptr(),
        )
    };
    let pid = match Errno::result(pid) {
        Ok(pid) => pid,
        Err(errno) => return Err((errno.into(), program)),
    };
    // SAFETY: the kernel has just created this descriptor for us; before Linux 5.2 it leaves the variable unchanged.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    let start_ticks = before.filter(|before| ticks() == Some(*before));
    Ok(Starting {
        pid,
        pidfd,
        start_ticks,
        done: false,
        shared,
        _program: program,
        _pointers: [argv, envp],
        _reopen: reopen,
        _stack: stack,
    })
}

impl Starting {
    /// True if [`Starting::wait_for_exec`] would not block.
    pub fn has_execed(&self) -> bool {
        self.shared.uses.load(Ordering::Acquire) == 0
    }

    /// Waits until the child has executed its program or failed to, which usually is the case already.
    ///
    /// # Errors
    /// The error of the child's chdir(2) or execve(2); it is reaped.
    pub fn wait_for_exec(mut self) -> io::Result<Child> {
        self.wait();
        self.done = true;
        match self.shared.error.load(Ordering::Relaxed) {
            0 => Ok(Child::new(self.pid, self.pidfd.take(), self.start_ticks)),
            errno => {
                sys::wait_for_death(self.pid)?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn wait(&self) {
        while self.shared.uses.load(Ordering::Acquire) != 0 {
            // Not a private futex: the kernel's wake-up is for a shared one.
            // SAFETY: the word lives as long as `self`; a futex that has another value already, or a signal, end the wait
            // early, and the loop looks again.
            unsafe {
                libc::syscall(libc::SYS_futex, self.shared.uses.as_ptr(), libc::FUTEX_WAIT, 1_u32, ptr::null::<libc::timespec>())
            };
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.done {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
            self.wait();
            let _ = sys::wait_for_death(self.pid);
        }
    }
}

/// The child. It must not panic, allocate, or call the C library.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: `start` handed in a `Shared`, which lives until this process executes its program or ends.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: the pointers in `shared` are strings that end with a NUL and arrays that end with a null; they live as long.
    let failed = unsafe { become_program(shared) };
    shared.error.store(failed, Ordering::Relaxed);
    loop {
        // SAFETY: ends this process, whatever memory it shares; it has no other thread.
        unsafe { call(libc::SYS_exit_group, [FAILED, 0, 0, 0]) };
    }
}

/// Returns only on failure: the errno.
///
/// # Safety
/// To be called in the child of [`start`] alone, with what that prepared.
unsafe fn become_program(shared: &Shared) -> c_int {
    const HERE: usize = libc::AT_FDCWD as usize;
    let null = c"/dev/null".as_ptr() as usize;
    // SAFETY: all of these are system calls on numbers, on strings that live until the exec, and on locals of the right
    // layout; the descriptors and signal dispositions that they change are this process's own copies.
    unsafe {
        let step = |number: c_long, args: [usize; 4]| match call(number, args) {
            result @ ..0 => Err(c_int::try_from(-result).unwrap_or(libc::EIO)),
            value => Ok(value.cast_unsigned()),
        };
        let steps = || -> Result<(), c_int> {
            step(libc::SYS_setpgid, [0; 4])?;
            // As the kernel has it: handler, flags, restorer, mask. Zeros are the default.
            let default = [0_u64; 4];
            for signal in shared.altered {
                step(libc::SYS_rt_sigaction, [signal.cast_unsigned() as usize, default.as_ptr() as usize, 0, 8])?;
            }
            let at = |fd: usize, target: usize| if fd == target { Ok(0) } else { step(libc::SYS_dup3, [fd, target, 0, 0]) };
            let open = |name: usize, flags: c_int| step(libc::SYS_openat, [HERE, name, flags as usize, 0]);
            // Close-on-exec does not apply to the standard streams: a duplicate does not have the flag.
            let nothing = open(null, libc::O_RDWR | libc::O_CLOEXEC)?;
            at(nothing, 0)?;
            let again = match shared.reopen.is_null() {
                true => None,
                false => open(shared.reopen as usize, libc::O_RDWR | libc::O_CLOEXEC).ok(),
            };
            for (target, output) in [(1, shared.outputs[0]), (2, shared.outputs[1])] {
                let given = if output < 0 { nothing } else { output as usize };
                at(again.unwrap_or(given), target)?;
            }
            step(libc::SYS_chdir, [shared.cwd as usize, 0, 0, 0])?;
            let none = 0_u64;
            step(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, (&raw const none) as usize, 0, 8])?;
            step(libc::SYS_execve, [shared.path as usize, shared.argv as usize, shared.envp as usize, 0]).map(drop)
        };
        steps().err().unwrap_or(0)
    }
}

/// A system call without the C library: returns a negative errno, or its value.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: syscall(2), "Architecture calling conventions": the kernel changes rax, rcx and r11 alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call without the C library: returns a negative errno, or its value.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: syscall(2), "Architecture calling conventions": the kernel changes x0 alone.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::*;
    use crate::exec::processes::proc;

    #[test]
    fn the_start_time_of_a_child_is_that_of_the_kernel() {
        let mut known = 0;
        for _ in 0..50 {
            let program = Program {
                path: c"/bin/true".into(),
                argv: vec![c"true".into()],
                env: Environment::inherited(),
                cwd: c"/".into(),
            };
            let starting = start(program, [None; 2], false).map_err(|(error, _)| error).unwrap();
            if let Some(ticks) = starting.start_ticks {
                known += 1;
                assert_eq!(proc::start_ticks(starting.pid), Some(ticks));
            }
            drop(starting);
        }
        assert!(known > 0, "one in a hundred starts falls on the edge between two ticks, or somebody else had the processor");
    }
}
