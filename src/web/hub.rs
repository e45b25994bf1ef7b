//! Live events, for every follower.
//!
//! The loop puts each event into a bounded queue, one wake-up however many followers there are; one task broadcasts it.
//! Each follower has its own position in a ring of a few hundred events; a follower that falls behind by more is dropped,
//! so that slow clients do not cost memory.

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

/// Events between the loop and the task that broadcasts them.
const QUEUE: usize = 1024;

/// Events by which a follower may fall behind.
const RING: usize = 256;

/// Chunks of a response that are not sent yet.
const UNSENT: usize = 8;

/// The interval of keep-alive comments on an idle stream, without which proxies close it.
const PING: Duration = Duration::from_secs(25);

/// One event.
#[derive(Clone, Debug)]
pub struct EventLine {
    /// The run that has ended, if the event is about an end.
    pub ended: Option<RunId>,
    /// The event as JSON, without a line end.
    pub line: String,
}

/// An event, or `None`: events were lost, and followers have to reconnect.
type Broadcast = Option<Arc<EventLine>>;

/// The loop's half.
#[derive(Debug)]
pub(super) struct Publisher {
    queue: mpsc::Sender<EventLine>,
    followers: Arc<AtomicUsize>,
    overflowed: Arc<AtomicBool>,
}

impl Publisher {
    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    pub fn publish(&self, line: EventLine) {
        if self.queue.try_send(line).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

/// The followers' half.
#[derive(Debug)]
pub(super) struct Hub {
    ring: broadcast::Sender<Broadcast>,
    followers: Arc<AtomicUsize>,
}

/// The task between the two.
#[derive(Debug)]
pub(super) struct Pump {
    queue: mpsc::Receiver<EventLine>,
    ring: broadcast::Sender<Broadcast>,
    overflowed: Arc<AtomicBool>,
}

pub(super) fn channel() -> (Publisher, Hub, Pump) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let (ring, _) = broadcast::channel(RING);
    let (followers, overflowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let hub = Hub { ring: ring.clone(), followers: Arc::clone(&followers) };
    let pump = Pump { queue: receiver, ring, overflowed: Arc::clone(&overflowed) };
    (Publisher { queue, followers, overflowed }, hub, pump)
}

impl Pump {
    /// Broadcasts events until the publisher is dropped.
    pub async fn run(mut self) {
        while let Some(line) = self.queue.recv().await {
            // An error means that there are no followers.
            let _ = self.ring.send(Some(Arc::new(line)));
            if self.overflowed.swap(false, Ordering::Relaxed) {
                log::warn!("too many events for the followers of the web UI; they were disconnected");
                let _ = self.ring.send(None);
            }
        }
    }
}

/// A subscription, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    ring: broadcast::Receiver<Broadcast>,
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

/// The result of waiting for an event.
pub(super) enum Next {
    Event(Arc<EventLine>),
    /// None came in time.
    Timeout,
    /// The follower was too slow, or the server stops.
    Closed,
}

impl Follower {
    pub async fn next(&mut self, timeout: Duration) -> Next {
        match tokio::time::timeout(timeout, self.ring.recv()).await {
            Err(_) => Next::Timeout,
            Ok(Ok(Some(line))) => Next::Event(line),
            Ok(Err(broadcast::error::RecvError::Lagged(lines))) => {
                log::warn!("disconnected a follower of the web UI that does not read: it was {lines} events behind");
                Next::Closed
            }
            Ok(Ok(None) | Err(broadcast::error::RecvError::Closed)) => Next::Closed,
        }
    }
}

/// Takes the chunks of a streamed response.
pub(super) type Feed = mpsc::Sender<Bytes>;

/// A response of server-sent events that `task` writes; either ends with the other.
pub(super) fn event_stream<F: Future<Output = ()> + Send + 'static>(task: impl FnOnce(Feed) -> F) -> Response {
    let (feed, chunks) = mpsc::channel(UNSENT);
    let task = tokio::spawn(task(feed)).abort_handle();
    let mut response = Response::new(Body::new(StreamBody { chunks, task }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Sends every event, as `ctl events` prints it.
pub(super) async fn follow_all(mut follower: Follower, feed: Feed) {
    // At once: some proxies and browsers hold the response back until the first bytes of its body.
    let mut chunk = Bytes::from_static(b": firelink\n\n");
    loop {
        if feed.send(chunk).await.is_err() {
            return;
        }
        chunk = match follower.next(PING).await {
            Next::Event(line) => format!("data: {}\n\n", line.line).into(),
            Next::Timeout => Bytes::from_static(b": keep-alive\n\n"),
            Next::Closed => return,
        };
    }
}

struct StreamBody {
    chunks: mpsc::Receiver<Bytes>,
    task: tokio::task::AbortHandle,
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.task.abort();
    }
}
