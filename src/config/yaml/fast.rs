//! The fast path: the part of YAML that nearly every configuration is written in, in one pass.
//!
//! A full parser has tokens, a queue of them and states, which was most of a start with ten thousand jobs. This reader knows
//! blocks by indentation, maps and lists in brackets, plain and quoted scalars on one line, literal blocks (`|`) and
//! comments. Anything else, and any error, makes [`read`] decline: the parser then reads the file from its beginning and
//! reports what is wrong. An addition must keep one rule, which the tests check: the parser reads the very same values.

use super::tree::{Document, MAX_DEPTH, MAX_VALUES, Node, NodeId, Shape, small};

/// The longest key; YAML asks for one of at most 1,024 characters.
const LONGEST_KEY: usize = 1_000;

/// The document, or `None` to leave the text to the parser.
pub(super) fn read(text: &str) -> Option<Document<'_>> {
    if !is_readable(text) {
        return None;
    }
    // A value every 12 bytes is what plain jobs have; growing by doubling would hold the list twice.
    let values = (text.len() / 12).min(MAX_VALUES);
    let mut reader = Reader {
        text,
        at: 0,
        column: None,
        nodes: Vec::with_capacity(values),
        links: Vec::with_capacity(values),
        owned: Vec::new(),
        children: Vec::new(),
    };
    reader.next_line();
    if reader.rest().starts_with(b"---\n") && reader.column == Some(0) {
        reader.at += 4;
        reader.next_line();
    }
    let root = match reader.peek()? {
        b'{' | b'[' => reader.value(Within::Block, None, 0)?,
        _ => reader.block(0)?,
    };
    // Anything after the root would be another document, or an error.
    let Reader { column, nodes, links, owned, .. } = reader;
    column.is_none().then_some(Document { text, nodes, links, owned, root })
}

/// True without control characters other than line feeds, and without white space other than spaces: others end a line,
/// are trimmed from a word, or are not allowed in YAML.
fn is_readable(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.iter().any(|byte| (*byte < b' ' && *byte != b'\n') || *byte == 0x7f) {
        return false;
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    text.is_ascii() || !text.chars().filter(|c| !c.is_ascii()).any(odd)
}

/// Bounds the recursion: `Some` if one more list or map fits within `depth` others.
fn fits(depth: usize) -> Option<()> {
    (depth < MAX_DEPTH).then_some(())
}

/// The context of a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Block,
    /// In brackets: brackets and commas are syntax.
    Flow,
}

/// A scalar: its range in the file, and the range of its text.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    at: usize,
    len: usize,
    /// Its quote, if it is quoted.
    quote: Option<u8>,
    /// True if its text contains escapes.
    escaped: bool,
}

/// The text between quotes without escapes; `None` for the less usual escapes.
fn unescaped(written: &str, quote: Option<u8>) -> Option<String> {
    if quote == Some(b'\'') {
        return Some(written.replace("''", "'"));
    }
    let mut text = String::with_capacity(written.len());
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '/') => c,
                'n' => '\n',
                't' => '\t',
                _ => return None,
            },
            c => c,
        });
    }
    Some(text)
}

struct Reader<'t> {
    text: &'t str,
    /// The next byte.
    at: usize,
    /// The column of the first token of the current line; `None` at the end of the text.
    column: Option<usize>,
    nodes: Vec<Node>,
    links: Vec<NodeId>,
    owned: Vec<String>,
    /// The children so far of all open lists and maps.
    children: Vec<NodeId>,
}

