//! Whether an answer is a whole listing, before anyone believes what was read out of it.
//!
//! The SDK's parser is forgiving: it takes the end of the text for the end of the list, and reads on past a closing tag
//! of another name. Either way a listing seems complete that is not, and every object in its missing part would leave
//! the seen-set and be new again. So the tags are counted here, as XML 1.0 (3, well-formedness: element type match) asks.

use std::fmt;

/// What a listing's outermost element is called.
const ROOT: &[u8] = b"ListBucketResult";

/// Elements within each other; a listing has four.
const DEEPEST: usize = 16;

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWhole {
    /// It ends before its last tag.
    CutShort,
    /// Its tags do not fit each other, or it is something else.
    Disorder,
}

impl fmt::Display for NotWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotWhole::CutShort => "it ends in the middle",
            NotWhole::Disorder => "it is not the XML of a listing",
        })
    }
}

impl std::error::Error for NotWhole {}

/// Checks that a text is one listing, from its first tag to its last.
pub(super) fn check(body: &[u8]) -> Result<(), NotWhole> {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut rest = body;
    let mut begun = false;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        rest = &rest[at..];
        if let Some(after) = skip_aside(rest)? {
            rest = after;
            continue;
        }
        let end = end_of_tag(rest).ok_or(NotWhole::CutShort)?;
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix(b"/") {
            if open.pop() != Some(name.trim_ascii_end()) {
                return Err(NotWhole::Disorder);
            }
        } else {
            let name = tag.split(|byte| byte.is_ascii_whitespace() || *byte == b'/').next().unwrap_or_default();
            if open.is_empty() && (begun || name != ROOT) || open.len() == DEEPEST {
                return Err(NotWhole::Disorder);
            }
            begun = true;
            if !tag.ends_with(b"/") {
                open.push(name);
            }
        }
    }
    match (begun, open.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(NotWhole::CutShort),
        (false, _) => Err(NotWhole::Disorder),
    }
}

/// What stands after a declaration, a comment or a piece of character data, if the text begins with one.
fn skip_aside(text: &[u8]) -> Result<Option<&[u8]>, NotWhole> {
    const ASIDES: [(&[u8], &[u8]); 3] = [(b"<?", b"?>"), (b"<!--", b"-->"), (b"<![CDATA[", b"]]>")];
    for (begin, end) in ASIDES {
        if text.starts_with(begin) {
            let length = text.windows(end.len()).position(|bytes| bytes == end).ok_or(NotWhole::CutShort)?;
            return Ok(Some(&text[length + end.len()..]));
        }
    }
    Ok(None)
}

/// Where the `>` of a tag stands; one within the quotes of an attribute is none.
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
    fn a_listing_is_whole_with_its_last_tag_and_not_before() {
        assert_eq!(check(LISTING.as_bytes()), Ok(()));
        assert_eq!(check(b"<ListBucketResult/>"), Ok(()));
        let last = LISTING.trim_end().len();
        let first = LISTING.find("<ListBucketResult").expect("a root");
        for cut in first + "<ListBucketResult ".len()..last {
            assert_eq!(check(&LISTING.as_bytes()[..cut]), Err(NotWhole::CutShort), "{}", &LISTING[..cut]);
        }
    }

    #[test]
    fn tags_that_do_not_fit_are_disorder_wherever_they_stand() {
        for tag in ["</Name>", "</Key>", "</ID>", "</Owner >", "</Contents>"] {
            assert_eq!(check(LISTING.replacen(tag, "</Size>", 1).as_bytes()), Err(NotWhole::Disorder), "{tag}");
            assert_eq!(check(LISTING.replacen(tag, "", 1).as_bytes()), Err(NotWhole::Disorder), "{tag}");
        }
    }

    #[test]
    fn anything_else_is_no_listing() {
        let two = format!("{LISTING}{LISTING}");
        let deep = format!("<ListBucketResult>{}{}</ListBucketResult>", "<a>".repeat(99), "</a>".repeat(99));
        let html = "<html></html>";
        for text in ["", "{}", html, "</ListBucketResult>", "<!DOCTYPE html>", &two, &deep] {
            assert_eq!(check(text.as_bytes()), Err(NotWhole::Disorder), "{text}");
        }
    }
}
