//! posix_spawn(3), which shares the daemon's memory until exec instead of copying its page tables, but blocks the daemon until
//! then: for architectures and sandboxes without [`super::clone`].
//!
//! Not std's, which passes on the caller's signal mask, in which the daemon blocks the signals that end a job.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::plan::Program;

/// Starts it in a process group of its own, with stdin from `/dev/null`, no blocked and no ignored signals. All other
/// descriptors must be close-on-exec.
///
/// # Errors
/// The error of posix_spawn(3), or of the child's chdir(2) or execve(2).
pub(in crate::exec) fn spawn(program: &Program, outputs: [Option<BorrowedFd<'_>>; 2]) -> io::Result<i32> {
    let attributes = Attributes::new()?;
    let actions = Actions::new(program, outputs)?;
    let (argv, envp) = (program.argv(), program.envp());
    let mut pid = 0;
    // SAFETY: `path`, the strings behind `argv` and `envp` and what `actions` points to live until the call returns,
    // by which time the child has its own copy; both arrays end with a null; they are not written to, the `*mut` is
    // the C signature's.
    check_errno(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr().cast(),
            envp.as_ptr().cast(),
        )
    })?;
    Ok(pid)
}

/// These functions return their error instead of setting errno.
fn check_errno(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: this call makes the object that it is given.
        check_errno(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it succeeded.
        let mut this = Attributes(unsafe { raw.assume_init() });
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: the attributes were initialised above; the set is a local, made empty and full before it is read, and
        // copied by the calls that take it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            check_errno(libc::posix_spawnattr_setsigmask(&raw mut this.0, set.as_ptr()))?;
            libc::sigfillset(set.as_mut_ptr());
            check_errno(libc::posix_spawnattr_setsigdefault(&raw mut this.0, set.as_ptr()))?;
            check_errno(libc::posix_spawnattr_setpgroup(&raw mut this.0, 0))?;
            check_errno(libc::posix_spawnattr_setflags(
                &raw mut this.0,
                libc::c_short::try_from(flags).map_err(io::Error::other)?,
            ))?;
        }
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(program: &Program, outputs: [Option<BorrowedFd<'_>>; 2]) -> io::Result<Actions> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: this call makes the object that it is given.
        check_errno(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it succeeded.
        let mut this = Actions(unsafe { raw.assume_init() });
        let actions = &raw mut this.0;
        let null = c"/dev/null".as_ptr();
        // SAFETY: the actions were initialised above; the C library copies the paths; the descriptors are borrowed, so
        // they are open until `spawn` has returned.
        unsafe {
            check_errno(libc::posix_spawn_file_actions_addopen(actions, 0, null, libc::O_RDONLY, 0))?;
            for (number, output) in (1..).zip(outputs) {
                check_errno(match output {
                    Some(fd) => libc::posix_spawn_file_actions_adddup2(actions, fd.as_raw_fd(), number),
                    None => libc::posix_spawn_file_actions_addopen(actions, number, null, libc::O_WRONLY, 0),
                })?;
            }
            check_errno(libc::posix_spawn_file_actions_addchdir_np(actions, program.cwd.as_ptr()))?;
        }
        Ok(this)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::*;
    use std::ffi::{CStr, CString};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn program(line: &CStr, cwd: &CStr) -> Program {
        let argv = [c"sh", c"-c", line].map(CString::from).into();
        Program { path: c"/bin/sh".into(), argv, env: Environment::inherited(), cwd: cwd.into() }
    }

    #[test]
    fn it_starts_a_leader_of_a_group_with_its_outputs_and_directory() {
        let (mut reader, writer) = io::pipe().unwrap();
        let missing = program(c":", c"/no such directory");
        let program = program(
            c"pwd; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat; readlink /proc/$$/fd/0; exit 3",
            c"/usr",
        );
        let pid = spawn(&program, [Some(writer.as_fd()), None]).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["/usr", &pid.to_string(), "/dev/null"]);
        crate::exec::sys::wait_for_death(pid).unwrap();
        let refused = spawn(&missing, [None; 2]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
    }
}
