//! The watch of a folder: a run for each new or changed file.
//!
//! inotify(7) tells what happens; nothing is polled and nothing wakes up while nothing happens. What it promises:
//!
//! * a file counts when it is closed after writing, moved in, or linked in, and is unseen or differs in size, time or
//!   inode from what was seen; it becomes seen only when the host says that its batch is in the store;
//! * each start reads the whole folder and compares it with what was seen, so that what came while the daemon was off
//!   is found; so does an overflow of the kernel's queue;
//! * a file that such a reading finds, rather than the kernel tells, may still be written to: it counts once it has not
//!   changed for [`YOUNG`];
//! * what could not be read is not taken as gone, so that it makes no second run once it can be read again;
//! * a folder that is not there yet, or is removed and made again, is waited for without polling.
//!
//! File systems that tell nothing (NFS, FUSE, some overlays) are read every `poll_interval`. Reading goes on in small
//! pieces, so that a folder of a million files does not hold up the reactor.

mod source;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Source;
use super::s3::Existing;
use super::watch::NameFilter;
use crate::model::format_duration;
use source::FileSource;

pub(super) use source::path_of;

/// How long a file must be unchanged that was found by reading a folder.
const YOUNG: Duration = Duration::from_secs(2);

/// What is watched, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileWatch {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// Its folders too, and theirs.
    pub recursive: bool,
    /// Which files make events.
    pub filter: Option<NameFilter>,
    /// How long a file must be unchanged before it counts.
    pub stable_for: Option<Duration>,
    /// Read the folder this often instead of listening to the kernel.
    pub poll_interval: Option<Duration>,
    /// What the first reading does with the files that it finds.
    pub existing: Existing,
    /// One event for all that was found at once.
    pub batch: bool,
}

impl FileWatch {
    pub(super) fn source(&self) -> Box<dyn Source> {
        Box::new(FileSource::new(self.clone()))
    }

    /// What is watched, for the store.
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
