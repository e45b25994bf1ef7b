//! A directory on local file systems, opened without the helper process.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

/// Opens a directory ([`super::Answer::Located`]) as a path only. Its path has no links: one that has got a link since, which
/// may lead anywhere, is not followed. To be closed soon, since an open directory keeps its file system from being unmounted,
/// and inotify(7) from reporting that it was removed.
///
/// # Errors
/// Those of openat2(2): `ENOSYS` before Linux 5.6, `ELOOP` for a link.
pub fn open_local(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat2(AT_FDCWD, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS))
}

/// A path that leads to an open file and over nothing else (proc(5), magic links).
#[must_use]
pub fn path_of(fd: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string())
}
