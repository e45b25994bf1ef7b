//! Reading a log by offsets in the output, while it is written, joined, or long after.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use nix::libc;

use super::join::{numbers, parse_joining};
use super::layout::{Layout, mark};
use super::paths::LogPaths;

/// How often the directory of segments is looked at again if the log changes meanwhile.
const LOOKS: usize = 8;

/// The most that [`LogReader::text`] reads at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// What [`LogReader::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes of output are in the buffer.
    Output(usize),
    /// So many bytes of output are not there: cut, or deleted before they were read. [`mark`] is the line that says so.
    Cut(u64),
    /// There is no more, for now or at all.
    End,
}

/// A part of the output as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text; invalid UTF-8 is replaced.
    pub text: String,
    /// The offset in the output at which the next part begins.
    pub next: u64,
    /// There is no more for now.
    pub is_last: bool,
}

/// Reads the output of a run from an offset on. It may fall behind, the run may end, and its log may be joined meanwhile.
#[derive(Debug)]
pub struct LogReader {
    paths: LogPaths,
    /// The offset in the output of the next byte.
    at: u64,
    log: Option<File>,
    /// Known once a part of the log behind its head was seen.
    layout: Option<Layout>,
    /// The bytes that are cut from the joined log; `None` while the log is not joined, or not known to be.
    joined: Option<u64>,
    /// The segment being read.
    segment: Option<(u64, File)>,
    /// Bytes were read from the log's file while its layout was not known.
    has_read_unjoined: bool,
    /// The run had ended, and its log was found to be whole in its file.
    is_whole: bool,
}

/// What is behind the head.
#[derive(Debug)]
enum Behind {
    /// No segments: all of the log is in its file.
    Nothing,
    Segments {
        layout: Layout,
        oldest: u64,
        newest: u64,
    },
    /// Mark and tail are appended to the head, and once that is complete the segments deleted.
    Joining {
        layout: Layout,
        total: u64,
        oldest: Option<u64>,
        is_complete: bool,
    },
    /// It changes too fast to tell.
    Unknown,
}

impl LogReader {
    /// Begins at this offset in the output.
    #[must_use]
    pub fn new(paths: LogPaths, from: u64) -> LogReader {
        LogReader {
            paths,
            at: from,
            log: None,
            layout: None,
            joined: None,
            segment: None,
            has_read_unjoined: false,
            is_whole: false,
        }
    }

