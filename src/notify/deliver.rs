//! A hook's task: one letter after the other, each tried until it is taken or given up.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::client::{Answer, Client, Outgoing};
use super::letter::{Letter, signature};
use super::post::Post;
use crate::config::Calls;
use crate::model::format_duration;
use crate::triggers::Mailbox;

/// What became of a call.
enum Verdict {
    Taken,
    /// May go better later; not before so long, if the other side says so.
    Later(String, Option<Duration>),
    /// Would not.
    Never(String),
}

/// Delivers until the daemon ends and nothing is left.
pub(super) async fn work(post: Arc<Post>, client: Arc<Client>, mailbox: Mailbox) {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    loop {
        match post.next() {
            Some(letter) => {
                deliver(&post, &client, &host, &letter).await;
                post.done();
            }
            None if post.is_closing() => return mailbox.send(Box::new(())),
            None => post.news().await,
        }
    }
}

async fn deliver(post: &Post, client: &Client, host: &str, letter: &Letter) {
    let retry = &post.hook.retry;
    for attempt in 1.. {
        let told = post.untold();
        let (why, not_before) = match call(post, client, host, letter, told).await {
            Verdict::Taken => return post.taken(told),
            Verdict::Later(why, not_before) if attempt < retry.attempts && !post.is_closing() => (why, not_before),
            Verdict::Later(why, _) | Verdict::Never(why) => {
                post.failed(why.clone());
                log::warn!("{}: it was not told {}: {why}", post.shown, letter.in_words());
                return post.given_up();
            }
        };
        let wait =
            retry.backoff.delay_after(attempt, || random(attempt)).max(not_before.unwrap_or_default().min(retry.backoff.max));
        let again = format_duration(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        if post.failed(why.clone()) {
            log::warn!("{}: {why}; it is tried again in {again}", post.shown);
        } else {
            log::debug!("{}: {why}; it is tried again in {again}", post.shown);
        }
        let _ = tokio::time::timeout(wait, post.end()).await;
    }
}

async fn call(post: &Post, client: &Client, host: &str, letter: &Letter, dropped: u64) -> Verdict {
    let Ok(uri) = post.hook.url.parse::<Uri>() else { return Verdict::Never("its address is wrong".into()) };
    let mut outgoing = Outgoing { uri, headers: Vec::new(), body: None };
    if let Some((body, at)) = letter.body(host, dropped) {
        outgoing.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        outgoing.headers.push((HeaderName::from_static("x-firelink-timestamp"), at.into()));
        if let Ok(id) = HeaderValue::from_str(&letter.id) {
            outgoing.headers.push((HeaderName::from_static("x-firelink-delivery"), id));
        }
        if let Calls::Event { secret: Some(secret), .. } = &post.hook.calls {
            // Without its signature nothing is sent: the other side would not know from whom it is.
            let Some(value) = signature(secret, &body).and_then(|text| HeaderValue::from_str(&text).ok()) else {
                return Verdict::Never("it can't be signed".into());
            };
            outgoing.headers.push((HeaderName::from_static("x-firelink-signature"), value));
        }
        outgoing.body = Some(body);
    }
    match tokio::time::timeout(post.hook.timeout, Box::pin(client.send(outgoing))).await {
        Err(_) => Verdict::Later(format!("no answer within {}", format_duration(post.hook.timeout)), None),
        Ok(Err(why)) => Verdict::Later(why, None),
        Ok(Ok(answer)) => judge(&answer),
    }
}

fn judge(answer: &Answer) -> Verdict {
    let status = answer.status;
    let said = format!("it answered {status}");
    match status.as_u16() {
        200..300 => Verdict::Taken,
        408 | 429 | 500..600 => Verdict::Later(said, answer.retry_after),
        300..400 => Verdict::Never(format!("{said}, and redirects are not followed")),
        _ => Verdict::Never(said),
    }
}

/// Each hasher has keys of its own, which is all the randomness that this needs.
fn random(attempt: u32) -> u64 {
    RandomState::new().hash_one(attempt)
}
