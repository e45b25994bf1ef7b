//! How a request is carried out, with plain std code.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::AddWatchFlags;

use super::file_stat::{FileStat, is_local};
use super::local::open_local;
use super::protocol::{Answer, Entry, EntryKind, MAX_PATHS_BYTES, Request};
use crate::exec::{add_watch, send_packet};
use crate::files::{self, Sync};

/// Silence must not look like a hang.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Bytes that are copied, and made durable, between two reports.
const CHUNK: usize = 1024 * 1024;

/// Bytes of an entry or of a file's numbers in a packet, besides its name; rounded up.
const ENTRY_COST: usize = 64;

/// The way back to the one who asked.
pub(super) struct Replies<'a> {
    socket: BorrowedFd<'a>,
    last: Instant,
}

impl<'a> Replies<'a> {
    pub fn new(socket: BorrowedFd<'a>) -> Replies<'a> {
        Replies { socket, last: Instant::now() }
    }

    fn send(&mut self, answer: &Answer, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.last = Instant::now();
        send_packet(self.socket, &answer.to_bytes(), fd)
    }

    /// True when it is time for a sign of life.
    fn is_due(&self) -> bool {
        self.last.elapsed() >= REPORT_EVERY
    }

    fn working(&mut self) -> io::Result<()> {
        if self.is_due() { self.send(&Answer::Working, None) } else { Ok(()) }
    }
}

/// Carries out a request and answers it.
///
/// # Errors
/// When nobody takes the answer.
pub(super) fn carry_out(request: &Request, fd: Option<OwnedFd>, replies: &mut Replies<'_>) -> io::Result<()> {
    let last = match work(request, fd, replies) {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(errno_of(&error)),
    };
    replies.send(&last, None)
}

/// Errors of std that no system call reported are rare here: a write of no bytes, a path with a NUL byte.
fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn work(request: &Request, fd: Option<OwnedFd>, replies: &mut Replies<'_>) -> io::Result<()> {
    let descriptor = |fd: Option<OwnedFd>| fd.map(File::from).ok_or(Errno::EBADF);
    match request {
        Request::Locate(path) => {
            let path = fs::canonicalize(path)?;
            // NOTDIR, where that is due.
            open_path(&path, libc::O_DIRECTORY)?;
            let is_local = is_local_all_the_way(&path);
            replies.send(&Answer::Located { path, is_local }, None)
        }
        Request::List { path, mask } => {
            if let Some(inotify) = fd {
                let watched = add_watch(inotify.as_fd(), path, AddWatchFlags::from_bits_truncate(*mask));
                replies.send(&Answer::Watched(watched.map_err(|error| errno_of(&error))), None)?;
            }
            list(path, replies)
        }
        Request::Stat(paths) => stat_all(paths, replies),
        Request::WatchAncestor { path, mask } => {
            let (inotify, mask) = (descriptor(fd)?, AddWatchFlags::from_bits_truncate(*mask));
            let watch = path.ancestors().skip(1).find_map(|ancestor| add_watch(inotify.as_fd(), ancestor, mask).ok());
            replies.send(&Answer::Watched(watch.ok_or(libc::ENOENT)), None)
        }
        Request::Put { path, mode, durable, keep_as } => {
            put(path, &descriptor(fd)?, *mode, *durable, keep_as.as_deref(), replies)
        }
        Request::Get(path) => copy(&File::open(path)?, &descriptor(fd)?, false, replies),
        Request::Remove(path) => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    }
}

fn open_path(path: &Path, flags: libc::c_int) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | flags).open(path)
}

/// True if the path, which has no links, leads over local file systems only.
fn is_local_all_the_way(path: &Path) -> bool {
    let is_local_there = |path: &Path| -> io::Result<bool> {
        let kind = nix::sys::statfs::fstatfs(open_path(path, libc::O_DIRECTORY)?)?.filesystem_type().0;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "the type of `f_type` differs between machines; its values are 32 bits"
        )]
        Ok(is_local(kind as u32))
    };
    // The last one fails on kernels without openat2(2).
    path.ancestors().all(|path| is_local_there(path).unwrap_or(false)) && open_local(path).is_ok()
}

