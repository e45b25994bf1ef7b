//! Fault injection: a VFS for SQLite (<https://www.sqlite.org/vfs.html>) around the usual one, which records the operations on
//! the files of a database and fails those that a test selects.
//!
//! It is the default VFS of the test binary, so the store needs no change for it.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::path::PathBuf;
use std::ptr;
use std::sync::Once;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

/// What was done to a file, by its name.
#[derive(Clone, Debug)]
pub enum Op {
    Write {
        file: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        to: u64,
    },
    Sync {
        file: PathBuf,
    },
    Delete {
        file: PathBuf,
    },
    /// Recorded by the test: this many commits have succeeded.
    Acknowledged(usize),
}

/// The operation that fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC before anything is written.
    NoSpace,
    /// EIO.
    Io,
    /// ENOSPC after half of the bytes.
    Short,
    /// fsync(2) fails.
    Sync,
}

#[derive(Default)]
struct World {
    recording: bool,
    ops: Vec<Op>,
    /// The fault, the number of calls before it, and the number of calls that fail.
    fault: Option<(Fault, usize, usize)>,
    failed: usize,
}

thread_local! {
    /// SQLite is used by the test's thread alone, so each test has faults of its own.
    static WORLD: RefCell<World> = RefCell::default();
}

/// Begins to write down.
pub fn record() {
    WORLD.with_borrow_mut(|world| {
        world.recording = true;
        world.ops.clear();
    });
}

/// What was done since.
pub fn recorded() -> Vec<Op> {
    WORLD.with_borrow_mut(|world| {
        world.recording = false;
        std::mem::take(&mut world.ops)
    })
}

pub fn acknowledge(commits: usize) {
    WORLD.with_borrow_mut(|world| world.note(|| Op::Acknowledged(commits)));
}

/// After `skip` calls that go well, `count` fail.
pub fn fail(fault: Fault, skip: usize, count: usize) {
    WORLD.with_borrow_mut(|world| {
        world.fault = Some((fault, skip, count));
        world.failed = 0;
    });
}

/// The number of calls that have failed so far.
pub fn refusals() -> usize {
    WORLD.with_borrow(|world| world.failed)
}

/// Ends the fault; returns the number of calls that failed.
pub fn heal() -> usize {
    WORLD.with_borrow_mut(|world| {
        world.fault = None;
        world.failed
    })
}

impl World {
    fn note(&mut self, op: impl FnOnce() -> Op) {
        if self.recording {
            self.ops.push(op());
        }
    }

    /// The fault with which a call fails, if it is one of these.
    fn fails(&mut self, concerned: &[Fault]) -> Option<Fault> {
        let (fault, skip, count) = self.fault.as_mut().filter(|(fault, _, _)| concerned.contains(fault))?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        *count = count.checked_sub(1)?;
        self.failed += 1;
        Some(*fault)
    }
}

/// A file of ours, with the real one's behind it in the same memory.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// Boxed, because SQLite neither constructs nor drops what is here.
    name: *mut PathBuf,
}

