//! The daemon's own replacement by another version of its program.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::sockets;

/// The path of the running program, as it is named now: an upgrade puts a newer one there.
pub(super) fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// The option that a daemon which has detached hands on instead of `--detach`: it has its session, and its pid stays.
const DETACHED: &str = "--detached";

/// Becomes this program, with the arguments with which the daemon was called and its environment, in which this variable is set.
/// Returns only if that fails.
#[must_use]
pub fn exec(program: &Path, variable: Option<(&'static str, String)>) -> std::io::Error {
    let nul = |_| std::io::Error::other("an argument or a variable contains a NUL byte");
    sockets::pass_on();
    let called = std::env::args_os().map(|arg| if arg == "--detach" { DETACHED.into() } else { arg });
    let args: Result<Vec<CString>, _> = called.map(|arg| CString::new(arg.as_bytes()).map_err(nul)).collect();
    let is_other = |name: &OsString| variable.as_ref().is_none_or(|(set, _)| name != set);
    let inherited = std::env::vars_os().filter(|(name, _)| is_other(name));
    let set = variable.clone().map(|(name, value)| (name.into(), value.into()));
    let entry =
        |(name, value): (OsString, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).map_err(nul);
    let variables: Result<Vec<CString>, _> = inherited.chain(set).map(entry).collect();
    match (CString::new(program.as_os_str().as_bytes()).map_err(nul), args, variables) {
        (Ok(path), Ok(args), Ok(variables)) => match nix::unistd::execve(&path, &args, &variables) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => error,
    }
}
