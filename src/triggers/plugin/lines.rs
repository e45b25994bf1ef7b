//! Splits a stream of bytes into lines, in bounded memory.

/// A line splitter.
#[derive(Debug)]
pub(in crate::triggers) struct Lines {
    limit: usize,
    buffer: Vec<u8>,
    /// The buffer before this index was returned.
    start: usize,
    /// Where to look for the next newline.
    scanned: usize,
    /// The number of the last complete line.
    number: u64,
    /// The rest of a line that is too long is skipped.
    skipping: bool,
}

/// One line, its newline not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::triggers) struct Line<'a> {
    /// Counted from 1.
    pub number: u64,
    /// Its bytes; the first `limit` bytes of one that is too long.
    pub bytes: &'a [u8],
    pub is_too_long: bool,
}

impl Lines {
    /// For lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Lines {
        Lines { limit, buffer: Vec::new(), start: 0, scanned: 0, number: 0, skipping: false }
    }

    /// Appends bytes. If all lines are taken before each push, memory holds at most the limit and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is complete, or known to be too long.
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
            // An idle plugin costs no buffer.
            *self = Lines { number: self.number, skipping: self.skipping, ..Lines::new(self.limit) };
        }
        None
    }

    /// At the end of the stream, after all complete lines: the rest, if there is any. Resets the splitter.
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
            assert!(lines.buffer.len() - lines.start <= LIMIT, "at most one line is buffered");
        }
        (found, lines.finish())
    }

    /// A model: split at newlines, truncate lines that are too long.
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
    fn a_line_of_exactly_the_limit_is_not_too_long() {
        let (lines, rest) = cut([&b"12345678\n123456789\nnext\nrest"[..]]);
        let whole: Vec<(u64, bool)> = lines.iter().map(|(number, _, too_long)| (*number, *too_long)).collect();
        assert_eq!(whole, [(1, false), (2, true), (3, false)]);
        assert_eq!(lines[1].1, b"12345678");
        assert_eq!(rest, Some((4, b"rest".to_vec())));
    }

    #[test]
    fn a_line_that_is_too_long_is_returned_once_before_it_ends() {
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
        assert_eq!(lines.buffer.capacity(), 0, "an idle splitter has no buffer");
    }

    proptest! {
        #[test]
        fn the_lines_do_not_depend_on_the_chunks(
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
