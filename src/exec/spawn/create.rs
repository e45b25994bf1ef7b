//! Creating the child.
//!
//! By clone3(2) with the daemon's memory shared until exec, where the kernel has it (Linux 5.5): no page tables are copied, and
//! the daemon goes on while the child works through its [`Steps`]. Why that is sound:
//!
//! - the child runs on a stack of its own with a guard page and reads only what [`Steps`] points to; all of it lives until the
//!   pipe reports that the child has executed its program or is gone. The kernel closes the pipe's other end after it has
//!   released the memory: execve(2) changes memory before it closes descriptors, and so does exit;
//! - the child makes system calls directly, and writes only to its report and its buffers;
//! - no signal handler runs in it (`CLONE_CLEAR_SIGHAND`);
//! - once it has the credentials of another user, the kernel makes the memory undumpable, so that no process of that user may
//!   attach to it (ptrace(2), "Ptrace access mode checking").
//!
//! Else by fork(2): the same child, on a copy of the memory. That is so in sandboxes that forbid clone3, on other
//! architectures, and if the job's OOM score has to be set: the kernel sets it for all that share the memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::libc;
use nix::unistd::{ForkResult, fork};

use super::memory::Slot;
use super::steps::{self, Steps};

/// A new process.
#[derive(Debug)]
pub(super) struct Created {
    pub pid: i32,
    /// Where the kernel has made one.
    pub pidfd: Option<OwnedFd>,
}

/// What clone3 has turned out to support.
static SUPPORT: AtomicU8 = AtomicU8::new(INTO_CGROUP);
const NONE: u8 = 0;
const CLONE3: u8 = 1;
const INTO_CGROUP: u8 = 2;

/// Creates a child that works through the steps. `cgroup` is the directory of the control group that it is to be in. It shares
/// the daemon's memory if `may_share_memory` and the kernel allow that.
///
/// # Errors
/// What clone3(2) or fork(2) said.
///
/// # Safety
/// All that `steps` points to, `steps` itself and the slot must live until the child has executed its program or is gone.
pub(super) unsafe fn create(
    steps: &mut Steps,
    slot: &Slot,
    cgroup: Option<BorrowedFd<'_>>,
    may_share_memory: bool,
) -> io::Result<Created> {
    let group = cgroup.map_or(-1, |directory| directory.as_raw_fd());
    while may_share_memory && !steps.resets_oom_score && arch::HAS_CLONE3 {
        let support = SUPPORT.load(Ordering::Relaxed);
        if support == NONE {
            break;
        }
        let at_once = group >= 0 && support == INTO_CGROUP;
        steps.cgroup = if at_once { -1 } else { group };
        // SAFETY: the caller's.
        match unsafe { arch::clone3(steps, slot, at_once.then_some(group)) } {
            Ok(created) => return Ok(created),
            // The last is what sandboxes answer that do not know the call.
            Err(libc::ENOSYS | libc::EPERM) => SUPPORT.store(NONE, Ordering::Relaxed),
            // Flags that this kernel does not know.
            Err(libc::EINVAL | libc::E2BIG) if at_once => SUPPORT.store(CLONE3, Ordering::Relaxed),
            Err(libc::EINVAL | libc::E2BIG) => SUPPORT.store(NONE, Ordering::Relaxed),
            Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    steps.cgroup = group;
    // SAFETY: the child makes system calls and nothing else until its exec.
    match unsafe { fork() }? {
        // SAFETY: the caller's; this is the new process.
        ForkResult::Child => unsafe { steps::child(steps) },
        ForkResult::Parent { child } => Ok(Created { pid: child.as_raw(), pidfd: None }),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod arch {
    use std::os::fd::{FromRawFd, OwnedFd};

    use nix::libc::{self, c_int};

    use super::super::memory::Slot;
    use super::super::steps::{self, Steps};
    use super::Created;

    pub(super) const HAS_CLONE3: bool = true;

    /// Linux 5.5 and 5.7 (linux/sched.h).
    const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
    const CLONE_INTO_CGROUP: u64 = 1 << 33;

    /// # Safety
    /// As [`super::create`].
    pub(super) unsafe fn clone3(steps: &Steps, slot: &Slot, cgroup: Option<c_int>) -> Result<Created, c_int> {
        let mut pidfd: c_int = -1;
        let (stack, stack_size) = slot.stack();
        // SAFETY: zeros are valid for this struct of integers.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = u64::from((libc::CLONE_VM | libc::CLONE_PIDFD).cast_unsigned()) | CLONE_CLEAR_SIGHAND;
        arguments.pidfd = (&raw mut pidfd) as u64;
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        arguments.stack = stack as u64;
        arguments.stack_size = stack_size as u64;
        if let Some(directory) = cgroup {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = u64::try_from(directory).unwrap_or(0);
        }
        // SAFETY: the child begins on its own stack, whose end is aligned to a page, with a call of `child`, which never
        // returns; the caller keeps alive what it reads.
        let result = unsafe { call(&arguments, steps::child, steps) };
        match c_int::try_from(result) {
            Ok(pid) if pid > 0 => {
                // SAFETY: the kernel has just created this descriptor for us.
                let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
                Ok(Created { pid, pidfd })
            }
            Ok(errno) => Err(-errno),
            Err(_) => Err(libc::EIO),
        }
    }

    type Entry = unsafe extern "C" fn(*const Steps) -> !;

    /// clone3(2): in the parent a pid or a negative errno; the child calls `entry`.
    ///
    /// # Safety
    /// As [`super::create`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn call(arguments: &libc::clone_args, entry: Entry, steps: *const Steps) -> isize {
        let result: isize;
        // SAFETY: syscall(2): the kernel changes rax, rcx and r11 alone. The child gets the other registers as they are here;
        // its stack is aligned for a call, and the frame pointer 0 ends it for debuggers.
        unsafe {
            std::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, {steps}",
                "call {entry}",
                "ud2",
                "2:",
                steps = in(reg) steps,
                entry = in(reg) entry,
                inlateout("rax") libc::SYS_clone3 as isize => result,
                in("rdi") std::ptr::from_ref(arguments),
                in("rsi") size_of::<libc::clone_args>(),
                out("rcx") _, out("r11") _,
            );
        }
        result
    }

    /// clone3(2): in the parent a pid or a negative errno; the child calls `entry`.
    ///
    /// # Safety
    /// As [`super::create`].
    #[cfg(target_arch = "aarch64")]
    unsafe fn call(arguments: &libc::clone_args, entry: Entry, steps: *const Steps) -> isize {
        let result: isize;
        // SAFETY: syscall(2): the kernel changes x0 alone. The child gets the other registers as they are here; its stack is
        // aligned for a call, and the frame pointer 0 ends it for debuggers.
        unsafe {
            std::arch::asm!(
                "svc 0",
                "cbnz x0, 2f",
                "mov x29, xzr",
                "mov x0, {steps}",
                "blr {entry}",
                "brk 1",
                "2:",
                steps = in(reg) steps,
                entry = in(reg) entry,
                in("x8") libc::SYS_clone3,
                inlateout("x0") std::ptr::from_ref(arguments) as isize => result,
                in("x1") size_of::<libc::clone_args>(),
            );
        }
        result
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    use nix::libc::c_int;

    use super::super::memory::Slot;
    use super::super::steps::Steps;
    use super::Created;

    pub(super) const HAS_CLONE3: bool = false;

    pub(super) unsafe fn clone3(_: &Steps, _: &Slot, _: Option<c_int>) -> Result<Created, c_int> {
        Err(nix::libc::ENOSYS)
    }
}
