//! Where objects are: `bucket/prefix` and the endpoint's URL, checked when the file is loaded.

use std::net::Ipv4Addr;
use std::ops::Range;

/// A bucket and the prefix of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A valid bucket name.
    pub bucket: String,
    /// What the keys start with; may be empty.
    pub prefix: String,
}

/// What is wrong with an address, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The bytes that are wrong.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What may stand there.
    pub help: &'static str,
}

const BUCKET_HELP: &str = "a bucket's name has 3 to 63 characters: a-z, 0-9, `-` and `.`, a letter or digit at both ends";

/// S3 refuses longer keys, so nothing could ever match a longer prefix.
const LONGEST_KEY: usize = 1024;

impl Address {
    /// Reads `bucket`, `bucket/` or `bucket/prefix`.
    ///
    /// # Errors
    /// The rule of bucket names that is broken, by the naming rules for general purpose buckets; or a prefix longer
    /// than any key.
    pub fn parse(text: &str) -> Result<Address, Mistake> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let bad = |at: Range<usize>, message: String| Err(Mistake { at, message, help: BUCKET_HELP });
        let whole = 0..bucket.len();
        if bucket.is_empty() {
            return bad(whole, "the bucket's name is missing".into());
        }
        if let Some((at, c)) = bucket.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.')) {
            return bad(at..at + c.len_utf8(), format!("`{c}` can't stand in a bucket's name"));
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

/// Checks an endpoint's URL and takes off a final slash.
///
/// # Errors
/// What is wrong with it.
pub fn check_endpoint(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return Err(format!("the endpoint `{text}` does not start with `http://` or `https://`"));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    // First of all: what is refused after this is shown.
    if authority.contains('@') {
        return Err("an endpoint carries no user name or password: credentials come from the AWS variables or profile".into());
    }
    let (host, port) = split_port(authority);
    if host.is_empty() {
        return Err(format!("the endpoint `{text}` has no host"));
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("the port of the endpoint `{text}` is not a number from 0 to 65535"));
    }
    if rest.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '"' | '<' | '>' | '\\')) {
        return Err(format!("the endpoint `{text}` is not a plain URL"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Splits `host:port`; the colons within the brackets of an IPv6 address belong to the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The host of an endpoint that [`check_endpoint`] took.
#[cfg(feature = "s3")]
pub(in crate::triggers) fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    split_port(rest.split('/').next().unwrap_or_default()).0
}

/// The `host:port` of an endpoint, with the port that its scheme implies.
#[cfg(feature = "s3")]
pub(in crate::triggers) fn host_and_port(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let authority = rest.split('/').next().unwrap_or_default();
    match split_port(authority) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => format!("{host}:{}", if scheme == "http" { 80 } else { 443 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_a_prefix_are_told_apart() {
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
    fn a_bad_bucket_name_says_which_rule_it_breaks() {
        for (text, at, part) in [
            ("", 0..0, "missing"),
            ("/prefix", 0..0, "missing"),
            ("ab", 0..2, "has 2 characters"),
            ("My-bucket/x", 0..1, "`M` can't stand"),
            ("my_bucket", 2..3, "`_` can't stand"),
            ("-abc", 0..4, "start and end"),
            ("abc.", 0..4, "start and end"),
            ("a..b", 1..3, "two dots"),
            ("192.168.1.5", 0..11, "IP address"),
            ("bück", 1..3, "`ü` can't stand"),
        ] {
            let mistake = Address::parse(text).expect_err(text);
            assert_eq!(mistake.at, at, "{text}");
            assert!(mistake.message.contains(part), "{text}: {}", mistake.message);
        }
        assert!(Address::parse(&"x".repeat(64)).is_err());
        assert!(Address::parse(&format!("abc/{}", "x".repeat(1025))).is_err());
    }

    #[test]
    fn an_endpoint_is_a_plain_url_with_a_host() {
        assert_eq!(check_endpoint("http://127.0.0.1:9000/"), Ok("http://127.0.0.1:9000".into()));
        assert_eq!(check_endpoint("https://[::1]:9000"), Ok("https://[::1]:9000".into()));
        assert_eq!(check_endpoint("https://s3.example.org/gate"), Ok("https://s3.example.org/gate".into()));
        for bad in
            ["127.0.0.1:9000", "ftp://x", "http://", "http://:80", "http://h:99999", "http://u:p@h", "http://a b", "http://h/?x"]
        {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn the_port_is_told_even_where_the_scheme_implies_it() {
        assert_eq!(host_and_port("http://h"), "h:80");
        assert_eq!(host_and_port("https://h/path"), "h:443");
        assert_eq!(host_and_port("http://[::1]:9000"), "[::1]:9000");
        assert_eq!(host_of("https://[::1]:9000"), "[::1]");
    }
}
