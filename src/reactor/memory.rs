//! What reading a configuration leaves in the allocator's free lists, a daemon that sleeps for days should not keep.

/// Gives free memory back to the kernel where the C library holds on to it (malloc_trim(3), glibc); musl does not.
pub(super) fn give_back() {
    // SAFETY: it takes a number, and only touches what the allocator itself has marked as free.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        nix::libc::malloc_trim(0)
    };
}
