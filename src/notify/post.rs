//! A hook's queue and how it stands: what the loop and the hook's task share.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hyper::Uri;
use tokio::sync::Notify;

use super::Letter;
use crate::config::{Calls, Hook};
use crate::control::commands::status;
use crate::cron::Zone;
use crate::model::WallTime;

/// Letters that wait for one hook. At 16 KiB at most each, a hook that is down costs 4 MiB.
const QUEUE: usize = 256;

pub(super) struct Post {
    pub hook: Hook,
    /// Its scheme and host.
    pub shown: String,
    inner: Mutex<Inner>,
    /// There is a letter, or the end.
    news: Notify,
    /// The end, for who waits to try again.
    end: Notify,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Letter>,
    under_way: bool,
    closing: bool,
    /// Given up, in all and since the last letter that said so.
    dropped: u64,
    untold: u64,
    /// The queue overflowed and has not been empty since.
    overflowed: bool,
    delivered: u64,
    last_ok: Option<WallTime>,
    last_error: Option<String>,
}

impl Post {
    pub fn new(hook: Hook) -> Post {
        let uri: Uri = hook.url.parse().unwrap_or_default();
        let shown = format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
        Post { hook, shown, inner: Mutex::default(), news: Notify::new(), end: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_ping(&self) -> bool {
        matches!(self.hook.calls, Calls::Ping { .. })
    }

    /// Adds a letter; the oldest one gives way. One ping is as good as two.
    pub fn put(&self, letter: Letter) {
        let mut inner = self.inner();
        if self.is_ping() {
            inner.queue.clear();
        } else if inner.queue.len() >= QUEUE {
            inner.queue.pop_front();
            inner.dropped += 1;
            inner.untold += 1;
            if !std::mem::replace(&mut inner.overflowed, true) {
                log::warn!("{}: {QUEUE} events wait for this hook; from now on the oldest are dropped", self.shown);
            }
        }
        inner.queue.push_back(letter);
        drop(inner);
        self.news.notify_one();
    }

    /// The next letter, which is under way until [`Post::done`].
    pub fn next(&self) -> Option<Letter> {
        let mut inner = self.inner();
        let letter = inner.queue.pop_front();
        inner.under_way = letter.is_some();
        if letter.is_none() {
            inner.overflowed = false;
        }
        letter
    }

    /// How many letters were given up and not told of.
    pub fn untold(&self) -> u64 {
        self.inner().untold
    }

    /// The letter under way was taken; it told of so many that were not.
    pub fn taken(&self, told: u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut inner = self.inner();
        inner.untold = inner.untold.saturating_sub(told);
        inner.delivered += 1;
        inner.last_ok = Some(WallTime::from_nanos(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)));
        if inner.last_error.take().is_some() {
            log::info!("{}: takes calls again", self.shown);
        }
    }

    /// The letter under way was given up.
    pub fn given_up(&self) {
        if !self.is_ping() {
            let mut inner = self.inner();
            inner.dropped += 1;
            inner.untold += 1;
        }
    }

    /// A call failed; true if the one before had not.
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
        self.news.notify_one();
        self.end.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.inner().closing
    }

    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub async fn end(&self) {
        self.end.notified().await;
    }

    pub fn tell_undelivered(&self, why: &str) {
        let queued = self.queued();
        if queued > 0 && !self.is_ping() {
            log::warn!("{}: {why}; {queued} event{} not delivered", self.shown, if queued == 1 { "" } else { "s" });
        }
    }

    pub fn status(&self, zone: Zone) -> status::Hook {
        let inner = self.inner();
        status::Hook {
            to: self.shown.clone(),
            kind: if self.is_ping() { "ping" } else { "webhook" }.into(),
            last_ok_at: inner.last_ok.map(|at| zone.rfc3339(at)),
            last_error: inner.last_error.clone(),
            delivered: inner.delivered,
            queued: inner.queue.len() + usize::from(inner.under_way),
            dropped: inner.dropped,
        }
    }
}
