//! A run's output: into its log, created at the first byte, with a hard limit that keeps head and tail.
//!
//! Where the bytes are is the subject of [`logs`]: the head in the log's file, and beyond it segments, of which the
//! old ones are deleted, so that neither the disk nor memory fills with a job that writes for ever; when the run ends, they are
//! joined, and a line between head and tail states how many bytes were cut.
//!
//! The kernel moves the output from the pipe into the file (splice(2)): each byte is in one of the two at any time, so a
//! daemon that is killed loses none, and no output passes through its memory.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::spec::{Capture, DEFAULT_LOG_SIZE};
use crate::files::Dir;
use crate::logs::{self, Layout, LogPaths, mark};
use crate::model::Attempt;

/// Bytes read from one pipe in one turn of the loop, so that a verbose job does not starve others.
pub const DRAIN_AT_ONCE: usize = 256 * 1024;

/// Bytes in one read(2), where splice(2) can't be used.
const BUFFER: usize = 64 * 1024;

/// The limit of [`Capture::OnFailure`], which keeps output in memory, half of it head and half tail; in bytes.
const MEMORY_LIMIT: u64 = 64 * 1024;

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
    dir: Arc<Dir>,
    paths: LogPaths,
    medium: Medium,
    layout: Layout,
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
    /// The log's files.
    Disk(Disk),
    /// Held back until the run has failed: the head, and behind it a ring with the tail.
    Memory(Vec<u8>),
}

/// The file with the next byte, and what has been made of the others.
#[derive(Debug, Default)]
struct Disk {
    /// The file, with the offset in the output of its first byte, and the one behind its last.
    current: Option<(File, u64, u64)>,
    /// The oldest segment that exists; `None` if there is none.
    oldest: Option<u64>,
    /// The log's file exists: an earlier daemon or attempt made it.
    exists: bool,
}

impl OutputSink {
    /// A sink for a log below `dir` that does not exist yet; `max_size` in bytes.
    #[must_use]
    pub fn new(dir: Arc<Dir>, paths: LogPaths, capture: Capture, max_size: Option<u64>) -> OutputSink {
        let size = max_size.unwrap_or(DEFAULT_LOG_SIZE);
        let (size, medium) = match capture {
            Capture::All => (size, Medium::Disk(Disk::default())),
            Capture::OnFailure => (size.min(MEMORY_LIMIT), Medium::Memory(Vec::new())),
            Capture::None => (size, Medium::Nowhere),
        };
        OutputSink { dir, paths, medium, layout: Layout::of_limit(size), total: 0, splices: true, trouble: None }
    }