impl Reader<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn peek(&self) -> Option<u8> {
        self.byte(self.at)
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// From the start of a line to the next token, in this line or a later one.
    fn next_line(&mut self) {
        loop {
            let start = self.at;
            self.skip_spaces();
            match self.peek() {
                None => return self.column = None,
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.skip_line(),
                Some(_) => return self.column = Some(self.at - start),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        self.at += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
    }

    /// Enters the next line, if the rest of this one is blank or a comment.
    fn end_line(&mut self) -> Option<()> {
        self.skip_spaces();
        match self.peek() {
            None => {}
            Some(b'\n') => self.at += 1,
            Some(b'#') if self.byte(self.at - 1) == Some(b' ') => self.skip_line(),
            Some(_) => return None,
        }
        self.next_line();
        Some(())
    }

    /// True at the `-` of an item.
    fn is_item(&self) -> bool {
        self.peek() == Some(b'-') && matches!(self.byte(self.at + 1), None | Some(b' ' | b'\n'))
    }

    /// Reads what begins with this line.
    fn block(&mut self, depth: usize) -> Option<NodeId> {
        let indent = self.column?;
        if self.is_item() { self.list(indent, depth, true) } else { self.map(indent, depth) }
    }

    fn map(&mut self, indent: usize, depth: usize) -> Option<NodeId> {
        fits(depth)?;
        let (start, first) = (self.at, self.children.len());
        loop {
            // It could be the begin or the end of a document.
            if indent == 0 && (self.rest().starts_with(b"---") || self.rest().starts_with(b"...")) {
                return None;
            }
            self.key(Within::Block)?;
            self.skip_spaces();
            let value = match self.peek()? {
                b'\n' | b'#' => {
                    self.end_line()?;
                    match self.column {
                        Some(column) if column > indent => self.block(depth + 1)?,
                        // The items of a list need not be indented.
                        Some(column) if column == indent && self.is_item() => self.list(column, depth + 1, false)?,
                        _ => return None,
                    }
                }
                _ => self.value(Within::Block, Some(indent), depth)?,
            };
            self.children.push(value);
            if self.column != Some(indent) {
                break;
            }
        }
        self.close_block(start, first, indent, true)
    }

    /// `indented`: deeper than the map whose key it belongs to.
    fn list(&mut self, indent: usize, depth: usize, indented: bool) -> Option<NodeId> {
        fits(depth)?;
        let (mut start, first) = (self.at, self.children.len());
        loop {
            let item = self.at;
            self.at += 1;
            self.skip_spaces();
            // Such a list has no token of its own: to the parser it begins behind its first `-`, and the comment there.
            if !indented && self.children.len() == first {
                start = self.at;
                if self.peek() == Some(b'#') {
                    return None;
                }
            }
            let column = indent + (self.at - item);
            let child = match self.peek()? {
                b'\n' | b'#' => {
                    self.end_line()?;
                    if self.column <= Some(indent) {
                        return None;
                    }
                    self.block(depth + 1)?
                }
                _ if self.is_item() => self.list(column, depth + 1, true)?,
                _ if self.is_key() => self.map(column, depth + 1)?,
                _ => self.value(Within::Block, Some(indent), depth)?,
            };
            self.children.push(child);
            if self.column != Some(indent) || !self.is_item() {
                break;
            }
        }
        self.close_block(start, first, indent, false)
    }

    fn close_block(&mut self, start: usize, first: usize, indent: usize, is_map: bool) -> Option<NodeId> {
        // Deeper than what it would belong to: a word goes on, or the indentation is wrong.
        if self.column > Some(indent) {
            return None;
        }
        // It ends where the next thing begins; what is blank before it is not part of it.
        let end = start + self.text[start..self.at].trim_ascii_end().len();
        self.close(start, end, first, is_map)
    }

    fn close(&mut self, start: usize, end: usize, first: usize, is_map: bool) -> Option<NodeId> {
        let (from, len) = (small(self.links.len()), small(self.children.len() - first));
        self.links.extend_from_slice(&self.children[first..]);
        self.children.truncate(first);
        self.add(start, end, if is_map { Shape::Map { first: from, len } } else { Shape::List { first: from, len } })
    }

    fn add(&mut self, start: usize, end: usize, shape: Shape) -> Option<NodeId> {
        let id = NodeId(small(self.nodes.len()));
        if self.nodes.len() >= MAX_VALUES {
            return None;
        }
        self.nodes.push(Node { start: small(start), end: small(end), shape });
        Some(id)
    }

    fn add_word(&mut self, word: Word) -> Option<NodeId> {
        if word.escaped {
            let text = unescaped(&self.text[word.at..word.at + word.len], word.quote)?;
            return self.add_owned(word.start, word.end, text);
        }
        let (at, len, plain) = (small(word.at), small(word.len), word.quote.is_none());
        self.add(word.start, word.end, Shape::Verbatim { at, len, plain })
    }

    fn add_owned(&mut self, start: usize, end: usize, text: String) -> Option<NodeId> {
        self.owned.push(text);
        self.add(start, end, Shape::Owned { index: small(self.owned.len() - 1), plain: false })
    }

    /// A value that follows another token in its line; in a block, whose tokens are indented by `indent`, it ends the line.
    fn value(&mut self, within: Within, indent: Option<usize>, depth: usize) -> Option<NodeId> {
        let value = match self.peek()? {
            // Only the root has no parent.
            open @ (b'{' | b'[') => self.flow(open == b'{', depth + usize::from(indent.is_some() || within == Within::Flow))?,
            b'|' => return self.literal(indent?),
            _ => {
                let word = self.word(within)?;
                self.add_word(word)?
            }
        };
        if within == Within::Block {
            self.end_line()?;
        }
        Some(value)
    }

    /// A map or a list in brackets.
    fn flow(&mut self, is_map: bool, depth: usize) -> Option<NodeId> {
        fits(depth)?;
        let (start, first) = (self.at, self.children.len());
        let close = if is_map { b'}' } else { b']' };
        self.at += 1;
        self.skip_blank()?;
        while self.children.len() > first || self.peek()? != close {
            if is_map {
                self.key(Within::Flow)?;
                self.skip_spaces();
            }
            let value = self.value(Within::Flow, None, depth)?;
            self.children.push(value);
            self.skip_blank()?;
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.skip_blank()?;
                }
                byte if byte == close => break,
                _ => return None,
            }
        }
        self.at += 1;
        self.close(start, self.at, first, is_map)
    }

