//! Where objects are: `bucket/prefix`, checked when the configuration is loaded.

use std::net::Ipv4Addr;
use std::ops::Range;

/// A bucket and the prefix of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A valid bucket name.
    pub bucket: String,
    /// The prefix of the keys; may be empty.
    pub prefix: String,
}

/// An error in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The invalid bytes.
    pub at: Range<usize>,
    /// The rule that is broken.
    pub message: String,
    /// How to fix it.
    pub help: &'static str,
}

const BUCKET_HELP: &str = "a bucket's name has 3 to 63 characters: a-z, 0-9, `-` and `.`, a letter or digit at both ends";

/// The longest key that S3 allows, in bytes.
const LONGEST_KEY: usize = 1024;

impl Address {
    /// Reads `bucket`, `bucket/` or `bucket/prefix`.
    ///
    /// # Errors
    /// The broken rule for the names of general purpose buckets; or that the prefix is longer than any key.
    pub fn parse(text: &str) -> Result<Address, Mistake> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let bad = |at: Range<usize>, message: String| Err(Mistake { at, message, help: BUCKET_HELP });
        let whole = 0..bucket.len();
        if bucket.is_empty() {
            return bad(whole, "the bucket's name is missing".into());
        }
        if let Some((at, c)) = bucket.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.')) {
            return bad(at..at + c.len_utf8(), format!("`{c}` is not allowed in a bucket's name"));
        }
        if !(3..=63).contains(&bucket.len()) {
            return bad(whole, format!("the bucket's name `{bucket}` has {} characters", bucket.len()));
        }
        if bucket.starts_with(['-', '.']) || bucket.ends_with(['-', '.']) {
            return bad(whole, format!("the bucket's name `{bucket}` does not start and end with a letter or digit"));
        }
        if let Some(at) = bucket.find("..") {
            return bad(at..at + 2, format!("the bucket's name `{bucket}` has two dots in a row"));
        }
        if bucket.parse::<Ipv4Addr>().is_ok() {
            return bad(whole, format!("the bucket's name `{bucket}` looks like an IP address"));
        }
        if prefix.len() > LONGEST_KEY {
            let message = format!("the prefix has {} bytes, and no key has more than {LONGEST_KEY}", prefix.len());
            return Err(Mistake {
                at: bucket.len() + 1..text.len(),
                message,
                help: "shorten it: a prefix is the beginning of keys",
            });
        }
        Ok(Address { bucket: bucket.into(), prefix: prefix.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_bucket_and_prefix() {
        for (text, bucket, prefix) in [
            ("my-bucket", "my-bucket", ""),
            ("my-bucket/", "my-bucket", ""),
            ("my-bucket/input/", "my-bucket", "input/"),
            ("a.b.c/in/put", "a.b.c", "in/put"),
            ("abc//x", "abc", "/x"),
        ] {
            let expected = Address { bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_bucket_name_names_the_broken_rule() {
        for (text, at, part) in [
            ("", 0..0, "missing"),
            ("/prefix", 0..0, "missing"),
            ("ab", 0..2, "has 2 characters"),
            ("My-bucket/x", 0..1, "`M` is not allowed"),
            ("my_bucket", 2..3, "`_` is not allowed"),
            ("-abc", 0..4, "start and end"),
            ("abc.", 0..4, "start and end"),
            ("a..b", 1..3, "two dots"),
            ("192.168.1.5", 0..11, "IP address"),
            ("bück", 1..3, "`ü` is not allowed"),
        ] {
            let mistake = Address::parse(text).expect_err(text);
            assert_eq!(mistake.at, at, "{text}");
            assert!(mistake.message.contains(part), "{text}: {}", mistake.message);
        }
        assert!(Address::parse(&"x".repeat(64)).is_err());
        assert!(Address::parse(&format!("abc/{}", "x".repeat(1025))).is_err());
    }
}
