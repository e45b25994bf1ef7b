//! The watch of a folder: a run for each new or changed file.
//!
//! | file | subject |
//! | --- | --- |
//! | `keys` | how the watch is read from its keys |
//! | `source` | the state of each file, from its appearance to its run |
//! | `inotify` | events of the kernel |
//! | `walk` | a scan: which directories are left |
//! | `near` | a folder whose calls can't hang, looked at here |
//! | `looks` | files that the helper process is to look at |
//! | `event` | the payload of a file's event |
//!
//! inotify(7) reports changes; nothing is polled, and nothing wakes up while nothing changes. Guarantees:
//!
//! * a file is ready when it is closed after writing, moved in, or linked in, and is unseen or differs in size, time or
//!   inode from what was seen; it becomes seen only when the host says that its batch is in the store;
//! * each start scans the whole folder and compares it with the seen-set, so that files which came while the daemon was off
//!   are found; so does an overflow of the kernel's queue;
//! * a file found by a scan, not by inotify, may still be written to: it is ready once it has not changed for
//!   [`MIN_UNCHANGED`];
//! * files that could not be read do not count as gone, so that they make no second run once they can be read again;
//! * a folder that does not exist yet, or is removed and created again, is waited for without polling.
//!
//! A call on a path may hang: on NFS or FUSE, if nobody answers there. The helper process ([`crate::helper`]) says where the
//! folder is. If only local file systems lead to it, this source looks at it itself, and leaves what is below another mount or
//! behind a link to one to the helper; any other folder it leaves to the helper as a whole. When something is mounted, the
//! helper is asked again before anything else is done. What hangs is a warning, and is tried again later, with increasing delays.
//!
//! File systems without inotify (NFS, FUSE, some overlays) are scanned every `poll_interval`. Scans proceed in small steps,
//! so that a folder of a million files does not hold up the reactor.

mod event;
mod inotify;
pub(super) mod keys;
mod looks;
mod near;
mod source;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Source;
use super::watch::{Existing, NameFilter};
use crate::model::format_duration;
use source::FileSource;

pub(super) use event::path_of;

/// How long a file that a scan has found must be unchanged.
const MIN_UNCHANGED: Duration = Duration::from_secs(2);

/// One watch of a folder, as configured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileWatch {
    /// An absolute path.
    pub folder: PathBuf,
    /// Directories below it too.
    pub recursive: bool,
    /// Which files make events.
    pub filter: Option<NameFilter>,
    /// How long a file must be unchanged before it is ready.
    pub stable_for: Option<Duration>,
    /// Scan this often instead of using inotify.
    pub poll_interval: Option<Duration>,
    /// What the first scan does with the files that it finds.
    pub existing: Existing,
    /// One event for all files found at once.
    pub batch: bool,
}

impl FileWatch {
    pub(super) fn source(&self) -> Box<dyn Source> {
        Box::new(FileSource::new(self.clone()))
    }

    /// Identifies the folder in the store.
    fn identity(&self) -> String {
        format!("file:{}{}", self.folder.display(), if self.recursive { ":recursive" } else { "" })
    }
}

impl fmt::Display for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.display())?;
        if self.recursive {
            f.write_str(" recursive")?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " filter {}", filter.as_str())?;
        }
        if let Some(period) = self.stable_for {
            write!(f, " stable for {}", format_duration(period))?;
        }
        if let Some(interval) = self.poll_interval {
            write!(f, " every {}", format_duration(interval))?;
        }
        if self.existing == Existing::Process {
            f.write_str(" existing process")?;
        }
        if self.batch { f.write_str(" batch") } else { Ok(()) }
    }
}
