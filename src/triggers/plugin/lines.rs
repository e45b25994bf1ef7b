//! A stream of bytes cut into lines, in bounded memory and the same way however the bytes come.

/// Lines of what was pushed so far.
#[derive(Debug)]
pub(in crate::triggers) struct Lines {
    limit: usize,
    buffer: Vec<u8>,
    /// What comes before was handed out.
    start: usize,
    /// Where to look for the next newline.
    scanned: usize,
    /// The number of the last line that has ended.
    number: u64,
    /// The rest of a line that is too long is passed over.
    skipping: bool,
}

/// One line, its newline not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::triggers) struct Line<'a> {
    /// Counted from 1.
    pub number: u64,
    /// Its bytes; of one that is too long the first, as many as the limit allows.
    pub bytes: &'a [u8],
    pub is_too_long: bool,
}

impl Lines {
    /// For lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Lines {
        Lines { limit, buffer: Vec::new(), start: 0, scanned: 0, number: 0, skipping: false }
    }

    /// Takes what was read. Memory holds the limit and what is pushed at once, if all lines are taken before each push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that has ended, or is known to be too long.
    pub fn next(&mut self) -> Option<Line<'_>> {
        while let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let (start, end) = (self.start, self.scanned + at);
            self.start = end + 1;
            self.scanned = self.start;
            self.number += 1;
            if !std::mem::take(&mut self.skipping) {
                return Some(self.line(self.number, start, end));
            }
        }
        self.scanned = self.buffer.len();
        let start = self.start;
        if self.skipping || self.scanned - start > self.limit {
            self.start = self.scanned;
        }
        if !self.skipping && self.scanned - start > self.limit {
            self.skipping = true;
            return Some(self.line(self.number + 1, start, self.scanned));
        }
        if self.start == self.buffer.len() {
            // Between events a plugin costs no buffer.
            *self = Lines { number: self.number, skipping: self.skipping, ..Lines::new(self.limit) };
        }
        None
    }

    /// The stream has ended, and all lines that ended were taken: what is left, if it is anything. The count begins
    /// anew.
    pub fn finish(&mut self) -> Option<(u64, Vec<u8>)> {
        let ended = std::mem::replace(self, Lines::new(self.limit));
        let rest = &ended.buffer[ended.start..];
        (!ended.skipping && !rest.is_empty()).then(|| (ended.number + 1, rest.to_vec()))
    }

    fn line(&self, number: u64, start: usize, end: usize) -> Line<'_> {
        let is_too_long = end - start > self.limit;
        Line { number, bytes: &self.buffer[start..end.min(start + self.limit)], is_too_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 8;

    type Cut = (Vec<(u64, Vec<u8>, bool)>, Option<(u64, Vec<u8>)>);

    fn cut<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Cut {
        let mut lines = Lines::new(LIMIT);
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            while let Some(line) = lines.next() {
                found.push((line.number, line.bytes.to_vec(), line.is_too_long));
            }
            assert!(lines.buffer.len() - lines.start <= LIMIT, "no more than a line is kept");
        }
        (found, lines.finish())
    }

    /// The same by the book: split at newlines, keep the head of what is too long.
    fn expected(text: &[u8]) -> Cut {
        let mut pieces: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let rest = pieces.pop().unwrap_or_default();
        let head = |piece: &[u8]| (piece[..piece.len().min(LIMIT)].to_vec(), piece.len() > LIMIT);
        let mut lines: Vec<(u64, Vec<u8>, bool)> =
            (1..).zip(&pieces).map(|(number, piece)| (number, head(piece).0, head(piece).1)).collect();
        let number = pieces.len() as u64 + 1;
        if rest.len() > LIMIT {
            lines.push((number, head(rest).0, true));
            return (lines, None);
        }
        (lines, (!rest.is_empty()).then(|| (number, rest.to_vec())))
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole_and_one_more_byte_is_too_much() {
        let (lines, rest) = cut([&b"12345678\n123456789\nnext\nrest"[..]]);
        let whole: Vec<(u64, bool)> = lines.iter().map(|(number, _, too_long)| (*number, *too_long)).collect();
        assert_eq!(whole, [(1, false), (2, true), (3, false)]);
        assert_eq!(lines[1].1, b"12345678");
        assert_eq!(rest, Some((4, b"rest".to_vec())));
    }

    #[test]
    fn what_is_too_long_is_told_before_it_ends_and_only_once() {
        let mut lines = Lines::new(LIMIT);
        lines.push(b"123456789");
        assert!(lines.next().is_some_and(|line| line.is_too_long && line.number == 1));
        for _ in 0..3 {
            lines.push(b"and more and more");
            assert_eq!(lines.next(), None);
            assert_eq!(lines.buffer.len(), 0);
        }
        lines.push(b"\n2\n");
        assert_eq!(lines.next(), Some(Line { number: 2, bytes: b"2", is_too_long: false }));
        assert_eq!(lines.next(), None);
        assert_eq!(lines.buffer.capacity(), 0, "between events it costs nothing");
    }

    proptest! {
        #[test]
        fn any_chunking_of_the_bytes_gives_the_same_lines(
            text in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..200),
            cuts in prop::collection::vec(0_usize..200, 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]);
            prop_assert_eq!(cut(chunks), expected(&text));
        }
    }
}