    /// To the next token in brackets, in this line or a later one.
    fn skip_blank(&mut self) -> Option<()> {
        self.skip_spaces();
        let is_comment = self.peek() == Some(b'#') && self.byte(self.at - 1) == Some(b' ');
        if is_comment || self.peek() == Some(b'\n') {
            self.skip_line();
            self.next_line();
            // It could be the start or the end of a document, or a lack of indentation.
            if self.column == Some(0) && !matches!(self.peek(), Some(b']' | b'}')) {
                return None;
            }
        }
        Some(())
    }

    /// The lines after a `|`, which end with the first one that is not indented deeper than `indent`.
    fn literal(&mut self, indent: usize) -> Option<NodeId> {
        self.at += 1;
        if self.peek() != Some(b'\n') {
            return None;
        }
        self.at += 1;
        let first = self.at;
        self.skip_spaces();
        let (start, inner) = (self.at, self.at - first);
        if inner <= indent || matches!(self.peek(), None | Some(b'\n')) {
            return None;
        }
        self.at = first;
        let (mut text, mut end) = (String::new(), start);
        let after = loop {
            let line = self.at;
            self.skip_spaces();
            let spaces = self.at - line;
            match self.peek() {
                // Blank lines may have fewer spaces.
                Some(b'\n') if spaces <= inner => {
                    self.at += 1;
                    text.push('\n');
                }
                Some(b'\n') => return None,
                // An unterminated line may be part of the text.
                None if spaces > 0 => return None,
                Some(_) if spaces >= inner => {
                    let rest = &self.text[line + inner..];
                    // The last line of a file may be unterminated.
                    let len = rest.find('\n')?;
                    text.push_str(&rest[..=len]);
                    end = line + inner + len;
                    self.at = end + 1;
                }
                _ => {
                    let after = self.at;
                    self.at = line;
                    break after;
                }
            }
        };
        text.truncate(text.trim_end_matches('\n').len() + 1);
        self.next_line();
        let end = start + self.text[start..end].trim_ascii_end().len();
        // A single line is verbatim in the file.
        if self.text[start..after] == text {
            return self.add(start, end, Shape::Verbatim { at: small(start), len: small(text.len()), plain: false });
        }
        self.add_owned(start, end, text)
    }

    /// True before a word that is a key.
    fn is_key(&mut self) -> bool {
        let at = self.at;
        let is_key = !matches!(self.peek(), Some(b'{' | b'[')) && self.word(Within::Block).is_some() && self.peek() == Some(b':');
        self.at = at;
        is_key
    }

    /// A key, its `:` and the blank after it.
    fn key(&mut self, within: Within) -> Option<()> {
        let word = self.word(within)?;
        let fits = self.peek() == Some(b':') && matches!(self.byte(self.at + 1), Some(b' ' | b'\n'));
        // Merge keys are left to the parser.
        if !fits || word.len > LONGEST_KEY || &self.text[word.at..word.at + word.len] == "<<" {
            return None;
        }
        self.at += 1;
        let key = self.add_word(word)?;
        self.children.push(key);
        Some(())
    }

