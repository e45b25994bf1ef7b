//! Polling: one listing at a time, compared page by page with what was seen.
//!
//! A [`Poller`] is a future in the S3 thread. It sleeps until it is told to poll, and answers each order with one
//! [`Note::Done`]; while it polls it may hand over batches, one at a time, and waits for each to be recorded. Since
//! nobody orders a poll before the last one is done, two never overlap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::client::{Connected, SharedClient};
use super::listing::{Begin, Listed, PAGE_SIZE, Page, load_page};
use super::trouble::Trouble;
use super::{Existing, S3Watch};
use crate::model::{Batch, SeenObject, SeenSnapshot};
use crate::triggers::Mailbox;
use crate::triggers::watch::hash;
use crate::triggers::watch::seen::{SeenSet, Sight};

/// Objects in one event of a watch with `batch`, and keys that leave in one batch: a page's worth.
const BATCH_SIZE: usize = PAGE_SIZE as usize;

/// Pages in a row without an object that the listing did not contain before. Servers may send empty pages, but one that
/// sends nothing else never ends.
const BARREN_PAGES: usize = 100;

/// Pages of one listing: ten million objects, 240 MB of seen-set. Past that a watch needs a longer prefix.
const MOST_PAGES: usize = 10_000;

/// Polls of an `ordered` watch from one full listing to the next, that one included. However many pages a full listing
/// has, a poll then costs a hundredth of them on average; at the default interval, it comes every 50 minutes.
const FULL_LISTING_EVERY: u32 = 100;

/// One listing in all, without the time in which its batches are recorded.
const LISTING_TIMEOUT: Duration = Duration::from_secs(1800);

/// From the source to its poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Poll now.
    Poll,
    /// The batch is in the store.
    Recorded,
    /// The batch is not in the store.
    NotRecorded,
}

/// From the poller to its source.
#[derive(Debug)]
pub(super) enum Note {
    /// Record this, and say so.
    Found(Batch),
    /// The poll is over, well or not.
    Done(Result<(), Trouble>),
}

/// Why a poll ended early.
#[derive(Debug)]
enum Stop {
    /// It failed.
    Trouble(Trouble),
    /// The source is gone.
    Gone,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// One object of a page that is new or changed.
#[derive(Debug)]
struct Find {
    seen: SeenObject,
    /// Its payload, if it makes an event.
    event: Option<Value>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Poller {
    watch: S3Watch,
    seen: SeenSet,
    baseline_done: bool,
    /// With `ordered`: the greatest key of the listings so far. Not stored: the first poll after a start lists everything.
    last_key: Option<String>,
    /// With `ordered`: good polls since the last full listing.
    short_polls: u32,
    client: Arc<SharedClient>,
    orders: UnboundedReceiver<Order>,
    mailbox: Mailbox,
}

/// Polls as often as it is told to, until the source is gone.
pub(super) async fn run(watch: S3Watch, known: SeenSnapshot, orders: UnboundedReceiver<Order>, mailbox: Mailbox) {
    let mut poller = Poller {
        client: SharedClient::for_settings(&watch.client),
        seen: SeenSet::from_snapshot(known.objects),
        baseline_done: known.baseline_done,
        last_key: None,
        short_polls: 0,
        watch,
        orders,
        mailbox,
    };
    while let Some(order) = poller.orders.recv().await {
        debug_assert_eq!(order, Order::Poll, "answers are awaited where their batch was handed over");
        let result = match poller.poll().await {
            Ok(()) => Ok(()),
            Err(Stop::Trouble(trouble)) => Err(trouble),
            Err(Stop::Gone) => return,
        };
        poller.mailbox.send(Box::new(Note::Done(result)));
    }
}

impl Poller {
    async fn poll(&mut self) -> Result<(), Stop> {
        let connected = self.client.connected().await?;
        let result = self.scan(&connected).await;
        connected.http.close();
        if let Err(Stop::Trouble(Trouble { reconnect: true, .. })) = &result {
            self.client.forget(&connected).await;
        }
        result
    }

    /// Reads one listing from where it begins to its end.
    async fn scan(&mut self, connected: &Arc<Connected>) -> Result<(), Stop> {
        let start = self.begin();
        let is_full = start == Begin::Start;
        let mut gathered = Vec::new();
        let mut greatest: Option<String> = None;
        let mut begin = start;
        let mut barren = 0;
        let mut time_left = LISTING_TIMEOUT;
        for page in 0..MOST_PAGES {
            let began = Instant::now();
            let answer = tokio::time::timeout(time_left, load_page(connected, &self.watch, begin.clone())).await;
            let Page { objects, next } = answer.map_err(|_| Trouble::malformed("it does not end", connected))??;
            time_left = time_left.saturating_sub(began.elapsed());
            // A short poll that brings nothing, which is nearly each, leaves the seen-set's memory alone.
            if page == 0 && (is_full || !objects.is_empty()) {
                self.seen.begin_listing();
            }
            if self.watch.ordered {
                greatest = greatest.max(objects.iter().map(|object| &object.key).max().cloned());
            }

            let (finds, progress) = self.sift(objects, &gathered);
            self.deliver_page(finds, &mut gathered).await?;
            barren = if progress { 0 } else { barren + 1 };
            let Some(token) = next.map(Begin::Token) else {
                self.finish(gathered, is_full).await?;
                self.remember(greatest, is_full);
                return Ok(());
            };
            if token == begin || barren > BARREN_PAGES {
                return Err(Trouble::malformed("it goes round in a circle", connected).into());
            }
            begin = token;
        }
        let most = MOST_PAGES * BATCH_SIZE;
        Err(Trouble { text: format!("more than {most} objects: watch a longer prefix"), reconnect: false }.into())
    }