fn list(path: &Path, replies: &mut Replies<'_>) -> io::Result<()> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(path)? {
        let found = match entry {
            Ok(entry) => kind_of(&entry).map(|kind| Entry { name: entry.file_name(), kind }),
            Err(_) => Some(Entry { name: "".into(), kind: EntryKind::Unreadable }),
        };
        let Some(found) = found else { continue };
        bytes += found.name.len() + ENTRY_COST;
        entries.push(found);
        if bytes >= MAX_PATHS_BYTES || replies.is_due() {
            replies.send(&Answer::Entries(std::mem::take(&mut entries)), None)?;
            bytes = 0;
        }
    }
    if entries.is_empty() { Ok(()) } else { replies.send(&Answer::Entries(entries), None) }
}

/// What an entry is, without following a link, which may lead to another mount that hangs; `None` for what is neither a file,
/// a directory nor a link, or was removed meanwhile.
fn kind_of(entry: &DirEntry) -> Option<EntryKind> {
    let kind = match entry.file_type() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => return Some(EntryKind::Unreadable),
        Ok(kind) => kind,
    };
    if kind.is_dir() {
        return Some(EntryKind::Directory);
    }
    if kind.is_symlink() {
        return Some(EntryKind::Link);
    }
    match entry.metadata() {
        Ok(meta) => Some(EntryKind::File(FileStat::new(&meta, false))).filter(|_| meta.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(EntryKind::Unreadable),
    }
}

fn stat_all(paths: &[PathBuf], replies: &mut Replies<'_>) -> io::Result<()> {
    let mut stats = Vec::new();
    for path in paths {
        let is_link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        stats.push(fs::metadata(path).map(|meta| FileStat::new(&meta, is_link)).map_err(|error| errno_of(&error)));
        if stats.len() * ENTRY_COST >= MAX_PATHS_BYTES || replies.is_due() {
            replies.send(&Answer::Stats(std::mem::take(&mut stats)), None)?;
        }
    }
    if stats.is_empty() { Ok(()) } else { replies.send(&Answer::Stats(stats), None) }
}

