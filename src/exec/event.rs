//! Passing an event's payload to a job: by a variable, or by a file if it is too large for one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::model::RunId;

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

/// Chooses, and writes the file if needed: mode 0600, owned by `owner` (uid and gid) if that is not the daemon's user, in `dir`,
/// which others can pass through for such a file, but not list.
///
/// # Errors
/// When the file can't be written.
pub fn deliver_event(event: &str, dir: &Path, run: RunId, owner: Option<(u32, Option<u32>)>) -> io::Result<EventDelivery> {
    if event.len() <= INLINE_LIMIT {
        return Ok(EventDelivery::Inline);
    }
    let path = event_path(dir, run);
    let written = write_private(&path, dir, event.as_bytes(), owner);
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("the event's payload can't be written to {}: {error}", path.display()))
    })?;
    Ok(EventDelivery::File(path))
}

/// The file of a large payload.
#[must_use]
pub fn event_path(dir: &Path, run: RunId) -> PathBuf {
    dir.join(format!("{run}.json"))
}

/// True if this payload is passed by a file.
#[must_use]
pub fn needs_file(event: &str) -> bool {
    event.len() > INLINE_LIMIT
}

fn write_private(path: &Path, dir: &Path, bytes: &[u8], owner: Option<(u32, Option<u32>)>) -> io::Result<()> {
    let mode = if owner.is_some() { 0o711 } else { 0o700 };
    std::fs::DirBuilder::new().mode(mode).recursive(true).create(dir)?;
    // That of an earlier attempt belongs to the job, which may have made anything of it.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if let Some((uid, gid)) = owner {
        for directory in [Some(dir), dir.parent()].into_iter().flatten() {
            let now = std::fs::metadata(directory)?.permissions();
            if now.mode() & 0o011 != 0o011 {
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(now.mode() | 0o011))?;
            }
        }
        fchown(&file, Some(uid), gid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_payload_is_passed_inline_and_a_large_one_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events");
        assert_eq!(deliver_event("{}", &events, RunId(1), None).unwrap(), EventDelivery::Inline);
        let large = "x".repeat(INLINE_LIMIT + 1);
        let EventDelivery::File(path) = deliver_event(&large, &events, RunId(2), None).unwrap() else { panic!("inline") };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), large);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
