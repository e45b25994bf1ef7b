//! Failures of a queue's requests as sentences for the person who has to act.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;

use super::SqsWatch;
use crate::triggers::aws::errors::{PollError, shorten, wrong_clock};
use crate::triggers::aws::{Service, host_and_port};

/// A failed request; `action` is the permission that it needs.
pub(super) fn request<E>(error: &SdkError<E, HttpResponse>, watch: &SqsWatch, action: &str) -> PollError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let server = server(watch);
    let unusable = |cause: &str| PollError {
        text: format!("{server} sent an answer that can't be used: {cause}; is it an SQS server?"),
        reconnect: false,
    };
    let refused = |error: &E, raw: &HttpResponse| service(error, raw, watch, action);
    PollError::of(error, &server, (&watch.client, Service::Sqs), refused, unusable)
}

/// An error response. The part of its code before a `#` is a namespace.
fn service(error: &impl ProvideErrorMetadata, raw: &HttpResponse, watch: &SqsWatch, action: &str) -> PollError {
    let (server, status) = (server(watch), raw.status().as_u16());
    let said = error.message().map(|message| format!(" ({})", shorten(message))).unwrap_or_default();
    let code = error.code().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or(code);
    let is_skewed = || error.message().is_some_and(|said| said.contains("Signature expired") || said.contains("not yet current"));
    let (text, reconnect) = match (code, status) {
        ("AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist", _) => {
            (format!("no such queue at {server}: create it, or correct `source`"), false)
        }
        ("RequestExpired" | "RequestTimeTooSkewed", _) => (wrong_clock(raw, &server), false),
        ("InvalidSignatureException" | "SignatureDoesNotMatch", _) if is_skewed() => (wrong_clock(raw, &server), false),
        ("InvalidSignatureException" | "SignatureDoesNotMatch", _) => {
            (format!("{server} refuses the signature: check AWS_SECRET_ACCESS_KEY or the profile, and the region{said}"), true)
        }
        ("InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId", _) => {
            (format!("{server} does not know the access key: check AWS_ACCESS_KEY_ID or the profile"), true)
        }
        ("ExpiredToken" | "ExpiredTokenException" | "InvalidToken", _) => {
            (format!("{server} refuses the session token: it has expired or is wrong; get new credentials"), true)
        }
        ("RequestThrottled" | "ThrottlingException" | "Throttling" | "OverLimit" | "ServiceUnavailable", _) | (_, 429 | 503) => {
            (format!("{server} asks to slow down{said}"), false)
        }
        (_, 401 | 403) | ("AccessDenied" | "AccessDeniedException", _) => {
            (format!("access to the queue denied for these credentials: allow {action} on it{said}"), true)
        }
        ("", _) => (format!("{server} answered {status}, not as an SQS server does; is the queue's URL right?"), false),
        (code, _) => (format!("{server} answered {status} {}{said}", shorten(code)), false),
    };
    PollError { text, reconnect }
}

/// A failed entry of a batch request.
pub(super) fn refused(entry: &BatchResultErrorEntry, watch: &SqsWatch, does: &str) -> PollError {
    let (server, code) = (server(watch), shorten(entry.code()));
    let said = entry.message().map(|message| format!(" ({})", shorten(message))).unwrap_or_default();
    PollError { text: format!("{server} no longer {does} a message: {code}{said}"), reconnect: false }
}

/// The server, for messages.
fn server(watch: &SqsWatch) -> String {
    host_and_port(watch.client.endpoint.as_deref().unwrap_or(watch.queue.origin()))
}
