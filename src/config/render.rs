//! A diagnostic as text: message, place, the line, a caret.
//!
//! ```text
//! error: unknown key `shedule`, did you mean `schedule`?
//!  --> firelink.yaml:4:5
//!   |
//! 4 |     shedule: "0 18 * * *"
//!   |     ^^^^^^^
//!   = help: ...
//! ```
//!
//! A renderer of our own, because the available ones weigh more than all of this room (annotate-snippets: 115 kB of a binary
//! that has 4 MB to spend), show long lines whole and lay out the help differently. The file may be hostile: its text is
//! shown without control characters, direction marks and endless lines.

use std::fmt::Write as _;
use std::path::Path;

use super::Severity;
use super::source::{Position, Source};
use crate::text::{REPLACEMENT, is_unprintable, printable};
use crate::triggers::Place;

/// The longest line that is shown whole, in characters; a longer one is cut around the caret.
const WIDTH: usize = 120;

/// How many characters of a cut line are shown before the caret.
const LEAD: usize = 40;

/// A second place with its label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) place: Place,
    pub(super) label: &'static str,
}

/// The columns of a terminal that a character takes: a rough table, since only the caret depends on it.
fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The whole diagnostic, without a final newline.
pub(super) fn render(
    source: &Source<'_>,
    severity: Severity,
    place: Place,
    message: &str,
    help: &str,
    also: Option<Note>,
) -> String {
    let primary = Mark { position: source.position(place.start), place, sign: '^', label: "" };
    let second =
        also.map(|note| Mark { position: source.position(note.place.start), place: note.place, sign: '-', label: note.label });
    let last_line = second.map_or(0, |mark| mark.position.line).max(primary.position.line);
    let margin = last_line.to_string().len();
    let Position { line, column } = primary.position;
    let mut text = title(severity, message);
    let _ = write!(text, "\n{:margin$}--> {}:{line}:{column}", "", path_text(source.path()));
    let _ = write!(text, "\n{:margin$} |", "");
    let mut marks = vec![primary];
    marks.extend(second);
    marks.sort_by_key(|mark| mark.position.line);
    let mut shown = None;
    for mark in marks {
        let line = mark.position.line;
        let excerpt = Excerpt::of(source, mark);
        if shown != Some(line) {
            if shown.is_some_and(|before| before + 1 < line) {
                text.push_str("\n...");
            }
            let _ = write!(text, "\n{line:>margin$} | {}", excerpt.line);
            text.truncate(text.trim_end().len());
        }
        shown = Some(line);
        let signs = mark.sign.to_string().repeat(excerpt.length);
        let _ = write!(text, "\n{:margin$} | {:indent$}{signs} {}", "", "", mark.label, indent = excerpt.indent);
        text.truncate(text.trim_end().len());
    }
    if !help.is_empty() {
        let _ = write!(text, "\n{:margin$} = help: {help}", "");
    }
    text
}

/// A diagnostic about a file that could not be read.
pub(super) fn render_unread(path: &Path, message: &str, help: &str) -> String {
    let mut text = format!("{}\n --> {}", title(Severity::Error, message), path_text(path));
    if !help.is_empty() {
        let _ = write!(text, "\n  = help: {help}");
    }
    text
}

fn title(severity: Severity, message: &str) -> String {
    let word = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!("{word}: {message}")
}

fn path_text(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A line of signs under a line of the file.
#[derive(Clone, Copy)]
struct Mark {
    position: Position,
    place: Place,
    sign: char,
    label: &'static str,
}

/// The shown part of a line, and the position of the signs under it, in terminal columns.
struct Excerpt {
    line: String,
    indent: usize,
    length: usize,
}

impl Excerpt {
    fn of(source: &Source<'_>, mark: Mark) -> Excerpt {
        let (line_start, line) = source.line(mark.position.line);
        let clip = |offset: usize| source.floor(offset).clamp(line_start, line_start + line.len()) - line_start;
        let start = clip(mark.place.start);
        let end = clip(mark.place.end).max(start);
        let (before, marked, after) = (&line[..start], &line[start..end], &line[end..]);

        // Only the shown part is iterated: the line may be as long as the file.
        let whole = line.len() <= WIDTH || line.chars().nth(WIDTH).is_none();
        let from = match before.char_indices().rev().nth(LEAD - 1) {
            Some((at, _)) if !whole => at,
            _ => 0,
        };
        let mut shown = String::from(if from > 0 { "..." } else { "" });
        let mut columns = shown.len();
        let mut room = if whole { usize::MAX } else { WIDTH };
        let mut push = |part: &str| {
            let before = columns;
            for c in part.chars() {
                if room == 0 {
                    break;
                }
                room -= 1;
                columns += if c == '\t' { 4 } else { width(c) };
                match c {
                    '\t' => shown.push_str("    "),
                    c if is_unprintable(c) => shown.push(REPLACEMENT),
                    c => shown.push(c),
                }
            }
            columns - before
        };
        push(&before[from..]);
        let length = push(marked);
        let rest = push(after);
        let indent = columns - length - rest;
        if room == 0 {
            shown.push_str("...");
        }
        Excerpt { line: shown, indent, length: length.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, start: usize, end: usize, help: &str, also: Option<(usize, usize)>) -> String {
        let source = Source::new(Path::new("f.yaml"), text);
        let also = also.map(|(start, end)| Note { place: Place { start, end }, label: "first defined here" });
        render(&source, Severity::Error, Place { start, end }, "it is wrong", help, also)
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        insta::assert_snapshot!(shown("a: b\nkey: välue # c\n", 10, 16, "right it", None), @r"
        error: it is wrong
         --> f.yaml:2:6
          |
        2 | key: välue # c
          |      ^^^^^
          = help: right it
        ");
    }

    #[test]
    fn both_places_of_a_contradiction_are_shown_in_the_order_of_the_file() {
        let text = "a: 1\nb: 2\n\na: 3\n";
        insta::assert_snapshot!(shown(text, 11, 12, "", Some((0, 1))), @r"
        error: it is wrong
         --> f.yaml:4:1
          |
        1 | a: 1
          | - first defined here
        ...
        4 | a: 3
          | ^
        ");
        insta::assert_snapshot!(shown("{a: 1, a: 2}", 7, 8, "", Some((1, 2))), @r"
        error: it is wrong
         --> f.yaml:1:8
          |
        1 | {a: 1, a: 2}
          |        ^
          |  - first defined here
        ");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        insta::assert_snapshot!(shown(&text, 500, 504, "", None), @r"
        error: it is wrong
         --> f.yaml:1:501
          |
        1 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxHEREyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
          |                                            ^^^^
        ");
    }

    #[test]
    fn tabs_wide_characters_and_control_characters_keep_the_caret_in_place() {
        insta::assert_snapshot!(shown("\t日本\u{1b}[1m\u{202e}x", 14, 15, "", None), @r"
        error: it is wrong
         --> f.yaml:1:9
          |
        1 |     日本�[1m�x
          |              ^
        ");
    }

    #[test]
    fn the_end_of_a_file_is_a_place_too() {
        insta::assert_snapshot!(shown("a: b\n", 5, 5, "", None), @r"
        error: it is wrong
         --> f.yaml:2:1
          |
        2 |
          | ^
        ");
    }
}