    /// The offset in the output of the next byte.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Goes to so many bytes before the end of the output; `over` if the run has ended.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn seek_to_last(&mut self, bytes: u64, over: bool) -> io::Result<()> {
        if self.log.is_none() {
            self.log = open(&self.paths.log)?;
        }
        let total = match self.behind()? {
            Behind::Segments { layout, newest, .. } => {
                let segment = open(&self.paths.segment(newest))?;
                layout.start_of(newest) + segment.map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?
            }
            Behind::Joining { total, .. } => total,
            Behind::Nothing | Behind::Unknown => match &self.log {
                None => 0,
                Some(file) => {
                    let size = file.metadata()?.len();
                    let found = if over { Layout::of_joined(file, size)? } else { None };
                    found.map_or(size, |(layout, cut)| layout.capacity() + cut)
                }
            },
        };
        self.at = total.saturating_sub(bytes);
        Ok(())
    }

    /// Reads on. `over` if the run had ended before the call: then [`Read::End`] is the end of all output, but for that of
    /// hooks.
    ///
    /// # Errors
    /// Those of the file system. A log that does not exist is empty.
    pub fn read(&mut self, buffer: &mut [u8], over: bool) -> io::Result<Read> {
        for _ in 0..LOOKS {
            if let Some(read) = self.try_read(buffer, over)? {
                return Ok(read);
            }
        }
        Ok(Read::End)
    }

    /// `None` if what was found has to be looked at again.
    fn try_read(&mut self, buffer: &mut [u8], over: bool) -> io::Result<Option<Read>> {
        if self.log.is_none() {
            self.log = open(&self.paths.log)?;
        }
        let Some(log) = &self.log else { return Ok(Some(Read::End)) };
        let Some(layout) = self.layout else { return self.read_unjoined(buffer, over) };
        let count = if self.at < layout.head() {
            log.read_at(limited(buffer, layout.head() - self.at), self.at)?
        } else if let Some(cut) = self.joined {
            let behind = layout.head() + cut;
            if self.at < behind {
                return Ok(Some(self.cut_to(behind)));
            }
            let shift = if cut > 0 { mark(cut).len() as u64 } else { 0 };
            log.read_at(buffer, self.at - cut + shift)?
        } else {
            return self.read_segment(layout, buffer);
        };
        Ok(Some(self.advance(count)))
    }

    fn advance(&mut self, count: usize) -> Read {
        self.at += count as u64;
        if count == 0 { Read::End } else { Read::Output(count) }
    }

    fn cut_to(&mut self, at: u64) -> Read {
        let cut = at.saturating_sub(self.at);
        self.at = at;
        Read::Cut(cut)
    }

    /// Reads from the log's file, of which nothing is known yet.
    fn read_unjoined(&mut self, buffer: &mut [u8], over: bool) -> io::Result<Option<Read>> {
        let Some(log) = &self.log else { return Ok(Some(Read::End)) };
        let mut count = log.read_at(buffer, self.at)?;
        // Looked at after the read: if there is nothing, the file is all output, or has been joined.
        match self.behind()? {
            Behind::Segments { layout, .. } | Behind::Joining { layout, .. } => {
                self.layout = Some(layout);
                return Ok(None);
            }
            Behind::Unknown => return Ok(None),
            Behind::Nothing => {}
        }
        if !self.is_whole {
            let joined = Layout::of_joined(log, log.metadata()?.len())?;
            // Not if what would be behind the cut was read already: then it only looks like it, since a log is joined at its end.
            let joined = joined.filter(|(layout, _)| !self.has_read_unjoined || self.at <= layout.head());
            if over {
                self.is_whole = true;
                (self.layout, self.joined) = joined.unzip();
                return Ok(None);
            }
            if let Some((layout, _)) = joined {
                // Its end may not have been seen yet, or it only looks like it for now: the caller has to look again.
                count = count.min(usize::try_from(layout.head().saturating_sub(self.at)).unwrap_or(usize::MAX));
            }
        }
        self.has_read_unjoined |= count > 0;
        Ok(Some(self.advance(count)))
    }

    fn read_segment(&mut self, layout: Layout, buffer: &mut [u8]) -> io::Result<Option<Read>> {
        let number = layout.segment_of(self.at);
        if self.segment.as_ref().is_none_or(|(opened, _)| *opened != number) {
            self.segment = open(&self.paths.segment(number))?.map(|file| (number, file));
        }
        let Some((_, file)) = &self.segment else { return self.without_segment(layout, number) };
        // Each is full before the next begins: what is wanted is in it, also once it is deleted.
        let start = layout.start_of(number);
        let left = start.saturating_add(layout.segment()).saturating_sub(self.at);
        let count = file.read_at(limited(buffer, left), self.at - start)?;
        Ok(Some(self.advance(count)))
    }

    /// The segment that is wanted does not exist.
    fn without_segment(&mut self, layout: Layout, number: u64) -> io::Result<Option<Read>> {
        let oldest = match self.behind()? {
            Behind::Unknown => return Ok(None),
            Behind::Nothing => {
                let Some(log) = &self.log else { return Ok(Some(Read::End)) };
                self.joined = Some(layout.cut_of(log, log.metadata()?.len())?.unwrap_or(0));
                return Ok(None);
            }
            Behind::Joining { total, .. } if self.at >= total => return Ok(Some(Read::End)),
            Behind::Joining { total, is_complete: true, .. } => {
                self.joined = Some(layout.cut(total));
                return Ok(None);
            }
            Behind::Joining { oldest, .. } => oldest,
            Behind::Segments { newest, .. } if number > newest => return Ok(Some(Read::End)),
            Behind::Segments { oldest, .. } => Some(oldest),
        };
        // Else it has been made since.
        Ok(oldest.filter(|oldest| *oldest > number).map(|oldest| self.cut_to(layout.start_of(oldest))))
    }

    fn behind(&self) -> io::Result<Behind> {
        for _ in 0..LOOKS {
            let names = match self.paths.segments.read_dir() {
                Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Behind::Nothing),
                Err(error) => return Err(error),
            };
            let found = numbers(names.iter().map(|name| &**name));
            let (oldest, newest) = (found.iter().copied().min(), found.into_iter().max());
            let size = match &self.log {
                Some(log) => log.metadata()?.len(),
                None => return Ok(Behind::Nothing),
            };
            // After the other two: without it nothing had been appended to the head then, with it and an incomplete file
            // nothing been deleted.
            if let Some((layout, total)) = self.joining()? {
                let is_complete = size == layout.joined_size(total);
                return Ok(Behind::Joining { layout, total, oldest, is_complete });
            }
            let (Some(oldest), Some(newest)) = (oldest, newest) else { return Ok(Behind::Nothing) };
            // Else all of them may have been deleted since, and `joining` after them.
            if self.paths.segment(newest).try_exists()? {
                return Ok(Behind::Segments { layout: Layout::of_head(size), oldest, newest });
            }
        }
        Ok(Behind::Unknown)
    }

    fn joining(&self) -> io::Result<Option<(Layout, u64)>> {
        match open(&self.paths.joining())? {
            Some(file) => Ok(parse_joining(&io::read_to_string(file)?)),
            None => Ok(None),
        }
    }

    /// Reads a part of at most `limit` bytes as text, marks of cuts not counted. A UTF-8 sequence that is incomplete at the end is
    /// left for the next part, unless the run is `over`, as in [`LogReader::read`].
    ///
    /// # Errors
    /// Those of the file system.
    pub fn text(&mut self, limit: usize, over: bool) -> io::Result<Part> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; limit.min(CHUNK)];
        let mut left = limit;
        let mut is_last = false;
        while left > 0 && !is_last {
            let room = left.min(buffer.len());
            match self.read(&mut buffer[..room], over)? {
                Read::Output(count) => {
                    bytes.extend_from_slice(&buffer[..count]);
                    left -= count;
                }
                Read::Cut(cut) => bytes.extend_from_slice(mark(cut).as_bytes()),
                Read::End => is_last = true,
            }
        }
        if !(is_last && over) {
            let held_back = incomplete_tail(&bytes);
            bytes.truncate(bytes.len() - held_back);
            self.at -= held_back as u64;
        }
        let is_last = is_last || bytes.is_empty();
        Ok(Part { text: String::from_utf8_lossy(&bytes).into_owned(), next: self.at, is_last })
    }
}

