//! Releases memory that only the start needed and a daemon that sleeps for days should not keep: free memory in the
//! allocator's lists, and pages of the program itself. The kernel reclaims pages of a file that no process has mapped before
//! those that one has, and those of a program last of all: a box with little memory gets them back without a search.

use std::ops::Range;
use std::ptr;

use nix::libc;

/// Releases both to the kernel.
pub(super) fn trim() {
    trim_heap();
    // Only a matter of how much is counted as this process's: without /proc it stays as it is.
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in unwritten(&smaps) {
        let start = ptr::without_provenance_mut(range.start);
        // SAFETY: a private mapping of a file that this process can't write to and has no page of its own in, so that what
        // is dropped is read from the file's pages again, the same bytes, when it is used next (madvise(2)).
        unsafe { libc::madvise(start, range.end.saturating_sub(range.start), libc::MADV_DONTNEED) };
    }
}

/// Releases free memory where the C library holds on to it (malloc_trim(3), glibc); musl does not.
fn trim_heap() {
    // SAFETY: it takes a number, and only touches what the allocator itself has marked as free.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The mappings of files, as proc_pid_smaps(5) shows them, that may not be written to and of which no page was changed
/// before that, in memory or in swap: the program's code and constants and those of its libraries, but not what the linker has
/// filled in. None of them can get a page of its own after this look, for that takes a write.
fn unwritten(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping: Option<(Range<usize>, bool)> = None;
    for line in smaps.lines() {
        if let Some(head) = head_of(line) {
            mapping = head.map(|range| (range, false));
        } else if let Some(rest) = line.strip_prefix("Anonymous:") {
            // Pages of its own, written ones.
            mapping = mapping.take_if(|_| rest.trim() == "0 kB").map(|(range, _)| (range, true));
        } else if let Some(rest) = line.strip_prefix("Swap:")
            && let Some((range, true)) = mapping.take()
            && rest.trim() == "0 kB"
        {
            // It comes after `Anonymous`.
            found.push(range);
        }
    }
    found
}

/// `None` for a line that does not begin a mapping; its range if the mapping is one of a file and read-only.
fn head_of(line: &str) -> Option<Option<Range<usize>>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let is_read_only = matches!(fields.next(), Some("r-xp" | "r--p"));
    let is_of_file = fields.nth(2).is_some_and(|inode| inode != "0");
    Some((is_read_only && is_of_file).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0010000 r--p 00000000 fe:00 7   /usr/bin/firelink
Rss:                  64 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me sd
55d0c0010000-55d0c0020000 r-xp 00010000 fe:00 7   /usr/bin/firelink
Anonymous:             0 kB
Swap:                  0 kB
55d0c0020000-55d0c0030000 r--p 00020000 fe:00 7   /usr/bin/firelink
Anonymous:            64 kB
Swap:                  0 kB
55d0c0028000-55d0c0030000 r--p 00028000 fe:00 7   /usr/bin/firelink
Anonymous:             0 kB
Swap:                 32 kB
55d0c0030000-55d0c0040000 rw-p 00030000 fe:00 7   /usr/bin/firelink
Anonymous:             0 kB
7f0000000000-7f0000010000 r--p 00000000 00:00 0   [anon]
Anonymous:             0 kB
7f0000010000-7f0000020000 r--s 00000000 fe:00 8   /shared
Anonymous:             0 kB
";

    #[test]
    fn only_pages_that_can_be_read_from_a_file_again_are_dropped() {
        assert_eq!(unwritten(SMAPS), [0x55d0_c000_0000..0x55d0_c001_0000, 0x55d0_c001_0000..0x55d0_c002_0000]);
        assert!(unwritten("nonsense\n\nAnonymous: 0 kB\n").is_empty());
    }

    #[test]
    fn everything_works_as_before_when_all_of_it_is_dropped() {
        trim_heap();
        assert_eq!(crate::model::format_size(1 << 20), "1MiB");
    }
}
