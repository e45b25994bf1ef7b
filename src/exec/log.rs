//! A run's output: one file, created at the first byte, with a hard limit that keeps head and tail.
//!
//! Up to the limit the file grows with the output. Beyond it, its last part is a ring that is overwritten in place, so that
//! neither the file nor memory grows with a job that writes for ever; when the run ends, the ring is put in order, and a
//! line between head and tail states how many bytes were cut.
//!
//! The kernel moves the output from the pipe into the file (splice(2)): each byte is in one of the two at any time, so a
//! daemon that is killed loses none, and no output passes through its memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::spec::{Capture, DEFAULT_LOG_SIZE};
use crate::model::Attempt;

/// Bytes read from one pipe in one turn of the loop, so that a verbose job does not starve others.
pub const DRAIN_AT_ONCE: usize = 256 * 1024;

/// Bytes in one read(2), where splice(2) can't be used.
const BUFFER: usize = 64 * 1024;

/// The largest tail, in bytes: it is put in order in memory.
const TAIL_LIMIT: u64 = 256 * 1024;

/// Room for the line that marks the cut: its text and a number of 20 digits.
const MARK_ROOM: u64 = 64;

/// The limit of [`Capture::OnFailure`], which keeps output in memory, half of it head and half tail; in bytes.
const MEMORY_LIMIT: u64 = 64 * 1024;

/// The smallest limit with room for head, mark and tail, in bytes.
const SMALLEST: u64 = 1024;

/// The result of [`drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The pipe may hold more.
    More,
    /// The pipe is empty for now.
    Empty,
    /// All write ends are closed.
    Closed,
}

/// Where a run's output goes.
#[derive(Debug)]
pub struct OutputSink {
    path: PathBuf,
    medium: Medium,
    /// Bytes of the file before the ring.
    head: u64,
    /// The ring's size.
    tail: u64,
    /// The total number of bytes, cut ones included.
    total: u64,
    /// False once splice(2) has turned out to be unsupported by the file system or the source.
    splices: bool,
    trouble: Option<String>,
}

#[derive(Debug)]
enum Medium {
    /// Discarded.
    Nowhere,
    /// Created at the first byte.
    NoFileYet,
    File(File),
    /// Held back until the run has failed.
    Memory(Vec<u8>),
}

impl OutputSink {
    /// A sink for the file at `path`; `max_size` in bytes.
    #[must_use]
    pub fn new(path: PathBuf, capture: Capture, max_size: Option<u64>) -> OutputSink {
        let size = max_size.unwrap_or(DEFAULT_LOG_SIZE).max(SMALLEST);
        let (size, medium) = match capture {
            Capture::All => (size, Medium::NoFileYet),
            Capture::OnFailure => (size.min(MEMORY_LIMIT), Medium::Memory(Vec::new())),
            Capture::None => (size, Medium::Nowhere),
        };
        let tail = (size / 2).min(TAIL_LIMIT);
        OutputSink { path, medium, head: size - tail - MARK_ROOM, tail, total: 0, splices: true, trouble: None }
    }

    /// A sink that continues the file of an earlier daemon. If the log is at its limit, the position in the ring is not known any
    /// more: new output overwrites the tail from its beginning.
    #[must_use]
    pub fn resume(path: PathBuf, capture: Capture, max_size: Option<u64>) -> OutputSink {
        let mut sink = OutputSink::new(path, capture, max_size);
        if capture == Capture::All
            && let Ok(file) = OpenOptions::new().read(true).write(true).open(&sink.path)
            && let Ok(meta) = file.metadata()
        {
            sink.total = meta.len().min(sink.head + sink.tail);
            sink.medium = Medium::File(file);
        }
        sink
    }

    /// The error of a failed write; output is read and discarded from then on.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// A retry starts: marked by a line in the log, if there is any output yet.
    pub fn begin_attempt(&mut self, attempt: Attempt) {
        self.begin(&format!("attempt {attempt}"));
    }

    /// Another process of the run starts: marked by a line with its name, if there is any output yet.
    pub fn begin(&mut self, what: &str) {
        if self.total > 0 {
            self.write(format!("[firelink: {what}]\n").as_bytes());
        }
    }