fn open(path: &std::path::Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn limited(buffer: &mut [u8], most: u64) -> &mut [u8] {
    let count = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    &mut buffer[..count]
}

/// The length of an incomplete UTF-8 sequence at the end.
fn incomplete_tail(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        // Of invalid bytes, only the beginning of a sequence can become a character.
        Some(chunk) if !chunk.invalid().is_empty() && bytes.ends_with(chunk.invalid()) => {
            let width = match chunk.invalid()[0] {
                0xC2..=0xDF => 2,
                0xE0..=0xEF => 3,
                0xF0..=0xF4 => 4,
                _ => 0,
            };
            if chunk.invalid().len() < width { chunk.invalid().len() } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(dir: &std::path::Path, from: u64) -> LogReader {
        LogReader::new(LogPaths { log: dir.join("1.log"), segments: dir.join("1") }, from)
    }

    #[test]
    fn concatenated_parts_are_the_output_at_every_part_size() {
        let dir = tempfile::tempdir().unwrap();
        let text = "grün und 日本 und 🦀, \u{1b}[31mred\u{1b}[0m\n";
        std::fs::write(dir.path().join("1.log"), text).unwrap();
        for limit in 4..text.len() + 2 {
            let (mut all, mut at) = (String::new(), 0);
            loop {
                let part = reader(dir.path(), at).text(limit, true).unwrap();
                all.push_str(&part.text);
                at = part.next;
                if part.is_last {
                    break;
                }
            }
            assert_eq!(all, text, "{limit} bytes a part");
        }
    }

    #[test]
    fn an_incomplete_character_is_held_back_until_the_run_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        std::fs::write(&path, b"gr\xC3").unwrap();
        let mut log = reader(dir.path(), 0);
        let part = log.text(100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next), ("gr", 2));
        let part = log.text(100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("", 2, true));
        let part = log.text(100, true).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("\u{FFFD}", 3, true));
        std::fs::write(&path, b"\xFF\xFFx\xFF").unwrap();
        let part = reader(dir.path(), 0).text(100, false).unwrap();
        assert_eq!((part.text.as_str(), part.next), ("\u{FFFD}\u{FFFD}x\u{FFFD}", 4), "invalid bytes are not held back");
    }

    #[test]
    fn a_run_without_output_has_an_empty_log() {
        let part = reader(std::path::Path::new("/nowhere"), 7).text(100, true).unwrap();
        assert_eq!((part.text.as_str(), part.next, part.is_last), ("", 7, true));
    }

    #[test]
    fn the_log_of_a_job_that_shows_another_log_is_output_up_to_its_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::of_limit(4096);
        let cut = 1_000_000;
        let head = vec![b'h'; usize::try_from(layout.head()).unwrap()];
        let tail = vec![b't'; usize::try_from(layout.tail()).unwrap()];
        let shown = [&head[..], mark(cut).as_bytes(), &tail, b"\ndone\n"].concat();
        std::fs::write(dir.path().join("1.log"), &shown).unwrap();
        let mut log = reader(dir.path(), 0);
        assert_eq!(log.text(100_000, true).unwrap().text.as_bytes(), shown);
        assert_eq!(log.offset(), shown.len() as u64);
        // While it is active it may be at the very byte at which it looks like a joined one: the rest comes with the next byte.
        std::fs::write(dir.path().join("1.log"), &shown[..shown.len() - 6]).unwrap();
        let mut log = reader(dir.path(), 0);
        assert_eq!(log.text(100_000, false).unwrap().next, layout.head());
        std::fs::write(dir.path().join("1.log"), &shown[..shown.len() - 5]).unwrap();
        assert_eq!(log.text(100_000, false).unwrap().next, shown.len() as u64 - 5);
        std::fs::write(dir.path().join("1.log"), &shown).unwrap();
        assert_eq!(log.text(100_000, true).unwrap().text, "done\n");
    }

    #[test]
    fn the_end_of_a_log_is_found_in_its_segments_and_in_the_joined_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::of_limit(4096);
        let head = vec![b'h'; usize::try_from(layout.head()).unwrap()];
        std::fs::write(dir.path().join("1.log"), &head).unwrap();
        std::fs::create_dir(dir.path().join("1")).unwrap();
        std::fs::write(dir.path().join("1/7"), "of seven").unwrap();
        let mut log = reader(dir.path(), 0);
        log.seek_to_last(5, false).unwrap();
        assert_eq!((log.offset(), log.text(100, false).unwrap().text.as_str()), (layout.start_of(7) + 3, "seven"));
        std::fs::remove_dir_all(dir.path().join("1")).unwrap();
        let total = layout.capacity() + 900;
        let tail = vec![b't'; usize::try_from(layout.tail()).unwrap()];
        std::fs::write(dir.path().join("1.log"), [&head[..], mark(900).as_bytes(), &tail].concat()).unwrap();
        let mut log = reader(dir.path(), 0);
        log.seek_to_last(3, true).unwrap();
        assert_eq!((log.offset(), log.text(100, true).unwrap().text.as_str()), (total - 3, "ttt"));
    }
}
