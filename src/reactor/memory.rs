//! Releases memory that only the start needed and a daemon that sleeps for days should not keep.

/// Releases free memory that the C library holds on to (malloc_trim(3), glibc); musl does not.
pub(super) fn trim() {
    // SAFETY: it takes a number, and only touches what the allocator itself has marked as free.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        nix::libc::malloc_trim(0)
    };
}
