//! The URL of a queue, checked when the configuration is loaded.

use std::fmt;

use crate::triggers::aws::check_endpoint;

/// The URL of a queue on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUrl {
    url: String,
    /// The length of `scheme://host:port`.
    origin: usize,
}

impl QueueUrl {
    /// Parses `sqs://host/account/name`, where `sqs` means `https`, or a URL with `https` or `http`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<QueueUrl, String> {
        let url = match text.strip_prefix("sqs://") {
            Some(rest) => format!("https://{rest}"),
            None => text.to_owned(),
        };
        // This removes a trailing slash, which is not part of the name.
        let url = check_endpoint(&url).map_err(|said| said.replace("the endpoint", "the queue's URL"))?;
        let host = url.find("://").map_or(0, |at| at + 3);
        let Some(path) = url[host..].find('/') else {
            return Err(format!("the queue's URL `{text}` names no queue"));
        };
        let name = url.rsplit('/').next().unwrap_or_default();
        let stem = name.strip_suffix(".fifo").unwrap_or(name);
        if let Some(bad) = stem.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
            return Err(format!("`{bad}` is not allowed in a queue's name"));
        }
        if stem.is_empty() || name.len() > 80 {
            return Err(format!("the queue's name `{name}` has {} characters, and may have 1 to 80", name.len()));
        }
        Ok(QueueUrl { origin: host + path, url })
    }

    /// The whole URL, for requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// `scheme://host:port`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.url[..self.origin]
    }

    /// The region in the host name of AWS: `sqs.REGION.amazonaws.com`, with further labels before it for a VPC endpoint, or the
    /// legacy `REGION.queue.amazonaws.com`.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        let host = self.origin().split_once("://")?.1.split(':').next()?;
        let parts: Vec<&str> = host.split('.').collect();
        let is_aws = |rest: &[&str]| matches!(rest, [.., "amazonaws", "com"] | [.., "amazonaws", "com", "cn"]);
        if !is_aws(&parts) {
            return None;
        }
        if let [region, "queue", ..] = parts[..] {
            return Some(region);
        }
        let at = parts.iter().position(|part| *part == "sqs")?;
        parts.get(at + 1).copied().filter(|region| !matches!(*region, "amazonaws" | "vpce"))
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.strip_prefix("https://") {
            Some(rest) => write!(f, "sqs://{rest}"),
            None => f.write_str(&self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_parsed_from_a_url_with_either_scheme() {
        for (text, url, shown) in [
            ("sqs://sqs.eu-west-1.amazonaws.com/1234/in", "https://sqs.eu-west-1.amazonaws.com/1234/in", None),
            ("https://h:9/1/in.fifo/", "https://h:9/1/in.fifo", Some("sqs://h:9/1/in.fifo")),
            ("http://127.0.0.1:5000/1/a-B_9", "http://127.0.0.1:5000/1/a-B_9", Some("http://127.0.0.1:5000/1/a-B_9")),
        ] {
            let queue = QueueUrl::parse(text).expect(text);
            assert_eq!((queue.as_str(), queue.to_string().as_str()), (url, shown.unwrap_or(text)));
        }
        assert_eq!(QueueUrl::parse("http://127.0.0.1:5000/1/a").expect("a queue").origin(), "http://127.0.0.1:5000");
    }

    #[test]
    fn an_invalid_url_is_an_error_with_a_reason() {
        for (text, part) in [
            ("sqs://", "no host"),
            ("sqs://host", "names no queue"),
            ("sqs://host/", "names no queue"),
            ("sqs://host/1/a b", "not a plain URL"),
            ("sqs://host/1/a.b", "`.` is not allowed"),
            ("sqs://host/1/.fifo", "may have 1 to 80"),
            ("sqs://u:p@host/1/a", "credentials come from"),
            ("ftp://host/1/a", "`http://` or `https://`"),
            ("my-queue", "`http://` or `https://`"),
        ] {
            let said = QueueUrl::parse(text).expect_err(text);
            assert!(said.contains(part), "{text}: {said}");
        }
        assert!(QueueUrl::parse(&format!("sqs://host/1/{}", "x".repeat(81))).is_err());
    }

    #[test]
    fn the_region_is_read_from_host_names_of_aws() {
        for (host, region) in [
            ("sqs.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("vpce-1.sqs.us-east-2.vpce.amazonaws.com:443", Some("us-east-2")),
            ("eu-central-1.queue.amazonaws.com", Some("eu-central-1")),
            ("queue.amazonaws.com", None),
            ("sqs.eu-west-1.example.com", None),
            ("127.0.0.1:5000", None),
        ] {
            let queue = QueueUrl::parse(&format!("sqs://{host}/1/in")).expect(host);
            assert_eq!(queue.region(), region, "{host}");
        }
    }
}
