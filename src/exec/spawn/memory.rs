//! Memory that a child shares with the daemon until it has executed its program.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc;

use super::steps::Report;

/// The size of a child's stack in bytes: it calls a few functions, which make system calls. Pages that are not touched take no
/// memory.
const STACK: usize = 32 << 10;

/// How many unused slots are kept: as many processes start at once.
const KEPT: usize = 32;

fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: it takes a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(64 << 10)
    })
}

/// Pages of their own, zeroed, unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it owns its pages, as a boxed slice does.
unsafe impl Send for Mapping {}

impl Mapping {
    /// At least `length` bytes, which is not 0; `sharing` is `MAP_PRIVATE`, or `MAP_SHARED` to have the child of a fork write
    /// into the same pages.
    ///
    /// # Errors
    /// What mmap(2) said.
    pub fn new(length: usize, sharing: libc::c_int) -> io::Result<Mapping> {
        let flags = sharing | libc::MAP_ANONYMOUS;
        // SAFETY: new pages at an address of the kernel's choice change nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last().into());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Mapping { start, length })
    }

    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: its own pages, to which nobody has a pointer any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One child's stack, with a guard page below and its [`Report`] above.
#[derive(Debug)]
pub(super) struct Slot {
    mapping: Mapping,
    stack: usize,
}

/// Slots that no child uses.
static UNUSED: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

impl Slot {
    /// An unused slot, or a new one.
    ///
    /// # Errors
    /// What mmap(2) or mprotect(2) said.
    pub fn take() -> io::Result<Slot> {
        let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slot = match unused {
            Some(slot) => slot,
            None => Slot::new()?,
        };
        slot.report().clear();
        Ok(slot)
    }

    fn new() -> io::Result<Slot> {
        let guard = page_size();
        let stack = STACK.next_multiple_of(guard);
        let report = size_of::<Report>().next_multiple_of(guard);
        // Shared: the report of a child of fork(2) comes back through it.
        let mapping = Mapping::new(guard + stack + report, libc::MAP_SHARED)?;
        // SAFETY: the first page of pages of its own.
        Errno::result(unsafe { libc::mprotect(mapping.start().cast(), guard, libc::PROT_NONE) })?;
        Ok(Slot { mapping, stack })
    }

    /// The lowest address of the stack, and its size.
    pub fn stack(&self) -> (*mut u8, usize) {
        // SAFETY: the guard page is part of the mapping.
        (unsafe { self.mapping.start().add(page_size()) }, self.stack)
    }

    /// What the child says of itself.
    pub fn report(&self) -> &Report {
        // SAFETY: within the mapping and aligned to a page; zeros are a valid report, which consists of atomics and bytes
        // behind a cell.
        unsafe { &*self.mapping.start().add(page_size() + self.stack).cast::<Report>() }
    }

    /// No child uses it any more.
    pub fn give_back(self) {
        let mut unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < KEPT {
            unused.push(self);
        }
    }
}

/// Unmaps the slots that are not in use but for one, after a burst of starts.
pub(in crate::exec) fn trim() {
    UNUSED.lock().unwrap_or_else(PoisonError::into_inner).truncate(1);
}
