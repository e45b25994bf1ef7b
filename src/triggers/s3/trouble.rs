//! What goes wrong with a bucket, in words for the person who must act.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Error;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::address::host_and_port;
use super::client::Connected;
use super::session::Service;
use super::whole::NotWhole;
use super::{ClientSettings, S3Watch};
use crate::model::format_duration;

/// What an SDK error with all its causes may come to; the rest of a longer one says nothing to a person.
const LONGEST_CAUSE: usize = 300;

type ListError = SdkError<ListObjectsV2Error, HttpResponse>;

/// Why a poll failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::triggers) struct Trouble {
    /// What went wrong and what to do, for a person; without a final stop.
    pub(in crate::triggers) text: String,
    /// True if variables, profile and credentials should be read anew before the next poll.
    pub(in crate::triggers) reconnect: bool,
}

impl Trouble {
    /// A client that can't be made.
    pub(in crate::triggers) fn client(text: String) -> Trouble {
        Trouble { text, reconnect: true }
    }

    pub(super) fn no_region(settings: &ClientSettings) -> Trouble {
        let of_profile = settings.profile.as_ref().map(|name| format!(" and profile `{name}` names none")).unwrap_or_default();
        Trouble::client(format!("no AWS region is set{of_profile}: set AWS_REGION, or `region` in the `source` map"))
    }

    pub(super) fn no_credentials(settings: &ClientSettings, service: Service) -> Trouble {
        let public = match service {
            Service::S3 => "; for a public bucket write `anonymous: true` in the `source` map",
            #[cfg(feature = "sqs")]
            Service::Sqs => "",
        };
        let profile = settings.profile.as_ref().map(|name| format!(" in profile `{name}`")).unwrap_or_default();
        Trouble::client(format!(
            "no AWS credentials found{profile}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in \
             ~/.aws/credentials{public}"
        ))
    }

    pub(super) fn credentials(error: &CredentialsError, settings: &ClientSettings, service: Service) -> Trouble {
        match error {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::ProviderTimedOut(_) => {
                Trouble::no_credentials(settings, service)
            }
            other => Trouble::client(format!("AWS credentials can't be had: {}", cause(other))),
        }
    }

    /// An answer that is no listing.
    pub(super) fn malformed(what: &str, connected: &Connected) -> Trouble {
        let server = server(connected);
        Trouble {
            text: format!("{server} sent a listing that can't be used: {what}; is the endpoint an S3 server?"),
            reconnect: false,
        }
    }

    /// An answer that ends in the middle: most likely nobody's fault but the link's.
    pub(super) fn cut_short(connected: &Connected) -> Trouble {
        let server = server(connected);
        let text = format!("{server} sent a listing that can't be used: {}; did the connection break?", NotWhole::CutShort);
        Trouble { text, reconnect: false }
    }

    /// What was found could not be stored.
    pub(in crate::triggers) fn not_recorded() -> Trouble {
        Trouble { text: "what was found could not be recorded; it will be looked for again".into(), reconnect: false }
    }

    /// A failed request.
    pub(super) fn request(error: &ListError, connected: &Connected, watch: &S3Watch) -> Trouble {
        match find::<NotWhole>(error) {
            Some(NotWhole::CutShort) => return Trouble::cut_short(connected),
            Some(NotWhole::Disorder) => return Trouble::malformed(&NotWhole::Disorder.to_string(), connected),
            None => {}
        }
        let refused = |error: &ListObjectsV2Error, raw: &HttpResponse| service(error, raw, connected, watch);
        let unusable = |cause: &str| Trouble::malformed(cause, connected);
        Trouble::of(error, &server(connected), (&watch.client, Service::S3), refused, unusable)
    }

    /// A failed request to any service: `refused` tells of an answer that says no, `unusable` of one that says nothing.
    pub(in crate::triggers) fn of<E: Error + 'static>(
        error: &SdkError<E, HttpResponse>,
        server: &str,
        (settings, service): (&ClientSettings, Service),
        refused: impl FnOnce(&E, &HttpResponse) -> Trouble,
        unusable: impl FnOnce(&str) -> Trouble,
    ) -> Trouble {
        let at_fault = |text: String| Trouble { text, reconnect: false };
        if let Some(error) = find::<CredentialsError>(error) {
            return Trouble::credentials(error, settings, service);
        }
        match error {
            SdkError::TimeoutError(_) => at_fault(format!("{server} does not answer in time")),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => at_fault(format!("{server} does not answer in time")),
            SdkError::DispatchFailure(_) => {
                let cause = find::<std::io::Error>(error).map_or_else(|| cause(error), ToString::to_string);
                at_fault(format!("{server} can't be reached: {cause}{}", clock_hint(&cause)))
            }
            SdkError::ServiceError(answer) => refused(answer.err(), answer.raw()),
            SdkError::ResponseError(_) => unusable(&cause(error)),
            _ => Trouble::client(format!("the request can't be made: {}", cause(error))),
        }
    }
}