    fn word(&mut self, within: Within) -> Option<Word> {
        match self.peek()? {
            quote @ (b'"' | b'\'') => self.quoted(quote),
            _ => self.plain(within),
        }
    }

    fn quoted(&mut self, quote: u8) -> Option<Word> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let (mut at, mut escaped) = (start + 1, false);
        loop {
            match *bytes.get(at)? {
                b'\n' => return None,
                b'\\' if quote == b'"' => (at, escaped) = (at + 1, true),
                // A doubled quote is an escaped one.
                b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => (at, escaped) = (at + 1, true),
                byte if byte == quote => break,
                _ => {}
            }
            at += 1;
        }
        self.at = at + 1;
        Some(Word { start, end: at + 1, at: start + 1, len: at - start - 1, quote: Some(quote), escaped })
    }

    /// An unquoted scalar, up to `: `, a comment or the end of the line.
    fn plain(&mut self, within: Within) -> Option<Word> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let begins = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_/.~$+(<=^\\;".contains(&byte);
        match bytes.get(start).copied()? {
            b'-' if bytes.get(start + 1).copied().is_some_and(|next| begins(next) || next == b'-') => {}
            byte if begins(byte) => {}
            _ => return None,
        }
        let mut at = start + 1;
        while let Some(byte) = bytes.get(at).copied() {
            match byte {
                b'\n' => break,
                b':' => match bytes.get(at + 1) {
                    None | Some(b' ' | b'\n') => break,
                    Some(b',' | b'[' | b']' | b'{' | b'}') if within == Within::Flow => return None,
                    Some(_) => {}
                },
                b'#' if bytes[at - 1] == b' ' => break,
                b',' | b']' | b'}' if within == Within::Flow => break,
                b'[' | b'{' if within == Within::Flow => return None,
                _ => {}
            }
            at += 1;
        }
        self.at = at;
        let mut end = at;
        while bytes[end - 1] == b' ' {
            end -= 1;
        }
        // A key's `:` follows it immediately.
        if end < at && bytes.get(at) == Some(&b':') {
            return None;
        }
        Some(Word { start, end, at: start, len: end - start, quote: None, escaped: false })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::findings::Findings;

    /// The parser's reading; `None` if it reports an error.
    fn parsed(text: &str) -> Option<Document<'_>> {
        let findings = Findings::default();
        let document = super::super::parser::parse(text, &findings);
        document.filter(|_| findings.into_diagnostics(&crate::config::source::Source::new("f".as_ref(), text)).is_empty())
    }

    /// True if the fast path reads it; it must then read what the parser reads.
    fn is_read(text: &str) -> bool {
        let read = read(text);
        if read.is_some() {
            assert_eq!(read, parsed(text), "{text}");
        }
        read.is_some()
    }

    #[test]
    fn the_yaml_of_most_configurations_is_read() {
        for text in [
            "jobs: []",
            "jobs:\n  - name: a\n    command: [/bin/true, \"-x\", 'y z']\n",
            "# begin\n---\n\njobs: # these\n# odd\n- {name: a, trigger: cron , schedule: \"0 3 * * *\" }  # one\n",
            "max_parallel: 4\njobs:\n  -\n    name: a\n    env: { A: b c, D: \"\" }\n    command: echo {a,b} [c] a:b http://x/#y\n  # end",
            "defaults:\n  retry:\n    attempts: 3\n    delay: 5s\n\njobs:\n  - name: ä\n    tags:\n    - é, ß\n    - - b\n      - c\n",
            "a: -1\nb: --all\nc: ~\nd: a#b\n\"e\": f   \n",
            "a: [[], {}, [b, {c: d}], [ ]]\n\n\n",
            "{\"jobs\": [{\"name\": \"a\", \"command\": \"echo \\\"b\\\" \\\\ \\n\"}]}\n",
            "{\n  \"jobs\": [\n    {\n      \"name\": \"a\"\n    }\n  ]\n}\n",
            "a: [b,  # c\n  d\n  ]\ne: 'f''g'\n",
            "a: |\n  b\n    c\n\n  d #\n\n\n# e\nf:\n- |\n g\n- h: |\n    i\n",
        ] {
            assert!(is_read(text), "{text}");
        }
    }

    #[test]
    fn other_yaml_is_left_to_the_parser() {
        for text in [
            "",
            "# nothing",
            "a",
            "a:",
            "a: |\n  b",
            "a: |\n  b\n   ",
            "a: |\n\n  b\n",
            "a: |-\n  b\n",
            "a: >\n  b\n",
            "a: b\n  c\n",
            "a: &x b\nc: *x\n",
            "a: !!str 5\n",
            "a: \"\\x41\"",
            "a: 'b\n  c'",
            "a: [b\n  c]",
            "a: [b,\nc]",
            "a: {b}",
            "a: [b: c]",
            "a: [b,]",
            "? a\n: b",
            "<<: {a: b}",
            "a: b: c",
            "a: b\n---\nc: d",
            "a: b\n...",
            "a:\tb",
            "a: b\r\n",
            "a: b\u{a0}\n",
            "\u{feff}a: b",
            "a:\n    b: c\n  d: e\n",
            "- a\nb: c\n",
            "a:\n- # b\n  - c\n",
            "a: [b",
            "a: \"b",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read(&"- ".repeat(100_000)).is_none() && read(&"[".repeat(100_000)).is_none());
        let nested = |depth: usize| format!("{}a: b\n", "- ".repeat(depth - 1));
        assert!(is_read(&nested(MAX_DEPTH)) && read(&nested(MAX_DEPTH + 1)).is_none());
        let long = |len: usize| format!("{}: b\n", "a".repeat(len));
        assert!(is_read(&long(LONGEST_KEY)) && read(&long(LONGEST_KEY + 1)).is_none());
    }

    #[test]
    fn the_file_of_these_tests_is_read() {
        assert!(is_read(FILE));
    }

    #[test]
    fn the_examples_are_read_as_the_parser_reads_them() {
        let files = std::fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap());
        let read = texts.map(|text| is_read(&text)).collect::<Vec<_>>();
        assert!(read.contains(&true), "{read:?}");
    }

    const FILE: &str = "\
# Two jobs.
max_parallel: 4
defaults:
  output: { capture: all, max_size: \"1MiB\" }
  env:
    LANG: C

jobs:
- name: one   # the first
  trigger: cron
  schedule: ['0 3 * * *', \"5 4 * * 1-5\"]
  command: /bin/tar -czf x.tgz #y
  #
- {name: two, depends_on: [one], command: [echo, \"a: b\", -x]}
-
  name: three
  retry:
      attempts: 3
  tags:
    - - a
      - b: c
    - d
";

    /// Pieces of YAML that often occur together, and troublesome ones.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            8 => prop::sample::select(&["\n", "\n  ", "\n    ", "\n- ", "\n  - ", "\n    - ", ": ", "a: ", "b: c", "- ", "|\n  ", "\n\n"][..]),
            4 => prop::sample::select(&["a", "b c", "\"d\"", "'e'", "{", "}", "[", "]", ", ", ",", " # f", "[g, h]", "{i: j}", "\"\\n\"", "'k''l'", ",\n  "][..]),
            1 => prop::sample::select(
                &[
                    ":", "-", "--", "---", "...", "#", "?", "? ", "!", "&", "*", "|", ">", "%", "@", "`", "~", "=", "\\", "''", "\"",
                    "'", "<<: ", "$", "+", "(", ")", ";", "^", "/", ".", "_", "<", " ", "  ", "\t", "\r\n", "\u{a0}", "é", "\u{2028}",
                    "\u{85}", "\u{feff}", "𝄞", "\u{7f}", "\0", ":a", "a:", "#a", "-a", "{}", "[]", "null",
                ][..]
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_parser_reads_the_same_values(pieces in prop::collection::vec(piece(), 1..40)) {
            is_read(pieces.concat().trim_start_matches('\n'));
            is_read(&format!("jobs:{}", pieces.concat()));
        }

        #[test]
        fn the_parser_reads_the_same_values_of_a_mutated_file(
            at in 0..FILE.len(), removed in 0..12_usize, pieces in prop::collection::vec(piece(), 0..3),
        ) {
            let end = (at + removed).min(FILE.len());
            is_read(&[&FILE[..at], &pieces.concat(), &FILE[end..]].concat());
        }
    }
}
