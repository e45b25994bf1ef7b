//! The task of a target: one delivery after the other, each tried until it is accepted or given up.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::delivery::{Delivery, signature};
use super::http::{Answer, Client, Outgoing};
use super::outbox::Outbox;
use crate::config::NotifyKind;
use crate::model::format_duration;
use crate::triggers::Mailbox;

/// The result of a call.
enum Outcome {
    Accepted,
    /// A failure that may pass; with the delay that the server asks for.
    Retry(String, Option<Duration>),
    /// A failure that would repeat.
    Failed(String),
}

/// Delivers until the outbox is closed and empty.
pub(super) async fn run(outbox: Arc<Outbox>, client: Arc<Client>, mailbox: Mailbox) {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    loop {
        match outbox.next() {
            Some(delivery) => {
                deliver(&outbox, &client, &host, &delivery).await;
                outbox.done();
            }
            None if outbox.is_closing() => return mailbox.send(Box::new(())),
            None => outbox.changed().await,
        }
    }
}

async fn deliver(outbox: &Outbox, client: &Client, host: &str, delivery: &Delivery) {
    let retry = &outbox.target.retry;
    for attempt in 1.. {
        let unreported = outbox.unreported();
        let (why, not_before) = match call(outbox, client, host, delivery, unreported).await {
            Outcome::Accepted => return outbox.accepted(unreported),
            Outcome::Retry(why, not_before) if attempt < retry.attempts && !outbox.is_closing() => (why, not_before),
            Outcome::Retry(why, _) | Outcome::Failed(why) => {
                outbox.failed(why.clone());
                log::warn!("{}: {}: {why}", outbox.origin, delivery.failure());
                return outbox.given_up();
            }
        };
        let wait =
            retry.backoff.delay_after(attempt, || random(attempt)).max(not_before.unwrap_or_default().min(retry.backoff.max));
        let again = format_duration(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        if outbox.failed(why.clone()) {
            log::warn!("{}: {why}; next try in {again}", outbox.origin);
        } else {
            log::debug!("{}: {why}; next try in {again}", outbox.origin);
        }
        let _ = tokio::time::timeout(wait, outbox.end()).await;
    }
}

async fn call(outbox: &Outbox, client: &Client, host: &str, delivery: &Delivery, dropped: u64) -> Outcome {
    let Ok(uri) = outbox.target.url.parse::<Uri>() else { return Outcome::Failed("the URL is not valid".into()) };
    let mut outgoing = Outgoing { uri, headers: Vec::new(), body: None };
    if let Some((body, at)) = delivery.body(host, dropped) {
        outgoing.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        outgoing.headers.push((HeaderName::from_static("x-firelink-timestamp"), at.into()));
        if let Ok(id) = HeaderValue::from_str(&delivery.id) {
            outgoing.headers.push((HeaderName::from_static("x-firelink-delivery"), id));
        }
        if let NotifyKind::Event { secret: Some(secret), .. } = &outbox.target.kind {
            // Never sent without its signature: the receiver could not tell it from a forgery.
            let Some(value) = signature(secret, &body).and_then(|text| HeaderValue::from_str(&text).ok()) else {
                return Outcome::Failed("the body can't be signed".into());
            };
            outgoing.headers.push((HeaderName::from_static("x-firelink-signature"), value));
        }
        outgoing.body = Some(body);
    }
    match tokio::time::timeout(outbox.target.timeout, Box::pin(client.send(outgoing))).await {
        Err(_) => Outcome::Retry(format!("no answer within {}", format_duration(outbox.target.timeout)), None),
        Ok(Err(why)) => Outcome::Retry(why, None),
        Ok(Ok(answer)) => classify(&answer),
    }
}

fn classify(answer: &Answer) -> Outcome {
    let status = answer.status;
    let said = format!("the server answered {status}");
    match status.as_u16() {
        200..300 => Outcome::Accepted,
        408 | 429 | 500..600 => Outcome::Retry(said, answer.retry_after),
        300..400 => Outcome::Failed(format!("{said}, and redirects are not followed")),
        _ => Outcome::Failed(said),
    }
}

/// Each hasher has random keys, which suffices for jitter.
fn random(attempt: u32) -> u64 {
    RandomState::new().hash_one(attempt)
}
