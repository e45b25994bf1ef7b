//! Joining a log into one file when its run has ended; what a crash leaves in the middle of that; removing logs.
//!
//! A join does not change what the log says, whenever it is interrupted:
//!
//! 1. the file `joining` is made, with the sizes of head and output;
//! 2. mark and tail are appended to the head, in order, so that the file's size says whether that is complete;
//! 3. the segments are deleted, then `joining`, then their directory.
//!
//! Until step 3 a reader takes what follows the head from the segments, and from then on from the file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use nix::fcntl::OFlag;

use super::layout::{Layout, mark};
use super::paths::{LogPaths, SEGMENTS};
use crate::files::Dir;
use crate::model::RunId;

/// Where the output of a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sizes of the log's parts.
    pub layout: Layout,
    /// The bytes of the output so far, cut ones included.
    pub total: u64,
    /// The oldest segment that exists; `None` if there is none.
    pub oldest: Option<u64>,
}

/// The numbers among these names of files, which are those of segments.
pub(super) fn numbers<'n>(names: impl IntoIterator<Item = &'n std::ffi::OsStr>) -> Vec<u64> {
    names.into_iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// The contents of the file `joining`: the layout and the size of the output. `None` while they are not complete, when nothing
/// else has been changed yet.
pub(super) fn parse_joining(text: &str) -> Option<(Layout, u64)> {
    let (head, total) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((Layout::of_head(head.parse().ok()?), total.parse().ok()?))
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_joining(dir: &Dir, paths: &LogPaths) -> io::Result<Option<(Layout, u64)>> {
    let Some(mut file) = optional(dir.open_file(paths.joining(), OFlag::O_RDONLY))? else { return Ok(None) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(parse_joining(&text))
}

/// Where the log of an earlier daemon goes on; `None` if there was no output. A log without segments gets `layout`, or one whose
/// head is all that there is.
///
/// # Errors
/// Those of the file system.
pub fn position(dir: &Dir, paths: &LogPaths, layout: Layout) -> io::Result<Option<Position>> {
    if read_joining(dir, paths)?.is_some() {
        recover(dir, paths)?;
    }
    let Some(size) = size_of(dir, &paths.log)? else {
        remove_segments(dir, paths)?;
        return Ok(None);
    };
    let found = numbers(dir.names(&paths.segments)?.iter().map(|name| &**name));
    let (Some(oldest), Some(newest)) = (found.iter().copied().min(), found.iter().copied().max()) else {
        let layout = if size > layout.head() { Layout::of_head(size) } else { layout };
        return Ok(Some(Position { layout, total: size, oldest: None }));
    };
    let layout = Layout::of_head(size);
    let total = layout.start_of(newest) + size_of(dir, &paths.segment(newest))?.unwrap_or(0);
    Ok(Some(Position { layout, total, oldest: Some(oldest) }))
}

fn size_of(dir: &Dir, name: &Path) -> io::Result<Option<u64>> {
    Ok(dir.stat_of(name)?.map(|stat| u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Joins the log of a run that has ended.
///
/// # Errors
/// Those of the file system, for example a full disk. The log can be read as before then, and [`recover`] tries again.
pub fn join(dir: &Dir, paths: &LogPaths, layout: Layout, total: u64) -> io::Result<()> {
    if total > layout.head() {
        let written = dir
            .open_file(paths.joining(), OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)
            .and_then(|mut file| file.write_all(format!("{} {total}\n", layout.head()).as_bytes()));
        let log = written.and_then(|()| dir.open_file(&paths.log, OFlag::O_RDWR));
        let joined = log.and_then(|log| {
            if log.metadata()?.len() == layout.joined_size(total) {
                return Ok(());
            }
            let appended = append_tail(dir, paths, &log, layout, total);
            if appended.is_err() {
                // What was appended is in the segments, too, and may be what fills the disk.
                log.set_len(layout.head())?;
            }
            appended
        });
        if joined.is_err() {
            dir.remove_file(paths.joining())?;
            return joined;
        }
    }
    remove_segments(dir, paths)
}

fn append_tail(dir: &Dir, paths: &LogPaths, mut log: &File, layout: Layout, total: u64) -> io::Result<()> {
    log.set_len(layout.head())?;
    log.seek(SeekFrom::Start(layout.head()))?;
    let cut = layout.cut(total);
    if cut > 0 {
        log.write_all(mark(cut).as_bytes())?;
    }
    let mut at = layout.head() + cut;
    while at < total {
        let number = layout.segment_of(at);
        let mut segment = dir.open_file(paths.segment(number), OFlag::O_RDONLY)?;
        segment.seek(SeekFrom::Start(at - layout.start_of(number)))?;
        let end = layout.start_of(number + 1).min(total);
        // By copy_file_range(2), where the file system has it.
        if io::copy(&mut segment.take(end - at), &mut log)? != end - at {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a segment is shorter than it was"));
        }
        at = end;
    }
    Ok(())
}

/// Joins the log of a run that has ended under an earlier daemon, which may have begun to; a log without segments stays as it is.
///
/// # Errors
/// As of [`join`].
pub fn recover(dir: &Dir, paths: &LogPaths) -> io::Result<()> {
    if let Some((layout, total)) = read_joining(dir, paths)? {
        return join(dir, paths, layout, total);
    }
    let found = numbers(dir.names(&paths.segments)?.iter().map(|name| &**name));
    match (size_of(dir, &paths.log)?, found.into_iter().max()) {
        (Some(head), Some(newest)) => {
            let layout = Layout::of_head(head);
            let total = layout.start_of(newest) + size_of(dir, &paths.segment(newest))?.unwrap_or(0);
            join(dir, paths, layout, total)
        }
        _ => remove_segments(dir, paths),
    }
}

/// Removes the segments of a log, and their directory.
///
/// # Errors
/// Those of the file system; it is no error if there are none.
pub fn remove_segments(dir: &Dir, paths: &LogPaths) -> io::Result<()> {
    // Mostly there is none, or an empty one.
    if dir.remove_dir(&paths.segments).is_ok() {
        return Ok(());
    }
    let names = dir.names(&paths.segments)?;
    for number in numbers(names.iter().map(|name| &**name)) {
        dir.remove_file(paths.segment(number))?;
    }
    // Last: it says that the log is whole without them.
    dir.remove_file(paths.joining())?;
    dir.remove_dir(&paths.segments).map(drop)
}

/// Removes a log with all of its parts.
///
/// # Errors
/// Those of the file system; it is no error if there is none, as most runs write nothing.
pub fn remove(dir: &Dir, paths: &LogPaths) -> io::Result<()> {
    remove_segments(dir, paths)?;
    dir.remove_file(&paths.log).map(drop)
}

/// The runs with segments: those that are active, and those whose log an earlier daemon did not join.
///
/// # Errors
/// Those of the file system.
pub fn leftovers(dir: &Dir) -> io::Result<Vec<RunId>> {
    Ok(numbers(dir.names(SEGMENTS)?.iter().map(|name| &**name)).into_iter().map(RunId).collect())
}
