//! An endpoint's URL, checked when the configuration is loaded.

/// Checks the URL of an endpoint and removes a trailing slash.
///
/// # Errors
/// What is wrong with it.
pub fn check_endpoint(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return Err(format!("the endpoint `{text}` does not start with `http://` or `https://`"));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    // Before all other checks: their messages quote the URL.
    if authority.contains('@') {
        return Err(
            "an endpoint may not contain a user name or password: credentials come from the AWS variables or profile".into()
        );
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

/// The host of a checked endpoint.
#[cfg(feature = "s3")]
pub(super) fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    split_port(rest.split('/').next().unwrap_or_default()).0
}

/// The `host:port` of an endpoint, with the default port of its scheme.
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
    fn the_default_port_of_the_scheme_is_shown() {
        assert_eq!(host_and_port("http://h"), "h:80");
        assert_eq!(host_and_port("https://h/path"), "h:443");
        assert_eq!(host_and_port("http://[::1]:9000"), "[::1]:9000");
        assert_eq!(host_of("https://[::1]:9000"), "[::1]");
    }
}
