//! Checks that an answer is a complete listing before its contents are used.
//!
//! The SDK's parser is lenient: it treats the end of the text as the end of the list, and reads past a closing tag of another
//! name. Either way a truncated listing seems complete; the objects in its missing part would leave the seen-set and later
//! count as new. So the tags are matched here (XML 1.0, 3: well-formedness constraint "Element Type Match").

use std::fmt;

/// The root element of a listing.
const ROOT: &[u8] = b"ListBucketResult";

/// The maximum depth of elements; a listing has four levels.
const MAX_DEPTH: usize = 16;

/// Why an answer is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// It ends before its last tag.
    CutShort,
    /// Its tags do not match, or it is not a listing.
    Malformed,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incomplete::CutShort => "it ends in the middle",
            Incomplete::Malformed => "it is not the XML of a listing",
        })
    }
}

impl std::error::Error for Incomplete {}

/// Checks that a text is one complete listing.
pub(super) fn check(body: &[u8]) -> Result<(), Incomplete> {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut rest = body;
    let mut has_root = false;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at..];
        if let Some(after) = skip_markup(rest)? {
            rest = after;
            continue;
        }
        let end = end_of_tag(rest).ok_or(Incomplete::CutShort)?;
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix(b"/") {
            if open.pop() != Some(name.trim_ascii_end()) {
                return Err(Incomplete::Malformed);
            }
        } else {
            let name = tag.split(|byte| byte.is_ascii_whitespace() || *byte == b'/').next().unwrap_or_default();
            if open.is_empty() && (has_root || name != ROOT) || open.len() == MAX_DEPTH {
                return Err(Incomplete::Malformed);
            }
            has_root = true;
            if !tag.ends_with(b"/") {
                open.push(name);
            }
        }
    }
    match (has_root, open.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Incomplete::CutShort),
        (false, _) => Err(Incomplete::Malformed),
    }
}

/// The text after a declaration, a comment or a CDATA section, if it begins with one.
fn skip_markup(text: &[u8]) -> Result<Option<&[u8]>, Incomplete> {
    const MARKUP: [(&[u8], &[u8]); 3] = [(b"<?", b"?>"), (b"<!--", b"-->"), (b"<![CDATA[", b"]]>")];
    for (begin, end) in MARKUP {
        if text.starts_with(begin) {
            let length = text.windows(end.len()).position(|bytes| bytes == end).ok_or(Incomplete::CutShort)?;
            return Ok(Some(&text[length + end.len()..]));
        }
    }
    Ok(None)
}

/// The index of the `>` that ends a tag; one in the quotes of an attribute does not.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    text.iter().position(|byte| {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
        quote.is_none() && *byte == b'>'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3/>\"><!-- > --><Name>box</Name><Prefix/>\
        <Contents><Key>a&gt;</Key><Owner ><ID>1</ID></Owner ></Contents><X><![CDATA[</Name>]]></X></ListBucketResult>\n";

    #[test]
    fn a_listing_is_complete_with_its_last_tag_and_not_before() {
        assert_eq!(check(LISTING.as_bytes()), Ok(()));
        assert_eq!(check(b"<ListBucketResult/>"), Ok(()));
        let last = LISTING.trim_end().len();
        let first = LISTING.find("<ListBucketResult").expect("a root");
        for cut in first + "<ListBucketResult ".len()..last {
            assert_eq!(check(&LISTING.as_bytes()[..cut]), Err(Incomplete::CutShort), "{}", &LISTING[..cut]);
        }
    }

    #[test]
    fn mismatched_tags_are_malformed_at_every_level() {
        for tag in ["</Name>", "</Key>", "</ID>", "</Owner >", "</Contents>"] {
            assert_eq!(check(LISTING.replacen(tag, "</Size>", 1).as_bytes()), Err(Incomplete::Malformed), "{tag}");
            assert_eq!(check(LISTING.replacen(tag, "", 1).as_bytes()), Err(Incomplete::Malformed), "{tag}");
        }
    }

    #[test]
    fn other_documents_are_malformed() {
        let two = format!("{LISTING}{LISTING}");
        let deep = format!("<ListBucketResult>{}{}</ListBucketResult>", "<a>".repeat(99), "</a>".repeat(99));
        let html = "<html></html>";
        for text in ["", "{}", html, "</ListBucketResult>", "<!DOCTYPE html>", &two, &deep] {
            assert_eq!(check(text.as_bytes()), Err(Incomplete::Malformed), "{text}");
        }
    }
}