    /// A sink that continues the log of an earlier attempt or daemon, if there is one, where it ends.
    #[must_use]
    pub fn resume(dir: Arc<Dir>, paths: LogPaths, capture: Capture, max_size: Option<u64>) -> OutputSink {
        let mut sink = OutputSink::new(dir, paths, capture, max_size);
        if let Medium::Disk(disk) = &mut sink.medium {
            match logs::position(&sink.dir, &sink.paths, sink.layout) {
                Ok(Some(at)) => {
                    (sink.layout, sink.total) = (at.layout, at.total);
                    (disk.oldest, disk.exists) = (at.oldest, true);
                }
                Ok(None) => {}
                Err(error) => sink.fail(&error),
            }
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
        self.trouble = Some(format!("{}: {error}", self.dir.path().join(&self.paths.log).display()));
    }

    /// Moves some bytes from a pipe, and returns their number; 0 at its end. The buffer is for data that can't be spliced.
    fn take(&mut self, fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        if self.trouble.is_none()
            && let Medium::Disk(disk) = &mut self.medium
        {
            // No file is made for nothing.
            let seen = if disk.has_room(self.total) { PollFlags::POLLIN } else { poll_now(fd) };
            if seen == PollFlags::POLLHUP {
                return Ok(0);
            }
            if seen.contains(PollFlags::POLLIN) {
                match disk.place(&self.dir, &self.paths, self.layout, self.total) {
                    Ok((file, at, room)) if self.splices => {
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
                    Ok(_) => {}
                    Err(error) => self.fail(&error),
                }
            }
        }
        buffer.resize(BUFFER, 0);
        let count = nix::unistd::read(fd, buffer)?;
        self.write(&buffer[..count]);
        Ok(count)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match &mut self.medium {
                Medium::Nowhere => rest.len(),
                Medium::Disk(disk) => {
                    let (file, at, room) = disk.place(&self.dir, &self.paths, self.layout, self.total)?;
                    let count = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
                    file.write_all_at(&rest[..count], at)?;
                    count
                }
                Medium::Memory(memory) => put(memory, self.layout, self.total, rest)?,
            };
            self.total += count as u64;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// The run has ended: joins the parts of its log, and writes output that was held back if it failed.
    ///
    /// # Errors
    /// When the files can't be written. What is in them stays.
    pub fn finish(&mut self, success: bool) -> io::Result<()> {
        match std::mem::replace(&mut self.medium, Medium::Nowhere) {
            Medium::Disk(Disk { oldest: Some(_), .. }) => logs::join(&self.dir, &self.paths, self.layout, self.total),
            Medium::Memory(memory) if !success && !memory.is_empty() => {
                let file = create(&self.dir, &self.paths)?;
                file.write_all_at(&in_order(memory, self.layout, self.total)?, 0)
            }
            Medium::Nowhere | Medium::Disk(_) | Medium::Memory(_) => Ok(()),
        }
    }
}

impl Disk {
    /// True if the next byte, at this offset of the output, belongs in the file that is open.
    fn has_room(&self, total: u64) -> bool {
        self.current.as_ref().is_some_and(|(_, start, end)| (*start..*end).contains(&total))
    }

    /// The file with the byte at this offset of the output, the offset in that file, and the number of bytes up to the end of its
    /// part of the log. Makes it if that is the first byte of its part, and deletes the segments that are not needed any more.
    fn place(&mut self, dir: &Dir, paths: &LogPaths, layout: Layout, total: u64) -> io::Result<(&File, u64, u64)> {
        if !self.has_room(total) {
            self.current = None;
            if total < layout.head() {
                let file = if self.exists {
                    dir.open_file_in_dirs(&paths.log, OFlag::O_WRONLY | OFlag::O_CREAT)?
                } else {
                    create(dir, paths)?
                };
                self.exists = true;
                self.current = Some((file, 0, layout.head()));
            } else {
                let number = layout.segment_of(total);
                if self.oldest.is_none() {
                    // Of a run with this number in a state that is gone.
                    logs::remove_segments(dir, paths)?;
                }
                let file = dir.open_file_in_dirs(&paths.segment(number), OFlag::O_WRONLY | OFlag::O_CREAT)?;
                let kept = layout.oldest_kept(number);
                let from = self.oldest.unwrap_or(number);
                self.oldest = Some(from.max(kept));
                let start = layout.start_of(number);
                self.current = Some((file, start, layout.start_of(number + 1)));
                for old in from..kept {
                    dir.remove_file(paths.segment(old))?;
                }
            }
        }
        match &self.current {
            Some((file, start, end)) => Ok((file, total - start, end - total)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn create(dir: &Dir, paths: &LogPaths) -> io::Result<File> {
    dir.open_file_in_dirs(&paths.log, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC)
}

/// Puts some of these bytes into memory, in the ring once the head is full, and returns how many.
fn put(memory: &mut Vec<u8>, layout: Layout, total: u64, bytes: &[u8]) -> io::Result<usize> {
    let (at, room) = if total < layout.capacity() {
        (total, layout.capacity() - total)
    } else {
        let offset = (total - layout.head()) % layout.tail();
        (layout.head() + offset, layout.tail() - offset)
    };
    let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    let at = usize::try_from(at).map_err(io::Error::other)?;
    memory.resize(memory.len().max(at + count), 0);
    memory[at..at + count].copy_from_slice(&bytes[..count]);
    Ok(count)
}

/// What was kept in memory as a log: the ring in order, with the mark before it if something was cut.
fn in_order(mut memory: Vec<u8>, layout: Layout, total: u64) -> io::Result<Vec<u8>> {
    let cut = layout.cut(total);
    if cut > 0 {
        let head = usize::try_from(layout.head()).map_err(io::Error::other)?;
        let start = usize::try_from((total - layout.head()) % layout.tail()).map_err(io::Error::other)?;
        memory[head..].rotate_left(start);
        memory.splice(head..head, mark(cut).into_bytes());
    }
    Ok(memory)
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{ErrorKind, Read as _, Write};
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;
    use crate::logs::{LogReader, Read};
    use proptest::prelude::*;

    /// A log with names that are not those of a run in a state directory.
    struct Place {
        dir: tempfile::TempDir,
        paths: LogPaths,
    }

    impl Place {
        fn new() -> Place {
            let paths = LogPaths { log: "job/1.log".into(), segments: "segments/1".into() };
            Place { dir: tempfile::tempdir().unwrap(), paths }
        }

        fn dir(&self) -> Arc<Dir> {
            Arc::new(Dir::open(self.dir.path()).unwrap())
        }

        fn sink(&self, capture: Capture, max: u64) -> OutputSink {
            OutputSink::new(self.dir(), self.paths.clone(), capture, Some(max))
        }

        fn resumed(&self, max: u64) -> OutputSink {
            OutputSink::resume(self.dir(), self.paths.clone(), Capture::All, Some(max))
        }

        fn reader(&self, from: u64) -> LogReader {
            let at = |name: &Path| self.dir.path().join(name);
            LogReader::new(LogPaths { log: at(&self.paths.log), segments: at(&self.paths.segments) }, from)
        }

        /// The log's file; `None` if it does not exist.
        fn file(&self) -> Option<Vec<u8>> {
            let mut bytes = Vec::new();
            match File::open(self.dir.path().join(&self.paths.log)) {
                Ok(mut file) => file.read_to_end(&mut bytes).ok().map(|_| bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => panic!("{error}"),
            }
        }

        /// The bytes in all of the log's files.
        fn size(&self) -> u64 {
            let segments = self.dir.path().join(&self.paths.segments);
            let sizes = segments.read_dir().into_iter().flatten().map(|entry| entry.unwrap().metadata().unwrap().len());
            sizes.sum::<u64>() + self.file().map_or(0, |file| file.len() as u64)
        }

        fn has_segments(&self) -> bool {
            self.dir.path().join(&self.paths.segments).exists()
        }
    }

    #[test]
    fn a_run_without_output_has_no_file() {
        let place = Place::new();
        let mut sink = place.sink(Capture::All, 4096);
        sink.begin_attempt(Attempt(2));
        sink.finish(false).unwrap();
        assert_eq!(place.dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn output_is_written_at_once_and_a_retry_is_marked() {
        let place = Place::new();
        let mut sink = place.sink(Capture::All, 4096);
        sink.write(b"one\n");
        assert_eq!(place.file().unwrap(), b"one\n");
        sink.begin_attempt(Attempt(2));
        sink.write(b"two\n");
        sink.finish(true).unwrap();
        assert_eq!(place.file().unwrap(), b"one\n[firelink: attempt 2]\ntwo\n");
    }

    #[test]
    fn a_new_log_replaces_one_of_the_same_name_and_a_later_attempt_goes_on_with_it() {
        let place = Place::new();
        place.sink(Capture::All, 4096).write(b"of a state that is gone\n");
        let mut sink = place.sink(Capture::All, 4096);
        sink.write(b"one\n");
        drop(sink);
        let mut sink = place.resumed(4096);
        sink.begin_attempt(Attempt(2));
        sink.write(b"two\n");
        assert_eq!(place.file().unwrap(), b"one\n[firelink: attempt 2]\ntwo\n");
    }

    #[test]
    fn on_failure_writes_nothing_for_a_run_that_succeeds() {
        for success in [true, false] {
            let place = Place::new();
            let mut sink = place.sink(Capture::OnFailure, 4096);
            sink.write(b"hello");
            sink.finish(success).unwrap();
            assert_eq!(place.file(), (!success).then(|| b"hello".to_vec()));
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
    fn an_empty_pipe_creates_no_file_and_no_segment() {
        let place = Place::new();
        let mut sink = place.sink(Capture::All, 4096);
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        let mut buffer = Vec::new();
        assert_eq!(drain(reader.as_fd(), &mut buffer, &mut sink).unwrap(), Drained::Empty);
        assert_eq!(place.file(), None);
        let mut writer = File::from(writer);
        writer.write_all(&vec![b'x'; usize::try_from(sink.layout.head()).unwrap()]).unwrap();
        assert_eq!(drain(reader.as_fd(), &mut buffer, &mut sink).unwrap(), Drained::Empty);
        drop(writer);
        drain_all(&reader, &mut buffer, &mut sink);
        assert_eq!((place.size(), place.has_segments()), (sink.layout.head(), false), "a full head alone");
    }

    #[test]
    fn output_is_spliced_into_the_files_without_a_buffer() {
        let place = Place::new();
        let mut sink = place.sink(Capture::All, 4096);
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        let text: Vec<u8> = (0..30_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        File::from(writer).write_all(&text).unwrap();
        let mut buffer = Vec::new();
        drain_all(&reader, &mut buffer, &mut sink);
        assert!(place.has_segments());
        sink.finish(true).unwrap();
        let file = place.file().unwrap();
        assert!(text.starts_with(&file[..1000]) && text.ends_with(&file[file.len() - 1000..]));
        if sink.splices {
            assert_eq!(buffer.capacity(), 0);
        } else {
            crate::skip::skip("the file system of temporary files does not support splice(2)");
        }
    }

    #[test]
    fn after_a_failed_write_output_is_read_and_discarded() {
        let place = Place::new();
        std::fs::write(place.dir.path().join("job"), "a file where a directory should be").unwrap();
        let mut sink = place.sink(Capture::All, 4096);
        sink.write(b"x");
        assert!(sink.trouble().unwrap().contains("1.log"));
        sink.write(b"y");
        let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
        File::from(writer).write_all(b"z").unwrap();
        drain_all(&reader, &mut Vec::new(), &mut sink);
        sink.finish(true).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_not_written_through() {
        let place = Place::new();
        let victim = place.dir.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::fs::create_dir(place.dir.path().join("job")).unwrap();
        std::os::unix::fs::symlink(&victim, place.dir.path().join("job/1.log")).unwrap();
        for mut sink in [place.sink(Capture::All, 4096), place.resumed(4096)] {
            sink.write(b"x");
            assert!(sink.trouble().unwrap().contains("symbolic link"), "{:?}", sink.trouble());
        }
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    }

    /// The log of this output once its run has ended.
    fn joined(layout: Layout, all: &[u8]) -> Vec<u8> {
        let cut = usize::try_from(layout.cut(all.len() as u64)).unwrap();
        if cut == 0 {
            return all.to_vec();
        }
        let head = usize::try_from(layout.head()).unwrap();
        [&all[..head], mark(cut as u64).as_bytes(), &all[head + cut..]].concat()
    }

    /// A number for each byte, so that any two places differ.
    fn output(from: usize, size: usize) -> Vec<u8> {
        (from..from + size).map(|at| u8::try_from((at / 251 * 7 + at) % 251).unwrap()).collect()
    }

    /// Follows a log and holds what it reads against the output: holes are exactly where the reader says.
    struct Follower {
        reader: LogReader,
        printed: Vec<u8>,
        cuts: u64,
    }

    impl Follower {
        fn of(place: &Place, from: u64) -> Follower {
            Follower { reader: place.reader(from), printed: Vec::new(), cuts: 0 }
        }

        /// Reads once; false at the end.
        fn read(&mut self, all: &[u8], size: usize, over: bool) -> bool {
            let before = usize::try_from(self.reader.offset()).unwrap();
            let mut buffer = vec![0; size];
            match self.reader.read(&mut buffer, over).unwrap() {
                Read::Output(count) => {
                    assert!(count > 0 && buffer[..count] == all[before..before + count], "other bytes at {before}");
                    self.printed.extend_from_slice(&buffer[..count]);
                    assert_eq!(self.reader.offset(), (before + count) as u64);
                }
                Read::Cut(bytes) => {
                    assert!(bytes > 0);
                    self.printed.extend_from_slice(mark(bytes).as_bytes());
                    self.cuts += bytes;
                    assert_eq!(self.reader.offset(), before as u64 + bytes);
                }
                Read::End => return false,
            }
            true
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Pipe(usize),
        /// The follower with this number reads so many times.
        Follow(usize, usize),
        /// The daemon dies, and the next one has another limit.
        Restart(u64),
        /// Another follower begins here, at a part of what was written.
        Begin(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1_usize..3000).prop_map(Step::Write),
            4 => (1_usize..20_000).prop_map(Step::Pipe),
            6 => (0_usize..4, 1_usize..12).prop_map(|(which, times)| Step::Follow(which, times)),
            1 => (0_u64..40_000).prop_map(Step::Restart),
            1 => any::<u8>().prop_map(Step::Begin),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// Where a join is interrupted.
    #[derive(Clone, Copy, Debug)]
    enum Crash {
        Never,
        /// After `joining` was made, with so many bytes of what it should say.
        Begun(usize),
        /// After so many bytes of mark and tail.
        Appended(usize),
        /// After so many segments were removed.
        Removed(usize),
    }

    fn crash() -> impl Strategy<Value = Crash> {
        prop_oneof![
            Just(Crash::Never),
            (0_usize..20).prop_map(Crash::Begun),
            (0_usize..20_000).prop_map(Crash::Appended),
            (0_usize..6).prop_map(Crash::Removed),
        ]
    }

    /// Leaves what a daemon leaves that dies there while it joins the log.
    fn interrupt(place: &Place, sink: &OutputSink, all: &[u8], crash: Crash) {
        let segments = place.dir.path().join(&place.paths.segments);
        if !segments.exists() {
            return;
        }
        let says = format!("{} {}\n", sink.layout.head(), sink.total);
        let whole = joined(sink.layout, all);
        let begun = match crash {
            Crash::Never => return,
            Crash::Begun(bytes) => bytes.min(says.len()),
            _ => says.len(),
        };
        std::fs::write(segments.join("joining"), &says[..begun]).unwrap();
        let head = usize::try_from(sink.layout.head()).unwrap();
        let size = match crash {
            Crash::Appended(bytes) => whole.len().min(head + bytes),
            Crash::Removed(_) => whole.len(),
            _ => head,
        };
        std::fs::write(place.dir.path().join(&place.paths.log), &whole[..size]).unwrap();
        if let Crash::Removed(count) = crash {
            let names = segments.read_dir().unwrap().map(|entry| entry.unwrap().path());
            let numbered = names.filter(|path| !path.ends_with("joining"));
            numbered.take(count).for_each(|path| std::fs::remove_file(path).unwrap());
        }
    }

    #[test]
    fn a_follower_beside_the_writer_never_prints_other_bytes_and_ends_at_the_last_one() {
        let all = output(0, 400_000);
        for round in 0..60 {
            let place = Place::new();
            let over = std::sync::atomic::AtomicBool::new(false);
            let ordering = std::sync::atomic::Ordering::SeqCst;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut sink = place.sink(Capture::All, 4096 + 1000 * round);
                    all.chunks(1 + 100 * usize::try_from(round).unwrap()).for_each(|chunk| sink.write(chunk));
                    over.store(true, ordering);
                    sink.finish(true).unwrap();
                });
                let mut follower = Follower::of(&place, 0);
                loop {
                    let is_over = over.load(ordering);
                    while follower.read(&all, 3000, is_over) {}
                    if is_over {
                        break;
                    }
                    std::thread::yield_now();
                }
                assert_eq!(follower.reader.offset(), all.len() as u64, "round {round}");
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn any_follower_prints_the_output_with_holes_where_it_says_and_the_join_keeps_head_and_tail(
            max in prop_oneof![Just(4096_u64), 1024_u64..50_000],
            steps in steps(),
            splices: bool,
            crash in crash(),
            reads in prop_oneof![Just(512_usize), 1_usize..9000],
        ) {
            let place = Place::new();
            let mut sink = place.sink(Capture::All, max);
            sink.splices = splices;
            let (reader, writer) = crate::exec::spawn::output::pipe().unwrap();
            let mut writer = File::from(writer);
            let mut all = Vec::new();
            let mut followers = VecDeque::from([Follower::of(&place, 0)]);
            let mut most = max.max(1024);
            for step in steps {
                match step {
                    Step::Write(size) => {
                        let bytes = output(all.len(), size);
                        sink.write(&bytes);
                        all.extend(bytes);
                    }
                    Step::Pipe(size) => {
                        let bytes = output(all.len(), size);
                        writer.write_all(&bytes).unwrap();
                        prop_assert_eq!(drain(reader.as_fd(), &mut Vec::new(), &mut sink).unwrap(), Drained::Empty);
                        all.extend(bytes);
                    }
                    Step::Follow(which, times) => {
                        let which = which % followers.len();
                        (0..times).for_each(|_| { followers[which].read(&all, reads, false); });
                    }
                    Step::Restart(max) => {
                        drop(sink);
                        sink = place.resumed(max);
                        sink.splices = splices;
                        prop_assert_eq!(sink.total, all.len() as u64);
                        most = most.max(max);
                    }
                    Step::Begin(part) => {
                        let from = all.len() * usize::from(part) / 255;
                        followers.push_back(Follower::of(&place, from as u64));
                    }
                }
                prop_assert_eq!(sink.trouble(), None);
                prop_assert!(place.size() <= most + (8 << 10).max(sink.layout.tail() / 2), "{} of {}", place.size(), most);
            }
            // Those that read while it is joined, where it stops, and those that come after it.
            let layout = sink.layout;
            interrupt(&place, &sink, &all, crash);
            let mut during = Follower::of(&place, 0);
            while during.read(&all, reads, true) {}
            for follower in followers.iter_mut().take(2) {
                while follower.read(&all, reads, true) {}
            }
            if matches!(crash, Crash::Never) {
                sink.finish(false).unwrap();
            } else {
                logs::recover(&sink.dir, &place.paths).unwrap();
            }
            let file = place.file().unwrap_or_default();
            prop_assert!(!place.has_segments());
            prop_assert_eq!(&file, &joined(layout, &all));
            prop_assert!(file.len() as u64 <= most);
            for follower in &mut followers {
                while follower.read(&all, reads, true) {}
                prop_assert_eq!(follower.reader.offset(), all.len() as u64);
            }
            prop_assert_eq!(during.reader.offset(), all.len() as u64);
            // One that reads it all afterwards prints the file.
            let mut late = Follower::of(&place, 0);
            while late.read(&all, reads, true) {}
            prop_assert_eq!(&late.printed, &file);
            prop_assert_eq!(late.cuts, layout.cut(all.len() as u64));
            // The state of a run that is pruned.
            logs::remove(&sink.dir, &place.paths).unwrap();
            prop_assert_eq!(place.size(), 0);
        }

        #[test]
        fn output_held_back_in_memory_keeps_head_and_tail(chunks in prop::collection::vec(1_usize..3000, 0..40), max in 1024_u64..9000) {
            let place = Place::new();
            let mut sink = place.sink(Capture::OnFailure, max);
            let mut all = Vec::new();
            for size in chunks {
                let bytes = output(all.len(), size);
                sink.write(&bytes);
                all.extend(bytes);
                prop_assert_eq!(place.size(), 0);
            }
            sink.finish(false).unwrap();
            prop_assert_eq!(place.file().unwrap_or_default(), joined(sink.layout, &all));
            prop_assert!(place.size() <= max);
        }
    }
}
