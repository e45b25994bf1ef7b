//! An event's payload on its way to the job: a variable, or a file where it is too large for one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::RunId;

/// The largest payload that goes into the environment. One string may have 128 KiB (`MAX_ARG_STRLEN`, execve(2)), and
/// all of them together a quarter of the stack's limit; half of the first leaves room for the rest.
const INLINE_LIMIT: usize = 64 * 1024;

/// How a payload is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventDelivery {
    /// In `FIRELINK_EVENT`.
    Inline,
    /// In the file that `FIRELINK_EVENT_FILE` names; for the caller to remove after the run.
    File(PathBuf),
}

/// Decides, and writes the file if need be (mode 0600, in `dir`, which is made with 0700).
///
/// # Errors
/// When the file can't be written.
pub fn deliver_event(event: &str, dir: &Path, run: RunId) -> io::Result<EventDelivery> {
    if event.len() <= INLINE_LIMIT {
        return Ok(EventDelivery::Inline);
    }
    let path = event_path(dir, run);
    let written = write_private(&path, dir, event.as_bytes());
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("the event's payload can't be written to {}: {error}", path.display()))
    })?;
    Ok(EventDelivery::File(path))
}

/// Where a large payload is.
#[must_use]
pub fn event_path(dir: &Path, run: RunId) -> PathBuf {
    dir.join(format!("{run}.json"))
}

fn write_private(path: &Path, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_payload_is_a_variable_and_a_large_one_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events");
        assert_eq!(deliver_event("{}", &events, RunId(1)).unwrap(), EventDelivery::Inline);
        let large = "x".repeat(INLINE_LIMIT + 1);
        let EventDelivery::File(path) = deliver_event(&large, &events, RunId(2)).unwrap() else { panic!("inline") };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), large);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
