//! Reading a file, if its owner and mode allow to trust it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::render::{render, render_unread};
use super::source::Source;
use super::{Diagnostic, Severity, Surroundings};
use crate::model::format_size;
use crate::triggers::Place;

/// The largest configuration in bytes: 10,000 jobs with every key set are 5 MB.
pub const LARGEST_FILE: u64 = 16 << 20;

/// Reads a UTF-8 file of at most [`LARGEST_FILE`] which, for root, nobody else may write.
pub(super) fn read(path: &Path, surroundings: &Surroundings) -> Result<String, Box<Diagnostic>> {
    let refuse = |message: String, help: &str| Err(unread(path, message, help));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "name the configuration's file, or write one: examples/quickstart.yaml is a start"
                }
                std::io::ErrorKind::PermissionDenied => "make it readable for the user who runs firelink",
                _ => "check the file, its directory and the disk",
            };
            return refuse(format!("the configuration can't be read: {error}"), help);
        }
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => {
            return refuse(format!("the configuration can't be read: {error}"), "check the file and the disk");
        }
    };
    if meta.is_dir() {
        return refuse("this is a directory, not a configuration".into(), "name the file in it");
    }
    if surroundings.is_root()
        && let Some(who) = writable_by(meta.uid(), meta.mode())
    {
        let message = format!("this file is writable by {who}, and its commands would run as root");
        return refuse(message, "run `chown root` and `chmod go-w` on it");
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(LARGEST_FILE)).unwrap_or(0));
    match file.take(LARGEST_FILE + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 > LARGEST_FILE => {
            return refuse(
                format!("the file is larger than {}", format_size(LARGEST_FILE)),
                "split the jobs over several daemons, each with a file",
            );
        }
        Ok(_) => {}
        Err(error) => {
            return refuse(format!("the configuration can't be read: {error}"), "check the file and the disk");
        }
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        not_text(path, &String::from_utf8_lossy(&error.as_bytes()[..valid]))
    })
}

/// Who besides root may write a file with this owner and mode.
fn writable_by(owner: u32, mode: u32) -> Option<&'static str> {
    match () {
        () if owner != 0 => Some("its owner, who is not root"),
        () if mode & 0o002 != 0 => Some("everybody"),
        () if mode & 0o020 != 0 => Some("its group"),
        () => None,
    }
}

pub(super) fn unread(path: &Path, message: String, help: &str) -> Box<Diagnostic> {
    let rendered = render_unread(path, &message, help);
    let help = help.to_owned();
    Box::new(Diagnostic { severity: Severity::Error, file: path.to_owned(), line: 0, column: 0, message, help, rendered })
}

/// Points behind the last valid byte.
fn not_text(path: &Path, valid: &str) -> Box<Diagnostic> {
    let source = Source::new(path, valid);
    let place = Place { start: valid.len(), end: valid.len() };
    let position = source.position(place.start);
    let message = "the file is not UTF-8 from here on".to_owned();
    let help = "save it as UTF-8".to_owned();
    let rendered = render(&source, Severity::Error, place, &message, &help, None);
    let (line, column) = (position.line, position.column);
    Box::new(Diagnostic { severity: Severity::Error, file: path.to_owned(), line, column, message, help, rendered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn here(uid: u32) -> Surroundings {
        Surroundings { start_dir: "/".into(), machine_seed: 0, uid }
    }

    fn message(path: &Path, uid: u32) -> String {
        read(path, &here(uid)).expect_err("refused").message
    }

    #[test]
    fn what_can_not_be_a_configuration_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(&dir.path().join("none.yaml"), 1).contains("No such file"));
        assert_eq!(message(dir.path(), 1), "this is a directory, not a configuration");
        let path = dir.path().join("f.yaml");
        std::fs::write(&path, b"jobs:\n  - name: caf\xe9\n").unwrap();
        let refused = read(&path, &here(1)).expect_err("no UTF-8");
        assert_eq!((refused.line, refused.column), (2, 14));
        File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        assert_eq!(message(&path, 1), "the file is larger than 16MiB");
    }

    #[test]
    fn root_refuses_a_file_that_others_may_write() {
        assert_eq!(writable_by(0, 0o100_644), None);
        assert_eq!(writable_by(0, 0o100_664), Some("its group"));
        assert_eq!(writable_by(0, 0o100_646), Some("everybody"));
        assert_eq!(writable_by(1000, 0o100_644), Some("its owner, who is not root"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.yaml");
        std::fs::write(&path, "jobs: []").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(message(&path, 0).contains("this file is writable by"));
        assert!(read(&path, &here(1000)).is_ok());
    }
}
