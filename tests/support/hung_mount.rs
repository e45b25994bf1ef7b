//! A file system that stops answering, as an NFS mount does whose server is gone: a FUSE server in the test's own process,
//! spoken to by `/dev/fuse` itself (`include/uapi/linux/fuse.h`, protocol 7.31). Needs root.
//!
//! It is a small tree in memory that can be read, written and executed. While it hangs, requests are read and kept: a process
//! whose request was read waits for its answer in D state, where not even SIGKILL ends it (`request_wait_answer` in
//! `fs/fuse/dev.c`). [`HungMount::answer`] answers what was kept, in order.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc;

use crate::skip;

const ROOT: u64 = 1;

/// How long a request of a process under test may take to come.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The mounted file system. Dropped, it is unmounted, and every request that waits fails.
pub struct HungMount {
    at: PathBuf,
    fuse: Arc<File>,
    /// Of the mounted file system, whose minor number names its directory in `/sys/fs/fuse/connections`.
    device: u64,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    tree: Mutex<Tree>,
    /// A request was kept.
    asked: Condvar,
}

#[derive(Clone)]
struct Node {
    kind: Kind,
    mode: u32,
    mtime: Duration,
}

#[derive(Clone)]
enum Kind {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, u64>),
}

struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    hangs: bool,
    kept: Vec<Vec<u8>>,
}

