//! The one sanitizer: foreign text (of a file, a server, a plugin, a process) made fit for a terminal and a log line.
//!
//! Text that firelink did not write may hold escape sequences that move the cursor, marks that reverse the direction of
//! writing, or line ends that forge a log line. None of these survive here. Formats with escapes of their own (JSON, HTML,
//! Graphviz) use those, and [`is_unprintable`] for the characters that their escapes leave alone.

/// Stands for a character that is not shown (U+FFFD REPLACEMENT CHARACTER).
pub const REPLACEMENT: char = '\u{fffd}';

/// The longest text that [`quoted`] shows whole, in characters.
const LONGEST_QUOTE: usize = 60;

/// True for characters that act on a terminal instead of being shown: control characters (C0, DEL, C1), line and
/// paragraph separators, zero-width characters, and marks that change the direction of writing.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text as one line: tabs and line ends are spaces, any other unprintable character is [`REPLACEMENT`].
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// As [`printable`], and cut after `limit` characters with an ellipsis for the rest.
#[must_use]
pub fn clipped(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(shown);
    let mut clipped: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        clipped.push('…');
    }
    clipped
}

/// The text in backticks, as messages quote it: on one line, its line ends and tabs as `\n` and `\t`, cut after 60
/// characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("`");
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == LONGEST_QUOTE => {
                quoted.push('…');
                break;
            }
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(shown(c)),
        }
    }
    quoted.push('`');
    quoted
}

fn shown(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => ' ',
        c if is_unprintable(c) => REPLACEMENT,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_and_direction_marks_are_replaced_and_line_ends_are_spaces() {
        assert_eq!(printable("a\u{1b}[1mb\u{202e}c\u{9b}d"), "a\u{fffd}[1mb\u{fffd}c\u{fffd}d");
        assert_eq!(printable("one\r\ntwo\tthree"), "one  two three");
        assert_eq!(printable("é日本 𝄞"), "é日本 𝄞");
    }

    #[test]
    fn a_long_text_is_cut_with_an_ellipsis() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcd", 3), "abc…");
        assert_eq!(clipped("é\u{7}x", 2), "é\u{fffd}…");
        assert_eq!(quoted(&"x".repeat(60)), format!("`{}`", "x".repeat(60)));
        assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn a_quotation_shows_line_ends_and_tabs_as_escapes() {
        assert_eq!(quoted("a\n\tb\u{1b}"), "`a\\n\\tb\u{fffd}`");
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left(text: String) {
            prop_assert!(![printable(&text), clipped(&text, 10), quoted(&text)].concat().contains(is_unprintable));
        }
    }
}
