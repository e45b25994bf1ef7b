//! Passing an event's payload to a job: by a variable, or by a file if it is too large for one.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use super::spawn;
use super::spec::ExecSpec;
use crate::files::Dir;
use crate::model::RunId;

/// The directory of large payloads, in the state directory.
const DIRECTORY: &str = "events";

/// The largest payload in the environment, in bytes. One string may have 128 KiB (`MAX_ARG_STRLEN`, execve(2)), and all of them
/// together a quarter of the stack limit; half of the former leaves room for others.
const INLINE_LIMIT: usize = 64 * 1024;

/// How a payload is passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventDelivery {
    /// In `FIRELINK_EVENT`.
    Inline,
    /// In the file that `FIRELINK_EVENT_FILE` names; the caller removes it after the run.
    File(PathBuf),
}

/// Chooses, and writes the file if needed: mode 0600, owned by the user of the job's processes. Its directory, which is in the
/// state directory, can be passed through by another user then, but not listed.
///
/// # Errors
/// When the file can't be written.
pub fn deliver_event(event: &str, state: &Dir, run: RunId, exec: &ExecSpec) -> io::Result<EventDelivery> {
    if event.len() <= INLINE_LIMIT {
        return Ok(EventDelivery::Inline);
    }
    let owner = spawn::owner_of(exec).map_err(io::Error::other)?;
    let path = event_path(state, run);
    let written = write_private(state, &name(run), event.as_bytes(), owner);
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("the event's payload can't be written to {}: {error}", path.display()))
    })?;
    Ok(EventDelivery::File(path))
}

/// The file of a large payload.
#[must_use]
pub fn event_path(state: &Dir, run: RunId) -> PathBuf {
    state.path().join(name(run))
}

fn name(run: RunId) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{run}.json"))
}

fn write_private(state: &Dir, name: &Path, bytes: &[u8], owner: Option<(u32, Option<u32>)>) -> io::Result<()> {
    // That of an earlier attempt belongs to the job, which may have made anything of it.
    state.remove_file(name)?;
    let mut file = state.open_file_in_dirs(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
    file.write_all(bytes)?;
    if let Some((uid, gid)) = owner {
        let passable = Mode::S_IRWXU | Mode::S_IXGRP | Mode::S_IXOTH;
        fchmodat(state.as_fd(), DIRECTORY, passable, FchmodatFlags::FollowSymlink)?;
        fchown(&file, Some(uid), gid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_payload_is_passed_inline_and_a_large_one_in_a_private_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (state, exec) = (Dir::open(dir.path()).unwrap(), ExecSpec::default());
        assert_eq!(deliver_event("{}", &state, RunId(1), &exec).unwrap(), EventDelivery::Inline);
        let large = "x".repeat(INLINE_LIMIT + 1);
        let EventDelivery::File(path) = deliver_event(&large, &state, RunId(2), &exec).unwrap() else { panic!("inline") };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), large);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
