//! The system calls that neither std nor nix has a safe face for.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;

/// What a child does between fork and exec, besides what [`Command`] does itself. Numbers only, so that nothing is
/// looked up or allocated there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChildSettings {
    pub umask: Option<libc::mode_t>,
    pub nice: Option<libc::c_int>,
    pub memory: Option<libc::rlim_t>,
    pub pids: Option<libc::rlim_t>,
    pub cpu_secs: Option<libc::rlim_t>,
    pub open_files: Option<libc::rlim_t>,
}

/// pidfd_open(2): a descriptor that becomes readable when the process ends. Close-on-exec by definition.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// True if this kernel has pidfd_open(2) (Linux 5.3).
#[must_use]
pub fn has_pidfd() -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or(1);
    pidfd_open(me).is_ok()
}

/// Children whose parent ends come to this process instead of init (prctl(2), `PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// What prctl(2) said.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this option takes an integer and touches no memory of ours.
    let code = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) };
    Errno::result(code).map(drop).map_err(Into::into)
}

/// Has the child apply the settings before exec. A setting makes std take fork and exec instead of posix_spawn, so
/// without any this does nothing.
pub(super) fn apply_in_child(command: &mut Command, settings: ChildSettings) {
    if settings == ChildSettings::default() {
        return;
    }
    // SAFETY: between fork and exec only async-signal-safe functions may be called (signal-safety(7)): umask,
    // setrlimit and nice are plain system calls, and the closure allocates nothing and owns only numbers.
    unsafe {
        command.pre_exec(move || {
            if let Some(mask) = settings.umask {
                libc::umask(mask);
            }
            limit(libc::RLIMIT_AS, settings.memory)?;
            limit(libc::RLIMIT_NPROC, settings.pids)?;
            limit(libc::RLIMIT_CPU, settings.cpu_secs)?;
            limit(libc::RLIMIT_NOFILE, settings.open_files)?;
            if let Some(nice) = settings.nice {
                // -1 is a niceness too, so only errno tells an error.
                Errno::clear();
                if libc::nice(nice) == -1 && Errno::last_raw() != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

fn limit(resource: libc::__rlimit_resource_t, value: Option<libc::rlim_t>) -> io::Result<()> {
    let Some(value) = value else { return Ok(()) };
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a local that outlives the call.
    let code = unsafe { libc::setrlimit(resource, &raw const limit) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the child become another account: groups first, the user last, because each step needs the rights that the next
/// gives up. Not through `Command::uid`, which drops all supplementary groups and comes before this closure could set
/// them.
pub(super) fn become_account(
    command: &mut Command,
    uid: Option<libc::uid_t>,
    gid: Option<libc::gid_t>,
    groups: Option<Vec<libc::gid_t>>,
) {
    // SAFETY: setgroups, setgid and setuid are plain system calls in a process with one thread (which the child of a
    // fork is), hence async-signal-safe here; the list was made before the fork and is only read.
    unsafe {
        command.pre_exec(move || {
            let check = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
            if let Some(groups) = &groups {
                check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            }
            gid.map_or(Ok(()), |gid| check(libc::setgid(gid)))?;
            uid.map_or(Ok(()), |uid| check(libc::setuid(uid)))
        });
    }
}
