//! The log of a run on disk: where its bytes are, and how they are read while they change.
//!
//! The first part of the output, the *head*, is in `logs/JOB/RUN.log`. What follows goes into numbered *segments* of equal size,
//! `segments/RUN/1` and so on; when one begins, those that the *tail* no longer needs are deleted. So a job that writes for ever
//! fills neither disk nor memory. The number of a segment says which bytes of the output are in it, so that a reader that falls
//! behind knows how many it has missed. When the run ends, the log is *joined* into `RUN.log`: head, a line with the number of
//! bytes that were cut, tail.
//!
//! * [`Layout`]: the sizes of the parts;
//! * [`LogPaths`]: the names of the files;
//! * `join`: joining, also after a crash in the middle of it, and removing;
//! * [`LogReader`]: reading by offset, for `ctl logs`, `history` and the web UI.
//!
//! The writer is [`exec::OutputSink`](crate::exec::OutputSink).

mod join;
mod layout;
mod paths;
mod reader;

pub use join::{Position, join, leftovers, position, recover, remove, remove_segments};
pub use layout::{Layout, mark};
pub use paths::{LogPaths, SEGMENTS};
pub use reader::{LogReader, Part, Read};