fn real_of(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite gives `szOsFile` bytes, which `install` sets to ours and the real VFS's together.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// Calls the same method of the real file.
macro_rules! real {
    ($file:expr, $method:ident ( $($arg:expr),* )) => {{
        let real = real_of($file);
        // SAFETY: the real file was opened by the real VFS, so its methods are set, and these are its arguments as
        // SQLite gave them to us.
        unsafe { (*(*real).pMethods).$method.map_or(ffi::SQLITE_ERROR, |method| method(real $(, $arg)*)) }
    }};
}

fn name_of(file: *mut sqlite3_file) -> PathBuf {
    // SAFETY: set by `open` before any other method can be called, freed by `close` after which none is.
    unsafe { (*(*file.cast::<File>()).name).clone() }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let code = real!(file, xClose());
    // SAFETY: made by Box::into_raw in `open`; SQLite closes a file once.
    drop(unsafe { Box::from_raw((*file.cast::<File>()).name) });
    code
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, amount: c_int, at: i64) -> c_int {
    real!(file, xRead(to, amount, at))
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, at: i64) -> c_int {
    let fault = WORLD.with_borrow_mut(|world| world.fails(&[Fault::NoSpace, Fault::Io, Fault::Short]));
    let written = match fault {
        Some(Fault::NoSpace) => return ffi::SQLITE_FULL,
        Some(Fault::Io) => return ffi::SQLITE_IOERR_WRITE,
        Some(_) => amount / 2,
        None => amount,
    };
    let code = real!(file, xWrite(from, written, at));
    // SAFETY: SQLite gives `amount` bytes, of which these are the first.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(written).unwrap_or(0)) };
    let op = || Op::Write { file: name_of(file), at: at.unsigned_abs(), bytes: bytes.to_vec() };
    WORLD.with_borrow_mut(|world| world.note(op));
    if written < amount { ffi::SQLITE_FULL } else { code }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, to: i64) -> c_int {
    WORLD.with_borrow_mut(|world| world.note(|| Op::Truncate { file: name_of(file), to: to.unsigned_abs() }));
    real!(file, xTruncate(to))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    if WORLD.with_borrow_mut(|world| world.fails(&[Fault::Sync])).is_some() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    WORLD.with_borrow_mut(|world| world.note(|| Op::Sync { file: name_of(file) }));
    // Power cuts are simulated from the recorded operations; a real fsync would only take time.
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    real!(file, xFileSize(size))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file, xLock(level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file, xUnlock(level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    real!(file, xCheckReservedLock(out))
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    real!(file, xFileControl(op, arg))
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    real!(file, xSectorSize())
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    real!(file, xDeviceCharacteristics())
}

unsafe extern "C" fn shm_map(file: *mut sqlite3_file, page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int {
    real!(file, xShmMap(page, size, extend, out.cast()))
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    real!(file, xShmLock(offset, count, flags))
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    let real = real_of(file);
    // SAFETY: as in `real!`.
    unsafe {
        if let Some(barrier) = (*(*real).pMethods).xShmBarrier {
            barrier(real);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    real!(file, xShmUnmap(delete))
}

/// Version 2: without xFetch, so that nothing is read or written past us through a mapping.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn real_vfs(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: `install` puts the real VFS there, which lives as long as the process.
    unsafe { (*vfs).pAppData.cast() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let real = real_vfs(vfs);
    // SAFETY: the real VFS's own xOpen with SQLite's arguments, and the part of the memory that is the real file's.
    let code = unsafe { (*real).xOpen.map_or(ffi::SQLITE_ERROR, |open| open(real, name, real_of(file), flags, out)) };
    let path = match name.is_null() {
        true => PathBuf::new(),
        // SAFETY: SQLite's names end with a NUL.
        false => PathBuf::from(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()),
    };
    // SAFETY: the memory is ours to fill; without methods SQLite does not call close.
    unsafe {
        let ours = file.cast::<File>();
        (*ours).base.pMethods = if code == ffi::SQLITE_OK { &raw const METHODS } else { ptr::null() };
        if code == ffi::SQLITE_OK {
            (*ours).name = Box::into_raw(Box::new(path));
        }
    }
    code
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite's names end with a NUL.
    let file = PathBuf::from(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
    WORLD.with_borrow_mut(|world| world.note(|| Op::Delete { file }));
    let real = real_vfs(vfs);
    // SAFETY: the real VFS's own method with SQLite's arguments.
    unsafe { (*real).xDelete.map_or(ffi::SQLITE_ERROR, |delete| delete(real, name, sync_dir)) }
}

/// Makes it the default VFS of this process, once.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default VFS lives as long as the process, and so does the copy that is leaked here. Every other method
        // of the copy is the real one's, which takes what it needs from its first argument's `pAppData`; the unix VFS
        // has there the function that finds its locking style, so those methods that look at it (xOpen, xDelete) are
        // ours and hand the real VFS over.
        unsafe {
            let real = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!real.is_null());
            let mut ours = Box::new(*real);
            ours.szOsFile += c_int::try_from(size_of::<File>()).unwrap_or(0);
            ours.zName = c"disk-that-fails".as_ptr();
            ours.pNext = ptr::null_mut();
            ours.pAppData = real.cast();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(ours), 1), ffi::SQLITE_OK);
        }
    });
}
