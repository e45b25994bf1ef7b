//! System calls without the C library.
//!
//! A child that shares the daemon's memory must not call the C library, whose `errno` and locks it would share. On
//! architectures without an implementation here such a child is never made (see `create`): the child of a fork has its own
//! copy of the C library's state.

use nix::libc::{self, c_long};

/// The numbers of calls whose first version took 16-bit ids on some 32-bit architectures.
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
pub(super) mod ids {
    use nix::libc::{self, c_long};
    pub(in crate::exec::spawn) const SETGROUPS: c_long = libc::SYS_setgroups32;
    pub(in crate::exec::spawn) const SETGID: c_long = libc::SYS_setgid32;
    pub(in crate::exec::spawn) const SETUID: c_long = libc::SYS_setuid32;
}

/// The numbers of calls whose first version took 16-bit ids on some 32-bit architectures.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
pub(super) mod ids {
    use nix::libc::{self, c_long};
    pub(in crate::exec::spawn) const SETGROUPS: c_long = libc::SYS_setgroups;
    pub(in crate::exec::spawn) const SETGID: c_long = libc::SYS_setgid;
    pub(in crate::exec::spawn) const SETUID: c_long = libc::SYS_setuid;
}

/// Makes a system call: its value, or the errno.
///
/// # Safety
/// As the call itself.
///
/// # Errors
/// The errno.
pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> Result<usize, i32> {
    // SAFETY: the caller's.
    let result = unsafe { raw(number, args) };
    match result {
        // The kernel returns errors as -4095..0; addresses of mmap(2), which is not called here, would be above.
        -4095..=-1 => Err(i32::try_from(-result).unwrap_or(libc::EIO)),
        value => Ok(value.cast_unsigned()),
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: syscall(2), "Architecture calling conventions": the kernel changes rax, rcx and r11 alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: syscall(2), "Architecture calling conventions": the kernel changes x0 alone.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    // SAFETY: the caller's. `errno` is this process's own: it is the child of a fork.
    match unsafe { libc::syscall(number, a, b, c, d, e) } {
        -1 => -(nix::errno::Errno::last_raw() as isize),
        value => value as isize,
    }
}
