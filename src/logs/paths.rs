//! The names of a log's files.

use std::path::{Path, PathBuf};

use crate::model::RunId;

/// The directory below the state directory that has a directory of segments for each run whose log is past its head.
pub const SEGMENTS: &str = "segments";

/// The files of a run's log, below the state directory or as absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPaths {
    /// The head, and once the run has ended the whole log. It exists only if there was output.
    pub log: PathBuf,
    /// The directory of what follows the head while the run is active, in files named 1, 2 and so on.
    pub segments: PathBuf,
}

impl LogPaths {
    /// Below the state directory.
    #[must_use]
    pub fn of_run(job: &str, run: RunId) -> LogPaths {
        LogPaths {
            log: Path::new("logs").join(job).join(format!("{run}.log")),
            segments: Path::new(SEGMENTS).join(run.to_string()),
        }
    }

    /// Of a run in this state directory.
    #[must_use]
    pub fn within(state_dir: &Path, job: &str, run: RunId) -> LogPaths {
        let names = LogPaths::of_run(job, run);
        LogPaths { log: state_dir.join(names.log), segments: state_dir.join(names.segments) }
    }

    /// The file of a segment.
    #[must_use]
    pub fn segment(&self, number: u64) -> PathBuf {
        self.segments.join(number.to_string())
    }

    /// The file that exists while the log is being joined.
    #[must_use]
    pub(super) fn joining(&self) -> PathBuf {
        self.segments.join("joining")
    }
}
