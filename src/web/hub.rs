//! What happens, told to everybody who follows.
//!
//! The loop hands a line to one task by a bounded queue, one wake-up however many follow; the task spreads it. Each
//! follower has its own place in a ring of a few hundred lines; whoever falls behind by more is dropped, because the
//! daemon's memory is not its buffer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::{broadcast, mpsc};

use crate::model::RunId;

/// Lines between the loop and the task that spreads them.
const QUEUE: usize = 1024;

/// Lines by which a follower may be late.
const RING: usize = 256;

/// Parts of a response that its connection has not taken yet.
const UNSENT: usize = 8;

/// How often a quiet stream says that it is alive, so that proxies keep it.
const PING: Duration = Duration::from_secs(25);

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Told {
    /// A run that ended with it.
    pub ended: Option<RunId>,
    /// The line of JSON, without its end.
    pub line: String,
}

/// What followers get: a line, or `None`: lines were lost, begin anew.
type Heard = Option<Arc<Told>>;

/// The loop's end.
#[derive(Debug)]
pub(super) struct Teller {
    queue: mpsc::Sender<Told>,
    followers: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

impl Teller {
    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    pub fn tell(&self, told: Told) {
        if self.queue.try_send(told).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

/// The followers' end.
#[derive(Debug)]
pub(super) struct Hub {
    ring: broadcast::Sender<Heard>,
    followers: Arc<AtomicUsize>,
}

/// What goes between the two.
#[derive(Debug)]
pub(super) struct Pump {
    queue: mpsc::Receiver<Told>,
    ring: broadcast::Sender<Heard>,
    overflowed: Arc<AtomicBool>,
}

pub(super) fn channel() -> (Teller, Hub, Pump) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let (ring, _) = broadcast::channel(RING);
    let (followers, overflowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let hub = Hub { ring: ring.clone(), followers: Arc::clone(&followers) };
    let pump = Pump { queue: receiver, ring, overflowed: Arc::clone(&overflowed) };
    (Teller { queue, followers, overflowed }, hub, pump)
}

impl Pump {
    /// Spreads what is told until nobody tells any more.
    pub async fn run(mut self) {
        while let Some(told) = self.queue.recv().await {
            // An error means that nobody follows.
            let _ = self.ring.send(Some(Arc::new(told)));
            if self.overflowed.swap(false, Ordering::Relaxed) {
                log::warn!("more happened than the followers of the window could be told; they were dropped");
                let _ = self.ring.send(None);
            }
        }
    }
}

/// Somebody who follows, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    ring: broadcast::Receiver<Heard>,
    followers: Arc<AtomicUsize>,
}

impl Hub {
    pub fn follow(&self) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower { ring: self.ring.subscribe(), followers: Arc::clone(&self.followers) }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a follower learns by waiting.
pub(super) enum Next {
    Told(Arc<Told>),
    /// Nothing happened for so long.
    Quiet,
    /// It was too slow, or the window closes.
    Over,
}

impl Follower {
    pub async fn next(&mut self, patience: Duration) -> Next {
        match tokio::time::timeout(patience, self.ring.recv()).await {
            Err(_) => Next::Quiet,
            Ok(Ok(Some(told))) => Next::Told(told),
            Ok(Err(broadcast::error::RecvError::Lagged(lines))) => {
                log::warn!("dropped a follower of the window that does not read: it was {lines} lines behind");
                Next::Over
            }
            Ok(Ok(None) | Err(broadcast::error::RecvError::Closed)) => Next::Over,
        }
    }
}

/// Where a task puts the parts of a response that goes on.
pub(super) type Feed = mpsc::Sender<Bytes>;

/// A response of server-sent events that `task` writes; it ends with the task, and the task with it.
pub(super) fn event_stream<F: Future<Output = ()> + Send + 'static>(task: impl FnOnce(Feed) -> F) -> Response {
    let (feed, parts) = mpsc::channel(UNSENT);
    let task = tokio::spawn(task(feed)).abort_handle();
    let mut response = Response::new(Body::new(Fed { parts, task }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// All that happens, as `ctl events` prints it.
pub(super) async fn follow_all(mut follower: Follower, feed: Feed) {
    // What a proxy or a browser waits for before it believes in the stream.
    let mut part = Bytes::from_static(b": firelink\n\n");
    loop {
        if feed.send(part).await.is_err() {
            return;
        }
        part = match follower.next(PING).await {
            Next::Told(told) => format!("data: {}\n\n", told.line).into(),
            Next::Quiet => Bytes::from_static(b": still here\n\n"),
            Next::Over => return,
        };
    }
}

struct Fed {
    parts: mpsc::Receiver<Bytes>,
    task: tokio::task::AbortHandle,
}

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.parts.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
