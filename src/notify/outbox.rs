//! The queue of a target and its statistics, shared by the loop and the target's task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hyper::Uri;
use tokio::sync::Notify;

use super::Delivery;
use crate::config::{NotifyKind, NotifyTarget};
use crate::control::commands::status;
use crate::cron::Zone;
use crate::model::WallTime;

/// Deliveries queued for one target. At most 16 KiB each, so a target that is down costs 4 MiB.
const MAX_QUEUED: usize = 256;

pub(super) struct Outbox {
    pub target: NotifyTarget,
    /// Its scheme and host: the rest of the URL is a secret.
    pub origin: String,
    inner: Mutex<Inner>,
    /// A delivery was queued, or the outbox closed.
    changed: Notify,
    /// The outbox was closed: ends the wait before a retry.
    end: Notify,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Delivery>,
    under_way: bool,
    closing: bool,
    /// Given up, in all and since the last delivery that reported the number.
    dropped: u64,
    unreported: u64,
    /// The queue has overflowed since it was last empty.
    overflowed: bool,
    delivered: u64,
    last_ok: Option<WallTime>,
    last_error: Option<String>,
}

impl Outbox {
    pub fn new(target: NotifyTarget) -> Outbox {
        let uri: Uri = target.url.parse().unwrap_or_default();
        let origin = format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
        Outbox { target, origin, inner: Mutex::default(), changed: Notify::new(), end: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_ping(&self) -> bool {
        matches!(self.target.kind, NotifyKind::Ping { .. })
    }

    /// Queues a delivery; a full queue drops its oldest. A ping replaces the one before it.
    pub fn push(&self, delivery: Delivery) {
        let mut inner = self.inner();
        if self.is_ping() {
            inner.queue.clear();
        } else if inner.queue.len() >= MAX_QUEUED {
            inner.queue.pop_front();
            inner.dropped += 1;
            inner.unreported += 1;
            if !std::mem::replace(&mut inner.overflowed, true) {
                log::warn!("{}: {MAX_QUEUED} webhook deliveries are queued; dropping the oldest from now on", self.origin);
            }
        }
        inner.queue.push_back(delivery);
        drop(inner);
        self.changed.notify_one();
    }

    /// Takes the next delivery, which counts as queued until [`Outbox::done`].
    pub fn next(&self) -> Option<Delivery> {
        let mut inner = self.inner();
        let delivery = inner.queue.pop_front();
        inner.under_way = delivery.is_some();
        if delivery.is_none() {
            inner.overflowed = false;
        }
        delivery
    }

    /// The number of deliveries that were given up and not reported yet.
    pub fn unreported(&self) -> u64 {
        self.inner().unreported
    }

    /// The current delivery was accepted; it reported this number of lost ones.
    pub fn accepted(&self, reported: u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut inner = self.inner();
        inner.unreported = inner.unreported.saturating_sub(reported);
        inner.delivered += 1;
        inner.last_ok = Some(WallTime::from_nanos(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)));
        if inner.last_error.take().is_some() {
            log::info!("{}: accepts calls again", self.origin);
        }
    }

    /// The current delivery was given up.
    pub fn given_up(&self) {
        if !self.is_ping() {
            let mut inner = self.inner();
            inner.dropped += 1;
            inner.unreported += 1;
        }
    }

    /// A call failed; true if the call before it had not.
    pub fn failed(&self, why: String) -> bool {
        self.inner().last_error.replace(why).is_none()
    }

    pub fn done(&self) {
        self.inner().under_way = false;
    }

    pub fn queued(&self) -> usize {
        let inner = self.inner();
        inner.queue.len() + usize::from(inner.under_way)
    }

    pub fn close(&self) {
        let mut inner = self.inner();
        inner.closing = true;
        if self.is_ping() {
            inner.queue.clear();
        }
        drop(inner);
        self.changed.notify_one();
        self.end.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.inner().closing
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub async fn end(&self) {
        self.end.notified().await;
    }

    pub fn log_undelivered(&self, why: &str) {
        let queued = self.queued();
        if queued > 0 && !self.is_ping() {
            log::warn!("{}: {why}; {queued} event{} not delivered", self.origin, if queued == 1 { "" } else { "s" });
        }
    }

    pub fn status(&self, zone: Zone) -> status::NotifyTarget {
        let inner = self.inner();
        status::NotifyTarget {
            to: self.origin.clone(),
            kind: if self.is_ping() { "ping" } else { "webhook" }.into(),
            last_ok_at: inner.last_ok.map(|at| zone.rfc3339(at)),
            last_error: inner.last_error.clone(),
            delivered: inner.delivered,
            queued: inner.queue.len() + usize::from(inner.under_way),
            dropped: inner.dropped,
        }
    }
}
