//! The text of a file, and the line and column of a byte.

use std::cell::{Cell, OnceCell};
use std::path::Path;

/// A text with its path. Lines are counted on the first request for a position, which a right file never gets.
#[derive(Debug)]
pub(super) struct Source<'t> {
    path: &'t Path,
    text: &'t str,
    /// The offset of the first byte of each line.
    lines: OnceCell<Vec<usize>>,
    /// The last offset and its column, from which the next one on the same line is counted: lines may have a million
    /// characters.
    last: Cell<(usize, usize)>,
}

/// A place as editors count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) line: usize,
    /// Counted from 1, in characters.
    pub(super) column: usize,
}

impl<'t> Source<'t> {
    pub(super) fn new(path: &'t Path, text: &'t str) -> Source<'t> {
        Source { path, text, lines: OnceCell::new(), last: Cell::new((0, 0)) }
    }

    pub(super) fn path(&self) -> &'t Path {
        self.path
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let newlines = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect()
        })
    }

    /// The nearest character boundary at or before `offset`.
    pub(super) fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = self.floor(offset);
        let lines = self.lines();
        let line = lines.partition_point(|start| *start <= offset).max(1);
        let start = lines[line - 1];
        let (known_at, known_column) = self.last.get();
        let (from, column) = if (start..=offset).contains(&known_at) { (known_at, known_column) } else { (start, 0) };
        let column = column + self.text[from..offset].chars().count();
        self.last.set((offset, column));
        Position { line, column: column + 1 }
    }

    /// The offset of the first byte of a line, counted from 1, and its text without the line end.
    pub(super) fn line(&self, line: usize) -> (usize, &'t str) {
        let lines = self.lines();
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = lines.get(line).map_or(self.text.len(), |next| next - 1);
        let text = &self.text[start..end];
        (start, text.strip_suffix('\r').unwrap_or(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_in_lines_and_characters_in_any_order() {
        let source = Source::new(Path::new("f"), "aü b\r\n\nc");
        let at = |offset| {
            let Position { line, column } = source.position(offset);
            (line, column)
        };
        assert_eq!([at(0), at(1), at(2), at(3), at(4)], [(1, 1), (1, 2), (1, 2), (1, 3), (1, 4)]);
        assert_eq!([at(8), at(7), at(1), at(99)], [(3, 1), (2, 1), (1, 2), (3, 2)]);
        assert_eq!([source.line(1), source.line(2), source.line(3), source.line(4)], [(0, "aü b"), (7, ""), (8, "c"), (9, "")]);
    }
}
