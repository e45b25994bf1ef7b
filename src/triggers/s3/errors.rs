//! Failures of a bucket's listing as sentences for the person who has to act.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Error;

use super::S3Watch;
use super::client::Connected;
use super::whole::Incomplete;
use crate::triggers::aws::errors::{PollError, find, shorten, wrong_clock};
use crate::triggers::aws::{Service, host_and_port};

type ListError = SdkError<ListObjectsV2Error, HttpResponse>;

/// An answer that is not a listing.
pub(super) fn malformed(what: &str, connected: &Connected) -> PollError {
    let server = server(connected);
    PollError {
        text: format!("{server} sent a listing that can't be used: {what}; is the endpoint an S3 server?"),
        reconnect: false,
    }
}

/// A truncated answer, most likely because the connection broke.
pub(super) fn cut_short(connected: &Connected) -> PollError {
    let server = server(connected);
    let text = format!("{server} sent a listing that can't be used: {}; did the connection break?", Incomplete::CutShort);
    PollError { text, reconnect: false }
}

/// A failed request.
pub(super) fn request(error: &ListError, connected: &Connected, watch: &S3Watch) -> PollError {
    match find::<Incomplete>(error) {
        Some(Incomplete::CutShort) => return cut_short(connected),
        Some(Incomplete::Malformed) => return malformed(&Incomplete::Malformed.to_string(), connected),
        None => {}
    }
    let refused = |error: &ListObjectsV2Error, raw: &HttpResponse| refused(error, raw, connected, watch);
    let unusable = |cause: &str| malformed(cause, connected);
    PollError::of(error, &server(connected), (&watch.client, Service::S3), refused, unusable)
}

/// An error response.
fn refused(error: &ListObjectsV2Error, raw: &HttpResponse, connected: &Connected, watch: &S3Watch) -> PollError {
    let (bucket, server, status) = (&watch.bucket, server(connected), raw.status().as_u16());
    let said = error.message().map(|message| format!(" ({})", shorten(message))).unwrap_or_default();
    if raw.status().is_success() {
        return malformed("it is not the XML of a listing", connected);
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
    PollError { text, reconnect }
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

/// The server, for messages.
fn server(connected: &Connected) -> String {
    match &connected.endpoint {
        Some(endpoint) => host_and_port(endpoint),
        None => format!("S3 in {}", connected.region),
    }
}
