//! The daemon's own replacement by another version of its program.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::sockets;

/// The path of the running program, as it is named now: an upgrade puts a newer one there.
pub(super) fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// The option that a daemon which has detached hands on instead of `--detach`: it has its session, and its pid stays.
const DETACHED: &str = "--detached";

/// Becomes this program, with the arguments with which the daemon was called. Returns only if that fails.
#[must_use]
pub fn exec(program: &Path) -> std::io::Error {
    let nul = |_| std::io::Error::other("an argument contains a NUL byte");
    sockets::pass_on();
    let called = std::env::args_os().map(|arg| if arg == "--detach" { DETACHED.into() } else { arg });
    let args: Result<Vec<CString>, _> = called.map(|arg| CString::new(arg.as_bytes()).map_err(nul)).collect();
    match (CString::new(program.as_os_str().as_bytes()).map_err(nul), args) {
        (Ok(path), Ok(args)) => match nix::unistd::execv(&path, &args) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        (Err(error), _) | (_, Err(error)) => error,
    }
}