    /// Where the next listing begins. Only one from the start says what has changed or left.
    fn begin(&self) -> Begin {
        match &self.last_key {
            Some(key) if self.watch.ordered && self.short_polls + 1 < FULL_LISTING_EVERY => Begin::After(key.clone()),
            _ => Begin::Start,
        }
    }

    /// After a listing that was read to its end, all of which is recorded: where the next one may begin.
    fn remember(&mut self, greatest: Option<String>, is_full: bool) {
        if is_full {
            self.short_polls = 0;
            self.last_key = greatest;
        } else {
            self.short_polls += 1;
            // `None` is less than any key.
            self.last_key = self.last_key.take().max(greatest);
        }
    }

    /// Compares a page with what was seen. Answers what is new or changed, ordered by key, and whether the page
    /// contained anything that this listing had not contained yet.
    fn sift(&mut self, mut objects: Vec<Listed>, gathered: &[Find]) -> (Vec<Find>, bool) {
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        objects.dedup_by(|a, b| a.key == b.key);
        let mut finds = Vec::new();
        let mut progress = false;
        // What consoles make for an empty folder is no object to anyone.
        for object in objects.into_iter().filter(|object| !(object.size == 0 && object.key.ends_with('/'))) {
            let seen =
                SeenObject { key: hash::object_key(&object.key), version: hash::object_version(&object.etag, object.size) };
            let sight = self.seen.sight(seen);
            let is_find = match sight {
                // What is gathered for a batch is not recorded yet, and so not in the seen-set.
                Sight::New => gathered.iter().all(|find| find.seen.key != seen.key),
                Sight::Changed => true,
                Sight::Known | Sight::Repeated => false,
            };
            progress |= is_find || sight == Sight::Known;
            if is_find {
                finds.push(Find { seen, event: self.makes_event(&object.key).then(|| self.payload(object)) });
            }
        }
        (finds, progress)
    }

    fn makes_event(&self, key: &str) -> bool {
        let taken_as_seen = !self.baseline_done && self.watch.existing == Existing::Skip;
        !taken_as_seen && self.watch.filter.as_ref().is_none_or(|filter| filter.matches(&self.watch.prefix, key))
    }

    fn payload(&self, object: Listed) -> Value {
        let Listed { key, size, etag, last_modified } = object;
        if self.watch.batch {
            return json!({ "key": key, "size": size, "etag": etag, "last_modified": last_modified });
        }
        json!({ "bucket": self.watch.bucket, "key": key, "size": size, "etag": etag, "last_modified": last_modified })
    }

    /// Hands over what a page brought. With `batch`, what makes an event is gathered until it fills one.
    async fn deliver_page(&mut self, finds: Vec<Find>, gathered: &mut Vec<Find>) -> Result<(), Stop> {
        if !self.watch.batch {
            return self.deliver_each(finds).await;
        }
        let (loud, silent): (Vec<Find>, Vec<Find>) = finds.into_iter().partition(|find| find.event.is_some());
        self.deliver_each(silent).await?;
        gathered.extend(loud);
        while gathered.len() >= BATCH_SIZE {
            let full = gathered.drain(..BATCH_SIZE).collect();
            self.deliver_as_one(full).await?;
        }
        Ok(())
    }

    async fn deliver_each(&mut self, finds: Vec<Find>) -> Result<(), Stop> {
        if finds.is_empty() {
            return Ok(());
        }
        let seen = finds.iter().map(|find| find.seen).collect();
        let events = finds.into_iter().filter_map(|find| find.event).collect();
        self.deliver(Batch { events, seen, ..Batch::default() }).await
    }

    async fn deliver_as_one(&mut self, finds: Vec<Find>) -> Result<(), Stop> {
        let seen = finds.iter().map(|find| find.seen).collect();
        let objects: Vec<Value> = finds.into_iter().filter_map(|find| find.event).collect();
        let event = json!({ "bucket": self.watch.bucket, "count": objects.len(), "objects": objects });
        self.deliver(Batch { events: vec![event], seen, ..Batch::default() }).await
    }

    /// Ends a listing that was read to its end: only now is it known what it does not contain, if it began at the start.
    async fn finish(&mut self, gathered: Vec<Find>, is_full: bool) -> Result<(), Stop> {
        if !gathered.is_empty() {
            self.deliver_as_one(gathered).await?;
        }
        if !self.baseline_done {
            self.deliver(Batch { baseline_done: true, ..Batch::default() }).await?;
            self.baseline_done = true;
        }
        if !is_full {
            return Ok(());
        }
        let mut recorded = 0;
        let mut cursor = 0;
        let result = loop {
            let gone = self.seen.next_unlisted(&mut cursor, BATCH_SIZE);
            if gone.is_empty() {
                break Ok(());
            }
            if let Err(stop) = self.deliver(Batch { gone, ..Batch::default() }).await {
                break Err(stop);
            }
            recorded = cursor;
        };
        self.seen.remove_unlisted(recorded);
        result
    }

    /// Hands a batch over and waits until the store has it; only then do its objects count as seen.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Stop> {
        let seen = batch.seen.clone();
        self.mailbox.send(Box::new(Note::Found(batch)));
        match self.orders.recv().await {
            Some(Order::Recorded) => {
                self.seen.insert(&seen);
                Ok(())
            }
            Some(Order::NotRecorded) => Err(Trouble::not_recorded().into()),
            Some(Order::Poll) => {
                debug_assert!(false, "a poll was ordered while one was under way");
                Err(Trouble::not_recorded().into())
            }
            None => Err(Stop::Gone),
        }
    }
}
