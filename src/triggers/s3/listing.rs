//! One page of a listing: the request, and an answer that is used only if it is complete.

use std::sync::Arc;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::DateTimeFormat;
use aws_sdk_s3::types::{EncodingType, Object};

use super::S3Watch;
use super::client::Connected;
use super::errors;
use super::whole::{self, Incomplete};
use crate::triggers::aws::errors::PollError;
use crate::triggers::aws::url_encoding::decode;

/// Objects per page: the maximum of S3.
pub(super) const PAGE_SIZE: i32 = 1_000;

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    /// Without quotes; for the rare server that sends none, the time of the last change.
    pub(super) etag: String,
    /// RFC 3339.
    pub(super) last_modified: Option<String>,
}

/// The objects of a page, and the continuation token of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    pub(super) next: Option<String>,
}

/// Where a listing or its next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartPosition {
    /// At the first key of the prefix.
    First,
    /// At the first key after this one.
    After(String),
    /// At the end of the page with this continuation token.
    Token(String),
}

/// Requests a page.
pub(super) async fn load_page(connected: &Arc<Connected>, watch: &S3Watch, from: StartPosition) -> Result<Page, PollError> {
    let (after, token) = match from {
        StartPosition::First => (None, None),
        StartPosition::After(key) => (Some(key), None),
        StartPosition::Token(token) => (None, Some(token)),
    };
    let request = connected
        .client
        .list_objects_v2()
        .bucket(&watch.bucket)
        .max_keys(PAGE_SIZE)
        // XML can't represent every character of a key, and normalizes line ends.
        .encoding_type(EncodingType::Url)
        .set_prefix(Some(watch.prefix.clone()).filter(|prefix| !prefix.is_empty()))
        .set_start_after(after)
        .set_continuation_token(token)
        .customize()
        .interceptor(CompleteAnswer);
    // Boxed: the SDK's request future is some ten kilobytes, most of which a sleeping watch would keep.
    let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, connected, watch))?;
    let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let next = match (answer.is_truncated(), answer.next_continuation_token()) {
        (Some(true), Some(token)) if !token.is_empty() => Some(token.to_owned()),
        (Some(true), _) => return Err(errors::malformed("it is truncated without a continuation token", connected)),
        (Some(false), _) => None,
        (None, _) => return Err(errors::malformed("it has no `IsTruncated`", connected)),
    };
    let objects = answer.contents.unwrap_or_default().into_iter().map(|object| to_listed(object, is_encoded));
    let objects = objects.collect::<Result<Vec<_>, _>>().map_err(|what| errors::malformed(what, connected))?;
    Ok(Page { objects, next })
}

fn to_listed(object: Object, is_encoded: bool) -> Result<Listed, &'static str> {
    let key = object.key.ok_or("an object has no key")?;
    let key = if is_encoded { decode(&key).ok_or("a key is not URL-encoded")? } else { key };
    // Otherwise the object would count as changed once a listing has them.
    let size = u64::try_from(object.size.ok_or("an object has no size")?).map_err(|_| "an object has a negative size")?;
    let last_modified = object.last_modified.and_then(|at| at.fmt(DateTimeFormat::DateTime).ok());
    let etag = object.e_tag.or_else(|| last_modified.clone()).ok_or("an object has neither an ETag nor a modification time")?;
    Ok(Listed { key, size, etag: etag.trim_matches('"').to_owned(), last_modified })
}

/// Rejects an answer that is incomplete, whatever the SDK's parser made of it.
#[derive(Debug)]
struct CompleteAnswer;

impl Intercept for CompleteAnswer {
    fn name(&self) -> &'static str {
        "CompleteAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if response.status().is_success() {
            // No bytes: the connection broke in the middle of the body.
            whole::check(response.body().bytes().ok_or(Incomplete::CutShort)?)?;
        }
        Ok(())
    }
}
