//! Failures of any AWS service as sentences for the person who has to act.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::{ClientSettings, Service};
use crate::model::format_duration;
use crate::text::clipped;

/// The longest description of an SDK error with all its causes, in characters.
const LONGEST_CAUSE: usize = 300;

/// Why a poll failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::triggers) struct PollError {
    /// What failed and how to fix it; without a full stop.
    pub(in crate::triggers) text: String,
    /// Environment, profile and credentials have to be read again before the next poll.
    pub(in crate::triggers) reconnect: bool,
}

impl PollError {
    /// No client can be created.
    pub(in crate::triggers) fn client(text: String) -> PollError {
        PollError { text, reconnect: true }
    }

    pub(super) fn no_region(settings: &ClientSettings) -> PollError {
        let of_profile = settings.profile.as_ref().map(|name| format!(" and profile `{name}` names none")).unwrap_or_default();
        PollError::client(format!("no AWS region is set{of_profile}: set AWS_REGION, or `region` in the `source` map"))
    }

    pub(super) fn no_credentials(settings: &ClientSettings, service: Service) -> PollError {
        let public = match service {
            Service::S3 => "; for a public bucket write `anonymous: true` in the `source` map",
            #[cfg(feature = "sqs")]
            Service::Sqs => "",
        };
        let profile = settings.profile.as_ref().map(|name| format!(" in profile `{name}`")).unwrap_or_default();
        PollError::client(format!(
            "no AWS credentials found{profile}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in \
             ~/.aws/credentials{public}"
        ))
    }

    pub(super) fn credentials(error: &CredentialsError, settings: &ClientSettings, service: Service) -> PollError {
        match error {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::ProviderTimedOut(_) => {
                PollError::no_credentials(settings, service)
            }
            other => PollError::client(format!("AWS credentials are not available: {}", cause(other))),
        }
    }

    /// The batch could not be stored.
    pub(in crate::triggers) fn not_recorded() -> PollError {
        PollError { text: "the events found could not be stored; the next poll finds them again".into(), reconnect: false }
    }

    /// A failed request: `refused` explains an error response, `unusable` a response that can't be parsed.
    pub(in crate::triggers) fn of<E: Error + 'static>(
        error: &SdkError<E, HttpResponse>,
        server: &str,
        (settings, service): (&ClientSettings, Service),
        refused: impl FnOnce(&E, &HttpResponse) -> PollError,
        unusable: impl FnOnce(&str) -> PollError,
    ) -> PollError {
        let at_server = |text: String| PollError { text, reconnect: false };
        if let Some(error) = find::<CredentialsError>(error) {
            return PollError::credentials(error, settings, service);
        }
        match error {
            SdkError::TimeoutError(_) => at_server(format!("{server} does not answer in time")),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => at_server(format!("{server} does not answer in time")),
            SdkError::DispatchFailure(_) => {
                let cause = find::<std::io::Error>(error).map_or_else(|| cause(error), ToString::to_string);
                at_server(format!("{server} can't be reached: {cause}{}", clock_hint(&cause)))
            }
            SdkError::ServiceError(answer) => refused(answer.err(), answer.raw()),
            SdkError::ResponseError(_) => unusable(&cause(error)),
            _ => PollError::client(format!("the request can't be made: {}", cause(error))),
        }
    }
}

/// A request that was refused for its timestamp.
pub(in crate::triggers) fn wrong_clock(raw: &HttpResponse, server: &str) -> String {
    let off = clock_difference(raw).unwrap_or_else(|| "too far off".into());
    format!("this machine's clock is {off} for {server}: set it, for example by NTP")
}

/// The difference between this machine's clock and the `Date` of the answer, which all but the smallest servers send.
fn clock_difference(raw: &HttpResponse) -> Option<String> {
    let there = DateTime::from_str(raw.headers().get("date")?, DateTimeFormat::HttpDate).ok()?.secs();
    let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let here = i64::try_from(here.as_secs()).ok()?;
    // In minutes: seconds may be network latency.
    let minutes = (here - there).unsigned_abs() / 60;
    let direction = if here < there { "behind" } else { "ahead" };
    (minutes > 0).then(|| format!("{} {direction}, too far off", format_duration(Duration::from_secs(minutes * 60))))
}

/// A board without a real-time clock boots in the past, where certificates are not valid yet.
fn clock_hint(cause: &str) -> &'static str {
    let is_of_time = ["certificate not valid yet", "certificate expired"].iter().any(|said| cause.contains(said));
    if is_of_time { "; is this machine's clock right?" } else { "" }
}

/// The innermost error of a type, which is the most specific.
pub(in crate::triggers) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source()).filter_map(|error| error.downcast_ref::<E>()).last()
}

/// An error with its causes, each once: wrappers often repeat their cause.
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

/// One line of bounded length: the words of a server end up in `status` and in the log.
pub(in crate::triggers) fn shorten(text: &str) -> String {
    clipped(text, LONGEST_CAUSE)
}
