//! Where the bytes of a log are: all of it follows from the size of its head.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The smallest limit with room for head, mark and tail, in bytes.
const SMALLEST: u64 = 1024;

/// The largest tail, in bytes: what is copied when a log is joined.
const TAIL_LIMIT: u64 = 256 * 1024;

/// Room for the line that marks the cut: its text and a number of 20 digits.
const MARK_ROOM: u64 = 64;

/// The smallest segment, in bytes: a block of most file systems.
const SMALLEST_SEGMENT: u64 = 4096;

/// The sizes of a log's parts.
///
/// They are computed from the head's size alone, so that a reader, or a daemon that goes on with the log of an earlier one,
/// needs the file and not the `max_size` of then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    head: u64,
}

impl Layout {
    /// That of a log which is `max_size` bytes at the most once its run has ended. A limit below 1 KiB counts as that.
    #[must_use]
    pub fn of_limit(max_size: u64) -> Layout {
        // Even, so that the head's size determines it.
        let size = max_size.max(SMALLEST) & !1;
        Layout { head: size - (size / 2).min(TAIL_LIMIT) - MARK_ROOM }
    }

    /// That of a log with a head of so many bytes.
    #[must_use]
    pub fn of_head(head: u64) -> Layout {
        Layout { head }
    }

    /// The bytes of the output that are always kept from its beginning on.
    #[must_use]
    pub fn head(self) -> u64 {
        self.head
    }

    /// The bytes that are always kept up to the end.
    #[must_use]
    pub fn tail(self) -> u64 {
        self.head.saturating_add(MARK_ROOM).min(TAIL_LIMIT)
    }

    /// The bytes of which nothing is cut.
    #[must_use]
    pub fn capacity(self) -> u64 {
        self.head.saturating_add(self.tail())
    }

    /// The size of each segment, in bytes.
    #[must_use]
    pub fn segment(self) -> u64 {
        self.tail().div_ceil(2).max(SMALLEST_SEGMENT)
    }

    /// The number of the segment with the byte at this offset of the output, which is behind the head; from 1.
    #[must_use]
    pub fn segment_of(self, offset: u64) -> u64 {
        offset.saturating_sub(self.head) / self.segment() + 1
    }

    /// The offset in the output of a segment's first byte.
    #[must_use]
    pub fn start_of(self, number: u64) -> u64 {
        self.head.saturating_add(number.saturating_sub(1).saturating_mul(self.segment()))
    }

    /// The oldest segment that has to be kept once this one has begun: it and those behind it hold a tail also while the newest
    /// is empty. With the newest itself that is less than two tails, or two of the smallest segments.
    #[must_use]
    pub fn oldest_kept(self, newest: u64) -> u64 {
        let from = self.start_of(newest).saturating_sub(self.tail());
        if from <= self.head { 1 } else { self.segment_of(from) }
    }

    /// How many bytes are cut from an output of this size when its log is joined.
    #[must_use]
    pub fn cut(self, total: u64) -> u64 {
        total.saturating_sub(self.capacity())
    }

    /// The size of the file into which an output of this size is joined.
    #[must_use]
    pub fn joined_size(self, total: u64) -> u64 {
        match self.cut(total) {
            0 => total,
            cut => self.capacity().saturating_add(mark(cut).len() as u64),
        }
    }

    /// The bytes that are cut from a joined log, if it was cut behind a head of this size.
    pub(super) fn cut_of(self, file: &File, size: u64) -> io::Result<Option<u64>> {
        let Some(length) = size.checked_sub(self.capacity()).filter(|length| *length < MARK_ROOM) else { return Ok(None) };
        let mut found = [0; MARK_ROOM as usize];
        let found = &mut found[..usize::try_from(length).unwrap_or_default()];
        match file.read_exact_at(found, self.head) {
            Ok(()) => Ok(parse_mark(found)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The layout of a joined log of this size, and the bytes that are cut from it; `None` if nothing is.
    ///
    /// The size says where the mark must be, for each length that its number can have, so that a mark in the output of a job
    /// that shows another log counts only if it is the very log, whole.
    pub(super) fn of_joined(file: &File, size: u64) -> io::Result<Option<(Layout, u64)>> {
        let shortest = mark(0).len() as u64;
        for length in shortest..shortest + 20 {
            let Some(capacity) = size.checked_sub(length) else { break };
            let head = if capacity >= 2 * TAIL_LIMIT - MARK_ROOM {
                capacity - TAIL_LIMIT
            } else if capacity.is_multiple_of(2) && capacity > MARK_ROOM {
                (capacity - MARK_ROOM) / 2
            } else {
                continue;
            };
            let layout = Layout::of_head(head);
            if let Some(cut) = layout.cut_of(file, size)? {
                return Ok(Some((layout, cut)));
            }
        }
        Ok(None)
    }
}

/// The line in the place of bytes that were cut.
#[must_use]
pub fn mark(cut: u64) -> String {
    format!("\n[firelink: {cut} bytes cut here]\n")
}

fn parse_mark(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"\n[firelink: ")?.strip_suffix(b" bytes cut here]\n")?;
    let cut = std::str::from_utf8(digits).ok()?.parse().ok()?;
    // Not with a sign or a leading zero, which are no marks of ours.
    (mark(cut).as_bytes() == bytes && cut > 0).then_some(cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mark_with_the_largest_number_has_room() {
        assert!((mark(u64::MAX).len() as u64) < MARK_ROOM);
        assert_eq!(parse_mark(mark(u64::MAX).as_bytes()), Some(u64::MAX));
        for other in
            ["\n[firelink: 007 bytes cut here]\n", "\n[firelink: +7 bytes cut here]\n", "\n[firelink: 0 bytes cut here]\n"]
        {
            assert_eq!(parse_mark(other.as_bytes()), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn the_heads_size_determines_the_rest(limit in prop_oneof![0..3_000_000_u64, any::<u64>()]) {
            let layout = Layout::of_limit(limit);
            prop_assert_eq!(Layout::of_head(layout.head()), layout);
            prop_assert_eq!(layout.tail(), ((limit.max(SMALLEST) & !1) / 2).min(TAIL_LIMIT));
            prop_assert!(layout.joined_size(u64::MAX) <= limit.max(SMALLEST));
        }

        #[test]
        fn the_segments_that_are_kept_hold_the_tail_and_not_much_more(limit in 0..3_000_000_u64, newest in 1..1000_u64) {
            let layout = Layout::of_limit(limit);
            let oldest = layout.oldest_kept(newest);
            prop_assert_eq!(layout.segment_of(layout.start_of(newest)), newest);
            prop_assert!(oldest <= newest);
            let begin = layout.start_of(newest);
            prop_assert!(oldest == 1 || begin - layout.start_of(oldest) >= layout.tail());
            // While the newest is full. The bound is the one that docs/configuration.md states.
            let most = layout.head() + begin + layout.segment() - layout.start_of(oldest);
            prop_assert!(most <= limit.max(SMALLEST) + (8 << 10).max(layout.tail() / 2), "{} of {}", most, limit);
        }
    }
}