impl HungMount {
    /// Mounts an empty directory at `at`, which exists. `None`, with the calling test counted as skipped, where that is not
    /// possible.
    pub fn new(at: &Path) -> Option<HungMount> {
        if !nix::unistd::geteuid().is_root() {
            skip::skip("a FUSE mount needs root");
            return None;
        }
        let fuse = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(fuse) => Arc::new(fuse),
            Err(error) => {
                skip::skip(format_args!("/dev/fuse can't be opened: {error}"));
                return None;
            }
        };
        let target = CString::new(at.as_os_str().as_bytes()).expect("a path");
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        let options = CString::new(options).expect("options");
        // SAFETY: four strings that end with a NUL and live until the call returns.
        let mounted = unsafe {
            libc::mount(c"hung".as_ptr(), target.as_ptr(), c"fuse.hung".as_ptr(), 0, options.as_ptr().cast::<libc::c_void>())
        };
        if mounted != 0 {
            skip::skip(format_args!("FUSE can't be mounted: {}", std::io::Error::last_os_error()));
            return None;
        }
        let root = Node { kind: Kind::Directory(BTreeMap::new()), mode: 0o755, mtime: now() };
        let tree = Tree { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, hangs: false, kept: Vec::new() };
        let shared = Arc::new(Shared { tree: Mutex::new(tree), asked: Condvar::new() });
        let (its_fuse, its_shared) = (Arc::clone(&fuse), Arc::clone(&shared));
        let server = std::thread::spawn(move || serve(&its_fuse, &its_shared));
        let mut mount = HungMount { at: at.to_owned(), fuse, device: 0, shared, server: Some(server) };
        mount.device = std::fs::metadata(at).expect("the mounted directory").dev();
        Some(mount)
    }

    /// Creates a directory, and those above it.
    pub fn dir(&self, path: &str) {
        self.tree().directory(path);
    }

    /// Creates or replaces a file, whether or not the file system hangs.
    pub fn file(&self, path: &str, contents: &str, mode: u32) {
        let mut tree = self.tree();
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.directory(above);
        tree.add(parent, name.as_bytes(), Kind::File(contents.as_bytes().to_vec()), mode);
    }

    /// The contents of a file; `None` if it does not exist.
    pub fn read(&self, path: &str) -> Option<String> {
        let tree = self.tree();
        let found = path.split('/').try_fold(ROOT, |at, name| tree.child(at, name.as_bytes()))?;
        match &tree.nodes.get(&found)?.kind {
            Kind::File(contents) => Some(String::from_utf8_lossy(contents).into_owned()),
            Kind::Directory(_) => None,
        }
    }

    /// From now on nothing is answered.
    pub fn hang(&self) {
        self.tree().hangs = true;
    }

    /// Answers what was asked meanwhile, and everything from now on.
    pub fn answer(&self) {
        let mut tree = self.tree();
        tree.hangs = false;
        for request in std::mem::take(&mut tree.kept) {
            tree.reply(&self.fuse, &request);
        }
    }

    /// The number of requests that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.tree().kept.len()
    }

    /// Waits until so many requests wait for an answer.
    pub fn wait_until_asked(&self, count: usize) {
        let waits = |tree: &mut Tree| tree.kept.len() < count;
        let (tree, timeout) = self.shared.asked.wait_timeout_while(self.tree(), TEST_TIMEOUT, waits).expect("a live server");
        assert!(!timeout.timed_out(), "{} requests, not {count}", tree.kept.len());
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.shared.tree.lock().expect("a live server")
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // Every request fails, and a process in D state goes on. The same happens below, where fusectl is not mounted.
        let connection = format!("/sys/fs/fuse/connections/{}/abort", libc::minor(self.device));
        let _ = std::fs::write(connection, "1");
        let target = CString::new(self.at.as_os_str().as_bytes()).expect("a path");
        // SAFETY: a string that ends with a NUL and lives until the call returns.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Answers until the connection ends: read(2) says ENODEV then.
fn serve(fuse: &File, shared: &Shared) {
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let mut reader = fuse;
        match reader.read(&mut buffer) {
            Ok(length) => {
                let request = &buffer[..length];
                let mut tree = shared.tree.lock().expect("a live test");
                if tree.hangs && number(request, 4) != INIT as u64 {
                    // These two have no answer.
                    if ![FORGET, INTERRUPT, BATCH_FORGET].contains(&opcode(request)) {
                        tree.kept.push(request.to_vec());
                        shared.asked.notify_all();
                    }
                } else {
                    tree.reply(fuse, request);
                }
            }
            // ENOENT: the request was interrupted before it was read.
            Err(error) if [Some(libc::ENOENT), Some(libc::EINTR), Some(libc::EAGAIN)].contains(&error.raw_os_error()) => {}
            Err(_) => return,
        }
    }
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FSYNCDIR: u32 = 30;
const ACCESS: u32 = 34;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const RENAME2: u32 = 45;

/// Bytes of `fuse_in_header`.
const HEADER: usize = 40;

type Answer = Result<Vec<u8>, i32>;

fn opcode(request: &[u8]) -> u32 {
    u32::try_from(number(request, 4)).expect("a 32-bit field")
}

/// A 32-bit field.
fn number(request: &[u8], at: usize) -> u64 {
    u32::from_ne_bytes(request[at..at + 4].try_into().expect("a whole request")).into()
}

/// A 64-bit field.
fn long(request: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(request[at..at + 8].try_into().expect("a whole request"))
}

/// The names from `at` on, each ended by a NUL.
fn names(request: &[u8], at: usize) -> Vec<&[u8]> {
    request[at..].split(|byte| *byte == 0).collect()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

impl Tree {
    fn directory(&mut self, path: &str) -> u64 {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT, |at, name| match self.child(at, name.as_bytes()) {
            Some(found) => found,
            None => self.add(at, name.as_bytes(), Kind::Directory(BTreeMap::new()), 0o755),
        })
    }

    fn children(&mut self, of: u64) -> Result<&mut BTreeMap<Vec<u8>, u64>, i32> {
        match &mut self.nodes.get_mut(&of).ok_or(libc::ENOENT)?.kind {
            Kind::Directory(children) => Ok(children),
            Kind::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn child(&self, of: u64, name: &[u8]) -> Option<u64> {
        match &self.nodes.get(&of)?.kind {
            Kind::Directory(children) => children.get(name).copied(),
            Kind::File(_) => None,
        }
    }

    fn add(&mut self, parent: u64, name: &[u8], kind: Kind, mode: u32) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { kind, mode, mtime: now() });
        self.children(parent).expect("a directory").insert(name.to_vec(), id);
        id
    }

    fn reply(&mut self, fuse: &File, request: &[u8]) {
        if [FORGET, INTERRUPT, BATCH_FORGET].contains(&opcode(request)) {
            return;
        }
        let (error, body) = match self.answer(request) {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("a short answer");
        let mut reply = length.to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(long(request, 8).to_ne_bytes());
        reply.extend(body);
        let mut writer = fuse;
        // ENOENT: nobody waits for it any more.
        let _ = writer.write(&reply);
    }

    fn answer(&mut self, request: &[u8]) -> Answer {
        let node = long(request, 16);
        match opcode(request) {
            INIT => {
                let mut body = Vec::new();
                let ahead = u32::try_from(number(request, HEADER + 8)).expect("a 32-bit field");
                [7, 31, ahead, 0].iter().for_each(|field: &u32| body.extend(field.to_ne_bytes()));
                [12_u16, 10].iter().for_each(|field| body.extend(field.to_ne_bytes()));
                [65_536_u32, 1].iter().for_each(|field| body.extend(field.to_ne_bytes()));
                body.resize(64, 0);
                Ok(body)
            }
            GETATTR => self.attributes(node),
            LOOKUP => {
                let name = names(request, HEADER)[0];
                self.entry(self.child(node, name).ok_or(libc::ENOENT)?)
            }
            SETATTR => self.set_attributes(node, request),
            OPEN | OPENDIR => Ok(vec![0; 16]),
            READ => self.read_file(node, request),
            READDIR => self.read_directory(node, request),
            WRITE => self.write_file(node, request),
            MKDIR => {
                let mode = u32::try_from(number(request, HEADER)).expect("a 32-bit field") & 0o7777;
                let name = names(request, HEADER + 8)[0].to_vec();
                self.children(node)?;
                let made = self.add(node, &name, Kind::Directory(BTreeMap::new()), mode);
                self.entry(made)
            }
            CREATE => {
                let mode = u32::try_from(number(request, HEADER + 4)).expect("a 32-bit field") & 0o7777;
                let name = names(request, HEADER + 16)[0].to_vec();
                self.children(node)?;
                let made = self.add(node, &name, Kind::File(Vec::new()), mode);
                let mut body = self.entry(made)?;
                body.extend([0; 16]);
                Ok(body)
            }
            UNLINK | RMDIR => {
                let name = names(request, HEADER)[0];
                self.children(node)?.remove(name).map(|_| Vec::new()).ok_or(libc::ENOENT)
            }
            RENAME | RENAME2 => {
                let skipped = if opcode(request) == RENAME { 8 } else { 16 };
                let names = names(request, HEADER + skipped);
                let moved = self.children(node)?.remove(names[0]).ok_or(libc::ENOENT)?;
                self.children(long(request, HEADER))?.insert(names[1].to_vec(), moved);
                Ok(Vec::new())
            }
            STATFS => {
                let mut body = Vec::new();
                [1_000_u64, 900, 900, 1_000, 900].iter().for_each(|field| body.extend(field.to_ne_bytes()));
                [4_096_u32, 255, 4_096].iter().for_each(|field| body.extend(field.to_ne_bytes()));
                body.resize(80, 0);
                Ok(body)
            }
            RELEASE | RELEASEDIR | FLUSH | FSYNC | FSYNCDIR | ACCESS => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        }
    }

    /// `fuse_attr`.
    fn attr(&self, id: u64) -> Answer {
        let node = self.nodes.get(&id).ok_or(libc::ENOENT)?;
        let (kind, size) = match &node.kind {
            Kind::File(contents) => (0o100_000, contents.len() as u64),
            Kind::Directory(_) => (0o040_000, 0),
        };
        let mut body = Vec::new();
        let at = node.mtime.as_secs();
        [id, size, size.div_ceil(512), at, at, at].iter().for_each(|field| body.extend(field.to_ne_bytes()));
        let nanos = node.mtime.subsec_nanos();
        [nanos, nanos, nanos, kind | node.mode, 1, 0, 0, 0, 4_096, 0].iter().for_each(|field| body.extend(field.to_ne_bytes()));
        Ok(body)
    }

    /// `fuse_attr_out`, valid for no time, so that each look at a file asks.
    fn attributes(&self, id: u64) -> Answer {
        let mut body = vec![0; 16];
        body.extend(self.attr(id)?);
        Ok(body)
    }

    /// `fuse_entry_out`, valid for no time.
    fn entry(&self, id: u64) -> Answer {
        let mut body = id.to_ne_bytes().to_vec();
        body.resize(40, 0);
        body.extend(self.attr(id)?);
        Ok(body)
    }

    fn set_attributes(&mut self, id: u64, request: &[u8]) -> Answer {
        let node = self.nodes.get_mut(&id).ok_or(libc::ENOENT)?;
        let valid = number(request, HEADER);
        if valid & 1 != 0 {
            node.mode = u32::try_from(number(request, HEADER + 68)).expect("a 32-bit field") & 0o7777;
        }
        if let (true, Kind::File(contents)) = (valid & 8 != 0, &mut node.kind) {
            contents.resize(usize::try_from(long(request, HEADER + 16)).expect("a small file"), 0);
        }
        self.attributes(id)
    }

    fn read_file(&self, id: u64, request: &[u8]) -> Answer {
        let Kind::File(contents) = &self.nodes.get(&id).ok_or(libc::ENOENT)?.kind else { return Err(libc::EISDIR) };
        let from = usize::try_from(long(request, HEADER + 8)).expect("a small file").min(contents.len());
        let size = usize::try_from(number(request, HEADER + 16)).expect("a small file");
        Ok(contents[from..(from + size).min(contents.len())].to_vec())
    }

    fn write_file(&mut self, id: u64, request: &[u8]) -> Answer {
        let node = self.nodes.get_mut(&id).ok_or(libc::ENOENT)?;
        let Kind::File(contents) = &mut node.kind else { return Err(libc::EISDIR) };
        let from = usize::try_from(long(request, HEADER + 8)).expect("a small file");
        let data = &request[HEADER + 40..];
        contents.resize(contents.len().max(from + data.len()), 0);
        contents[from..from + data.len()].copy_from_slice(data);
        node.mtime = now();
        let mut body = u32::try_from(data.len()).expect("a small write").to_ne_bytes().to_vec();
        body.resize(8, 0);
        Ok(body)
    }

    /// Entries from an offset on, which counts them.
    fn read_directory(&self, id: u64, request: &[u8]) -> Answer {
        let Kind::Directory(children) = &self.nodes.get(&id).ok_or(libc::ENOENT)?.kind else { return Err(libc::ENOTDIR) };
        let from = usize::try_from(long(request, HEADER + 8)).expect("a small directory");
        let size = usize::try_from(number(request, HEADER + 16)).expect("a small directory");
        let mut body = Vec::new();
        for (index, (name, child)) in children.iter().enumerate().skip(from) {
            let kind: u32 = if matches!(self.nodes[child].kind, Kind::Directory(_)) { 4 } else { 8 };
            let mut entry = child.to_ne_bytes().to_vec();
            entry.extend((index as u64 + 1).to_ne_bytes());
            entry.extend(u32::try_from(name.len()).expect("a short name").to_ne_bytes());
            entry.extend(kind.to_ne_bytes());
            entry.extend(name);
            entry.resize(entry.len().next_multiple_of(8), 0);
            if body.len() + entry.len() > size {
                break;
            }
            body.extend(entry);
        }
        Ok(body)
    }
}