    /// Appends output.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.trouble.is_some() || bytes.is_empty() {
            return;
        }
        if let Err(error) = self.try_write(bytes) {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.trouble = Some(format!("{}: {error}", self.path.display()));
    }

    /// Moves some bytes from a pipe, and returns their number; 0 at its end. The buffer is for data that can't be spliced.
    fn take(&mut self, fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        if self.trouble.is_none() && matches!(self.medium, Medium::NoFileYet) {
            let seen = poll_now(fd);
            if seen == PollFlags::POLLHUP {
                return Ok(0);
            }
            if seen.contains(PollFlags::POLLIN) {
                match create(&self.path) {
                    Ok(file) => self.medium = Medium::File(file),
                    Err(error) => self.fail(&error),
                }
            }
        }
        let (at, room) = self.place();
        if let Medium::File(file) = &self.medium
            && self.trouble.is_none()
            && self.splices
        {
            let mut at = at.cast_signed();
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(DRAIN_AT_ONCE);
            match splice(fd, None, file, Some(&mut at), most, SpliceFFlags::SPLICE_F_NONBLOCK) {
                Ok(count) => {
                    self.total += count as u64;
                    return Ok(count);
                }
                Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => return Err(errno),
                Err(Errno::EINVAL) => self.splices = false,
                Err(errno) => self.fail(&errno.into()),
            }
        }
        buffer.resize(BUFFER, 0);
        let count = nix::unistd::read(fd, buffer)?;
        self.write(&buffer[..count]);
        Ok(count)
    }

    /// The offset of the next byte in the file, and the number of bytes up to the end of the file or of the ring.
    fn place(&self) -> (u64, u64) {
        let capacity = self.head + self.tail;
        if self.total < capacity {
            (self.total, capacity - self.total)
        } else {
            let offset = (self.total - self.head) % self.tail;
            (self.head + offset, self.tail - offset)
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self.medium, Medium::NoFileYet) {
            self.medium = Medium::File(create(&self.path)?);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (at, room) = self.place();
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(count);
            match &mut self.medium {
                Medium::Nowhere | Medium::NoFileYet => {}
                Medium::File(file) => file.write_all_at(now, at)?,
                Medium::Memory(memory) => {
                    let at = usize::try_from(at).map_err(io::Error::other)?;
                    memory.resize(memory.len().max(at + count), 0);
                    memory[at..at + count].copy_from_slice(now);
                }
            }
            self.total += count as u64;
            rest = later;
        }
        Ok(())
    }

    /// The run has ended: puts the ring in order, marks the cut, and writes output that was held back if it failed.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(&mut self, success: bool) -> io::Result<()> {
        match std::mem::replace(&mut self.medium, Medium::Nowhere) {
            Medium::Nowhere | Medium::NoFileYet => Ok(()),
            Medium::File(file) => self.linearize(&file),
            Medium::Memory(memory) if success || memory.is_empty() => Ok(()),
            Medium::Memory(memory) => {
                let file = create(&self.path)?;
                file.write_all_at(&memory, 0)?;
                self.linearize(&file)
            }
        }
    }

    fn linearize(&self, file: &File) -> io::Result<()> {
        let capacity = self.head + self.tail;
        if self.total <= capacity {
            return Ok(());
        }
        let mut ring = vec![0; usize::try_from(self.tail).map_err(io::Error::other)?];
        file.read_exact_at(&mut ring, self.head)?;
        let start = (self.total - self.head) % self.tail;
        ring.rotate_left(usize::try_from(start).map_err(io::Error::other)?);
        let mark = format!("\n[firelink: {} bytes cut here]\n", self.total - capacity);
        file.write_all_at(mark.as_bytes(), self.head)?;
        file.write_all_at(&ring, self.head + mark.len() as u64)
    }
}

fn create(path: &PathBuf) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The state of a pipe: POLLIN if it holds data, POLLHUP alone at its end.
fn poll_now(fd: BorrowedFd<'_>) -> PollFlags {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let looked = poll(&mut fds, PollTimeout::ZERO);
    fds[0].revents().filter(|_| looked.is_ok()).unwrap_or(PollFlags::empty())
}

