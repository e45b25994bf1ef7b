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

    /// What was found could not be stored.
    pub(in crate::triggers) fn not_recorded() -> Trouble {
        Trouble { text: "what was found could not be recorded; it will be looked for again".into(), reconnect: false }
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

/// The innermost error of a type, which says most.
pub(in crate::triggers) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
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

/// One line of bounded length: the words of a server end up in `status` and in the log.
pub(in crate::triggers) fn shorten(text: &str) -> String {
    clipped(text, LONGEST_CAUSE)
}