fn put(path: &Path, from: &File, mode: u32, durable: bool, keep_as: Option<&Path>, replies: &mut Replies<'_>) -> io::Result<()> {
    if let (true, Some(directory)) = (durable, path.parent()) {
        DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
    }
    // What was kept once is not replaced by what has come since.
    if let Some(kept) = keep_as.filter(|kept| fs::symlink_metadata(kept).is_err()) {
        match fs::rename(path, kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    files::replace(path, if durable { Sync::Full } else { Sync::None }, |temporary| {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        copy(from, &file, durable, replies)
    })
}

/// Copies everything, from the beginning wherever the descriptor stands.
fn copy(from: &File, mut to: &File, durable: bool, replies: &mut Replies<'_>) -> io::Result<()> {
    let (mut buffer, mut at) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let length = match from.read_at(&mut buffer, at) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..length])?;
        let before = at / CHUNK as u64;
        at += length as u64;
        // A card takes seconds for what a page cache takes at once: many short waits, each with a sign of life.
        if durable && at / CHUNK as u64 > before {
            to.sync_data()?;
        }
        replies.working()?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::exec::{packet_pair, receive_packet};

    /// Every part of the answer to a request.
    fn ask(request: &Request, fd: Option<OwnedFd>) -> Vec<Answer> {
        let (here, there) = packet_pair().unwrap();
        let request = request.clone();
        let worker = std::thread::spawn(move || carry_out(&request, fd, &mut Replies::new(there.as_fd())).unwrap());
        let mut answers = Vec::new();
        while let Some((bytes, _)) = receive_packet(here.as_fd()).unwrap() {
            answers.push(Answer::from_bytes(&bytes).unwrap());
        }
        worker.join().unwrap();
        let ends = answers.iter().filter(|answer| answer.is_last()).count();
        assert!(ends == 1 && answers.last().is_some_and(Answer::is_last), "{answers:?}");
        answers
    }

    #[test]
    fn a_large_directory_is_listed_in_parts_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        (0..2_000).for_each(|n| fs::write(dir.path().join(format!("file-{n}")), "x").unwrap());
        fs::create_dir(dir.path().join("sub")).unwrap();
        symlink("sub", dir.path().join("link")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let answers = ask(&Request::List { path: dir.path().into(), mask: 0 }, None);
        let (mut files, mut others, mut parts) = (0, Vec::new(), 0);
        for answer in &answers {
            let Answer::Entries(entries) = answer else { continue };
            parts += 1;
            for entry in entries {
                match entry.kind {
                    EntryKind::File(stat) if stat.size == 1 => files += 1,
                    kind => others.push((entry.name.to_str().unwrap(), kind)),
                }
            }
        }
        others.sort_by_key(|(name, _)| *name);
        assert_eq!((files, &others[..]), (2_000, &[("link", EntryKind::Link), ("sub", EntryKind::Directory)][..]));
        assert!(parts > 2 && answers.last() == Some(&Answer::Done), "{parts} parts");
        let missing = ask(&Request::List { path: dir.path().join("nowhere"), mask: 0 }, None);
        assert_eq!(missing, [Answer::Failed(libc::ENOENT)]);
    }

    #[test]
    fn a_directory_is_local_if_nothing_on_the_way_to_it_may_hang() {
        let dir = tempfile::tempdir().unwrap();
        symlink(dir.path(), dir.path().join("link")).unwrap();
        let path = dir.path().canonicalize().unwrap();
        let here = Answer::Located { path, is_local: true };
        assert_eq!(ask(&Request::Locate(dir.path().join("link")), None), [here, Answer::Done]);
        // Neither a file system of a disk nor of memory.
        let proc = Answer::Located { path: "/proc".into(), is_local: false };
        assert_eq!(ask(&Request::Locate("/proc".into()), None), [proc, Answer::Done]);
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(ask(&Request::Locate(dir.path().join("file")), None), [Answer::Failed(libc::ENOTDIR)]);
    }

    #[test]
    fn files_are_looked_at_in_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "four").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        let paths = ["link", "nowhere", "a"].map(|name| dir.path().join(name)).to_vec();
        let answers = ask(&Request::Stat(paths), None);
        let [Answer::Stats(stats), Answer::Done] = &answers[..] else { panic!("{answers:?}") };
        let shown: Vec<_> = stats.iter().map(|stat| stat.map(|stat| (stat.size, stat.is_link, stat.is_file()))).collect();
        assert_eq!(shown, [Ok((4, true, true)), Err(libc::ENOENT), Ok((4, false, true))]);
    }

    #[test]
    fn a_file_is_put_fetched_kept_once_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kept) = (dir.path().join("new/deep/a"), dir.path().join("new/deep/kept"));
        let contents = |text: &str| -> OwnedFd {
            let file = dir.path().join("contents");
            fs::write(&file, text).unwrap();
            File::open(file).unwrap().into()
        };
        let put = |text: &str, keep_as: Option<&Path>| {
            let keep_as = keep_as.map(Path::to_owned);
            ask(&Request::Put { path: path.clone(), mode: 0o640, durable: true, keep_as }, Some(contents(text)))
        };
        assert_eq!(put("one", Some(&kept)), [Answer::Done]);
        assert_eq!((fs::read_to_string(&path).unwrap(), kept.exists()), ("one".into(), false));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(put("two", Some(&kept)), [Answer::Done]);
        // What was kept is not replaced by what has come since.
        assert_eq!(put("three", Some(&kept)), [Answer::Done]);
        assert_eq!((fs::read_to_string(&path).unwrap(), fs::read_to_string(&kept).unwrap()), ("three".into(), "one".into()));
        let copy = File::create(dir.path().join("copy")).unwrap();
        assert_eq!(ask(&Request::Get(path.clone()), Some(copy.into())), [Answer::Done]);
        assert_eq!(fs::read_to_string(dir.path().join("copy")).unwrap(), "three");
        assert_eq!(ask(&Request::Remove(path.clone()), None), [Answer::Done]);
        assert_eq!(ask(&Request::Remove(path.clone()), None), [Answer::Done]);
        assert_eq!(ask(&Request::Get(path), Some(contents(""))), [Answer::Failed(libc::ENOENT)]);
    }
}