/// Moves data from a pipe into a sink until it would block, ends, or [`DRAIN_AT_ONCE`]. The buffer is allocated on first use.
///
/// # Errors
/// The error of read(2).
pub fn drain(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>, sink: &mut OutputSink) -> io::Result<Drained> {
    let mut taken = 0;
    while taken < DRAIN_AT_ONCE {
        match sink.take(fd, buffer) {
            Ok(0) => return Ok(Drained::Closed),
            Ok(count) => taken += count,
            Err(Errno::EAGAIN) => return Ok(Drained::Empty),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Drained::More)
}

/// Reads a log; `None` if it does not exist.
#[cfg(test)]
fn slurp(path: &std::path::Path) -> Option<Vec<u8>> {
    use std::io::{ErrorKind, Read};
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).ok().map(|_| bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use proptest::prelude::*;

    fn sink(capture: Capture, max: u64) -> (tempfile::TempDir, OutputSink) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job/1.log");
        (dir, OutputSink::new(path, capture, Some(max)))
    }

    #[test]
    fn a_run_without_output_has_no_file() {
        let (_dir, mut sink) = sink(Capture::All, 4096);
        sink.begin_attempt(Attempt(2));
        sink.finish(false).unwrap();
        assert_eq!(slurp(&sink.path), None);
    }

    #[test]
    fn output_is_written_at_once_and_a_retry_is_marked() {
        let (_dir, mut sink) = sink(Capture::All, 4096);
        sink.write(b"one\n");
        assert_eq!(slurp(&sink.path).unwrap(), b"one\n");
        sink.begin_attempt(Attempt(2));
        sink.write(b"two\n");
        sink.finish(true).unwrap();
        assert_eq!(slurp(&sink.path).unwrap(), b"one\n[firelink: attempt 2]\ntwo\n");
    }

    #[test]
    fn on_failure_writes_nothing_for_a_run_that_succeeds() {
        for success in [true, false] {
            let (_dir, mut sink) = sink(Capture::OnFailure, 4096);
            sink.write(b"hello");
            sink.finish(success).unwrap();
            assert_eq!(slurp(&sink.path), (!success).then(|| b"hello".to_vec()));
        }
    }

    /// Drains a pipe whose write end is closed here. A process that another test is starting holds a copy of it until its
    /// execve(2).
    fn drain_all(reader: &impl AsFd, buffer: &mut Vec<u8>, sink: &mut OutputSink) {
        while drain(reader.as_fd(), buffer, sink).unwrap() != Drained::Closed {
            poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        }
    }

    #[test]
    fn an_empty_pipe_creates_no_file() {
        let (_dir, mut sink) = sink(Capture::All, 4096);
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        let mut buffer = Vec::new();
        assert_eq!(drain(reader.as_fd(), &mut buffer, &mut sink).unwrap(), Drained::Empty);
        drop(writer);
        drain_all(&reader, &mut buffer, &mut sink);
        assert_eq!(slurp(&sink.path), None);
    }

    #[test]
    fn output_is_spliced_into_the_file_without_a_buffer() {
        let (_dir, mut sink) = sink(Capture::All, 4096);
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        File::from(writer).write_all(b"one\n").unwrap();
        let mut buffer = Vec::new();
        drain_all(&reader, &mut buffer, &mut sink);
        assert_eq!(slurp(&sink.path).unwrap(), b"one\n");
        if sink.splices {
            assert_eq!(buffer.capacity(), 0);
        } else {
            crate::skip::skip("the file system of temporary files does not support splice(2)");
        }
    }

    #[test]
    fn after_a_failed_write_output_is_read_and_discarded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("job"), "a file where a directory should be").unwrap();
        let mut sink = OutputSink::new(dir.path().join("job/1.log"), Capture::All, None);
        sink.write(b"x");
        assert!(sink.trouble().unwrap().contains("1.log"));
        sink.write(b"y");
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        File::from(writer).write_all(b"z").unwrap();
        drain_all(&reader, &mut Vec::new(), &mut sink);
        sink.finish(true).unwrap();
    }

    proptest! {
        #[test]
        fn head_and_tail_are_kept_and_the_file_never_outgrows_its_limit(
            chunks in prop::collection::vec(1_usize..3000, 0..40),
            on_failure: bool,
            through_a_pipe: bool,
            splices: bool,
        ) {
            const MAX: u64 = 4096;
            let capture = if on_failure { Capture::OnFailure } else { Capture::All };
            let (_dir, mut sink) = sink(capture, MAX);
            sink.splices = splices;
            let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
            let mut writer = File::from(writer);
            let mut all = Vec::new();
            for (index, size) in chunks.into_iter().enumerate() {
                let chunk: Vec<u8> = (0..size).map(|at| u8::try_from((index * 7 + at) % 251).unwrap()).collect();
                if through_a_pipe {
                    writer.write_all(&chunk).unwrap();
                    prop_assert_eq!(drain(reader.as_fd(), &mut Vec::new(), &mut sink).unwrap(), Drained::Empty);
                } else {
                    sink.write(&chunk);
                }
                all.extend(chunk);
                prop_assert!(slurp(&sink.path).unwrap_or_default().len() as u64 <= MAX);
            }
            sink.finish(false).unwrap();
            let file = slurp(&sink.path).unwrap_or_default();
            prop_assert!(file.len() as u64 <= MAX);
            let (head, tail) = (usize::try_from(sink.head).unwrap(), usize::try_from(sink.tail).unwrap());
            if all.len() <= head + tail {
                prop_assert_eq!(file, all);
            } else {
                let mark = format!("\n[firelink: {} bytes cut here]\n", all.len() - head - tail);
                prop_assert_eq!(&file[..head], &all[..head]);
                prop_assert_eq!(&file[head..head + mark.len()], mark.as_bytes());
                prop_assert_eq!(&file[head + mark.len()..], &all[all.len() - tail..]);
            }
        }
    }
}
