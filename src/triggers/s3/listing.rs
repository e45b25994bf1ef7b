//! One page of a listing: the request, and an answer that is believed only if it is whole.

use std::sync::Arc;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::DateTimeFormat;
use aws_sdk_s3::types::{EncodingType, Object};

use super::S3Watch;
use super::client::Connected;
use super::errors;
use super::whole::{self, NotWhole};
use crate::triggers::aws::errors::Trouble;
use crate::triggers::aws::url_encoding::decode;

/// Objects a page: what S3 gives at most.
pub(super) const PAGE_SIZE: i32 = 1_000;

/// An object as the listing tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    /// Without the quotes around it; the time of the last change for the rare server that gives none.
    pub(super) etag: String,
    /// RFC 3339.
    pub(super) last_modified: Option<String>,
}

/// Some objects, and the token that continues the listing, if it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    pub(super) next: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the first key of the prefix.
    Start,
    /// At the first key after this one.
    After(String),
    /// Where the page before has ended.
    Token(String),
}

/// Asks for a page.
pub(super) async fn load_page(connected: &Arc<Connected>, watch: &S3Watch, from: Begin) -> Result<Page, Trouble> {
    let (after, token) = match from {
        Begin::Start => (None, None),
        Begin::After(key) => (Some(key), None),
        Begin::Token(token) => (None, Some(token)),
    };
    let request = connected
        .client
        .list_objects_v2()
        .bucket(&watch.bucket)
        .max_keys(PAGE_SIZE)
        // XML can't hold every character of a key, and mangles line ends.
        .encoding_type(EncodingType::Url)
        .set_prefix(Some(watch.prefix.clone()).filter(|prefix| !prefix.is_empty()))
        .set_start_after(after)
        .set_continuation_token(token)
        .customize()
        .interceptor(WholeAnswer);
    // Boxed: the SDK's request future is some ten kilobytes, most of which a sleeping watch would keep.
    let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, connected, watch))?;
    let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let next = match (answer.is_truncated(), answer.next_continuation_token()) {
        (Some(true), Some(token)) if !token.is_empty() => Some(token.to_owned()),
        (Some(true), _) => return Err(errors::malformed("it goes on but does not say where", connected)),
        (Some(false), _) => None,
        (None, _) => return Err(errors::malformed("it does not say whether it is complete", connected)),
    };
    let objects = answer.contents.unwrap_or_default().into_iter().map(|object| to_listed(object, is_encoded));
    let objects = objects.collect::<Result<Vec<_>, _>>().map_err(|what| errors::malformed(what, connected))?;
    Ok(Page { objects, next })
}

fn to_listed(object: Object, is_encoded: bool) -> Result<Listed, &'static str> {
    let key = object.key.ok_or("an object has no key")?;
    let key = if is_encoded { decode(&key).ok_or("a key is not encoded as it says")? } else { key };
    // Without them an object would seem to change when the next listing has them.
    let size = u64::try_from(object.size.ok_or("an object has no size")?).map_err(|_| "an object has a negative size")?;
    let last_modified = object.last_modified.and_then(|at| at.fmt(DateTimeFormat::DateTime).ok());
    let etag = object.e_tag.or_else(|| last_modified.clone()).ok_or("an object has neither an etag nor a time")?;
    Ok(Listed { key, size, etag: etag.trim_matches('"').to_owned(), last_modified })
}

/// Refuses an answer that is not whole, whatever the SDK's parser made of it.
#[derive(Debug)]
struct WholeAnswer;

impl Intercept for WholeAnswer {
    fn name(&self) -> &'static str {
        "WholeAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if response.status().is_success() {
            // Without bytes, the connection broke while they came.
            whole::check(response.body().bytes().ok_or(NotWhole::CutShort)?)?;
        }
        Ok(())
    }
}