/// An answer by which the server refuses.
fn service(error: &ListObjectsV2Error, raw: &HttpResponse, connected: &Connected, watch: &S3Watch) -> Trouble {
    let (bucket, server, status) = (&watch.bucket, server(connected), raw.status().as_u16());
    let said = error.message().map(|message| format!(" ({})", shorten(message))).unwrap_or_default();
    if raw.status().is_success() {
        return Trouble::malformed("it is not the XML of a listing", connected);
    }
    let code = error.code().unwrap_or_default();
    let (text, reconnect) = match (code, status) {
        ("NoSuchBucket", _) => (format!("no bucket `{bucket}` at {server}: create it, or correct `source`"), false),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) | (_, 301 | 307) => {
            (wrong_region(raw, connected, bucket), true)
        }
        ("RequestTimeTooSkewed", _) => (wrong_clock(raw, &server), false),
        ("InvalidAccessKeyId", _) => {
            (format!("{server} does not know the access key: check AWS_ACCESS_KEY_ID or the profile"), true)
        }
        ("SignatureDoesNotMatch", _) => {
            (format!("{server} refuses the signature: check AWS_SECRET_ACCESS_KEY or the profile"), true)
        }
        ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => {
            (format!("{server} refuses the session token: it has expired or is wrong; get new credentials"), true)
        }
        ("SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "ThrottlingException", _) | (_, 429 | 503) => {
            (format!("{server} asks to slow down{said}"), false)
        }
        (_, 401 | 403) => {
            let who = if watch.client.anonymous { "an anonymous request" } else { "these credentials" };
            (format!("access to bucket `{bucket}` denied for {who}: allow s3:ListBucket on it{said}"), true)
        }
        ("", _) => (format!("{server} answered {status}, not as an S3 server does; is the endpoint right?"), false),
        (code, _) => (format!("{server} answered {status} {code}{said}"), false),
    };
    Trouble { text, reconnect }
}

fn wrong_region(raw: &HttpResponse, connected: &Connected, bucket: &str) -> String {
    let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let in_body = body.split_once("<Region>").and_then(|(_, rest)| rest.split_once("</Region>")).map(|(region, _)| region);
    let used = &connected.region;
    match raw.headers().get("x-amz-bucket-region").or(in_body) {
        Some(region) => {
            format!("bucket `{bucket}` is in region {}, not {used}: set `region` or AWS_REGION to it", shorten(region))
        }
        None => format!("bucket `{bucket}` is not in region {used}: set `region` or AWS_REGION to the right one"),
    }
}

/// A refusal for the time that the request carries.
pub(in crate::triggers) fn wrong_clock(raw: &HttpResponse, server: &str) -> String {
    let off = clock_difference(raw).unwrap_or_else(|| "too far off".into());
    format!("this machine's clock is {off} for {server}: set it, for example by NTP")
}

/// How far this machine's clock is from the time of the answer, which every server but the smallest tells.
fn clock_difference(raw: &HttpResponse) -> Option<String> {
    let there = DateTime::from_str(raw.headers().get("date")?, DateTimeFormat::HttpDate).ok()?.secs();
    let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let here = i64::try_from(here.as_secs()).ok()?;
    // To the minute: the seconds are the way of the answer.
    let minutes = (here - there).unsigned_abs() / 60;
    let direction = if here < there { "behind" } else { "ahead" };
    (minutes > 0).then(|| format!("{} {direction}, too far off", format_duration(Duration::from_secs(minutes * 60))))
}

/// A board without a clock of its own starts in the past, where no certificate is valid yet.
fn clock_hint(cause: &str) -> &'static str {
    let is_of_time = ["certificate not valid yet", "certificate expired"].iter().any(|said| cause.contains(said));
    if is_of_time { "; is this machine's clock right?" } else { "" }
}

/// The server, as a person would look for it.
fn server(connected: &Connected) -> String {
    match &connected.endpoint {
        Some(endpoint) => host_and_port(endpoint),
        None => format!("S3 in {}", connected.region),
    }
}

/// The innermost error of a type, which says most.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source()).filter_map(|error| error.downcast_ref::<E>()).last()
}

/// An error with its causes, each once: wrappers often repeat what they wrap.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |&error| error.source()) {
        let said = error.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
    }
    shorten(&text)
}

/// One line of bounded length: what a server says ends up in `status` and in the log.
pub(in crate::triggers) fn shorten(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(LONGEST_CAUSE).collect()
}
