//! YAML into a [`Document`], a tree of values with their places, by one of two readers behind [`Document::parse`].
//!
//! `parser` reads all of YAML and reports what is wrong with a text. `fast` reads in one pass the part of YAML that most
//! configurations are written in, which saves 180 ms of a start with 10,000 jobs, and leaves every other text to the
//! parser. Both must make the same tree of the same text: `firelink check` compares them, and the environment variable
//! `FIRELINK_YAML=full` turns the fast path off.

mod fast;
mod parser;
mod tree;

pub(super) use tree::{Document, NodeId, Scalar, Value};

use super::findings::Findings;
use crate::triggers::Place;

/// Which readers a text is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// The fast path, else the parser.
    Fast,
    /// The parser alone.
    Full,
    /// Both; a difference is reported as an error.
    Both,
}

impl<'t> Document<'t> {
    /// Reads a text of at most 4 GiB. `None` if it is not one YAML document, which is reported.
    pub(super) fn parse(text: &'t str, findings: &Findings, readers: Readers) -> Option<Document<'t>> {
        match readers {
            Readers::Fast => fast::read(text).or_else(|| parser::parse(text, findings)),
            Readers::Full => parser::parse(text, findings),
            Readers::Both => parse_by_both(text, findings, fast::read),
        }
    }
}

/// Reads by the parser and compares with `fast`, which may decline. The fast path is a parameter so that a test can plant a
/// wrong one.
fn parse_by_both<'t>(text: &'t str, findings: &Findings, fast: impl Fn(&'t str) -> Option<Document<'t>>) -> Option<Document<'t>> {
    let parsed = parser::parse(text, findings);
    if let Some(fast) = fast(text) {
        match &parsed {
            None => report_difference(findings, Place::default()),
            Some(parsed) => {
                if let Some(place) = parsed.first_difference(&fast) {
                    report_difference(findings, place);
                }
            }
        }
    }
    parsed
}

fn report_difference(findings: &Findings, place: Place) {
    let message = "firelink's two YAML readers disagree from here on, which is a bug of firelink: the file may be right";
    let help =
        "please report it with this part of the file; until it is fixed, set FIRELINK_YAML=full, which uses the slower reader";
    findings.error(place, message, help);
}

#[cfg(test)]
mod tests {
    use super::tree::Shape;
    use super::*;
    use crate::config::source::Source;

    const TEXT: &str = "jobs:\n- name: a\n  command: [x, \"y\\n\"]\n";

    /// The line and the message of each finding about [`TEXT`], where `change` is done to the tree of the fast path.
    fn reported(change: impl Fn(&mut Document<'_>)) -> Vec<(usize, String)> {
        let findings = Findings::default();
        let parsed = parse_by_both(TEXT, &findings, |text| {
            let mut document = fast::read(text).expect("a text for the fast path");
            change(&mut document);
            Some(document)
        });
        assert!(parsed.is_some());
        let diagnostics = findings.into_diagnostics(&Source::new("f.yaml".as_ref(), TEXT));
        diagnostics.into_iter().map(|diagnostic| (diagnostic.line, diagnostic.message)).collect()
    }

    fn at_of(document: &Document<'_>, text: &str) -> usize {
        let is_it =
            |shape| matches!(shape, Shape::Verbatim { at, len, .. } if &document.text[at as usize..(at + len) as usize] == text);
        document.nodes.iter().position(|node| is_it(node.shape)).expect("a value")
    }

    #[test]
    fn readers_that_agree_report_nothing() {
        assert_eq!(reported(|_| {}), []);
    }

    #[test]
    fn a_planted_difference_is_reported_where_it_is() {
        let line_of = |change: &dyn Fn(&mut Document<'_>)| {
            let reported = reported(change);
            let [(line, message)] = &reported[..] else { panic!("one finding: {reported:?}") };
            assert!(message.contains("a bug of firelink"), "{message}");
            *line
        };
        let plain = |document: &mut Document<'_>, text: &str| {
            let node = at_of(document, text);
            let Shape::Verbatim { plain, .. } = &mut document.nodes[node].shape else { panic!("a word") };
            *plain = !*plain;
        };
        assert_eq!(line_of(&|document| plain(document, "jobs")), 1);
        assert_eq!(line_of(&|document| plain(document, "a")), 2);
        assert_eq!(line_of(&|document| plain(document, "x")), 3);
        assert_eq!(line_of(&|document| document.owned[0].push('z')), 3);
        assert_eq!(line_of(&|document| document.nodes.truncate(2)), 2);
        assert_eq!(line_of(&|document| document.links.swap(0, 1)), 1);
    }

    #[test]
    fn a_text_that_only_the_fast_path_accepts_is_reported_beside_what_is_wrong_with_it() {
        let findings = Findings::default();
        let wrong = "a: [b\n";
        assert!(parse_by_both(wrong, &findings, |_| fast::read("a: b\n")).is_none());
        let messages: Vec<String> =
            findings.into_diagnostics(&Source::new("f".as_ref(), wrong)).into_iter().map(|one| one.message).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages.iter().any(|message| message.contains("a bug of firelink")), "{messages:?}");
    }
}
