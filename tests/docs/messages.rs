//! docs/troubleshooting.md: each message that it quotes is one of the source's.

use crate::{root, source_files};

/// Shorter pieces between two `..` say nothing.
const SHORTEST: usize = 6;

#[test]
fn every_message_of_the_page_is_one_of_the_source() {
    // Literals that go over several lines, in one.
    let unbroken = |text: &str| {
        let mut lines = text.split("\\\n");
        let first = lines.next().unwrap_or_default().to_owned();
        lines.fold(first, |text, line| text + line.trim_start())
    };
    let source: String = source_files().iter().map(|(_, text)| unbroken(text).replace("\\\"", "\"")).collect();
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (mut messages, mut unknown) = (0, Vec::new());
    for line in page.lines().filter_map(|line| line.strip_prefix("### ")) {
        // A heading is one or more messages in backticks, in which `..` stands for what differs.
        let quoted = line.split("``").skip(1).step_by(2);
        for message in quoted {
            messages += 1;
            let mut pieces = message.split("..").map(str::trim).filter(|piece| piece.len() >= SHORTEST).peekable();
            assert!(pieces.peek().is_some(), "{message}");
            unknown.extend(pieces.filter(|piece| !source.contains(piece)).map(|piece| format!("`{piece}` of `{message}`")));
        }
    }
    assert!(messages > 20, "{messages}");
    assert!(unknown.is_empty(), "docs/troubleshooting.md quotes what no source says: {unknown:#?}");
}
