//! Polling: one listing at a time, compared page by page with the seen-set.
//!
//! A [`Poller`] is a future on the S3 thread. It waits for [`Command::Poll`] and answers each with one [`Report::Done`]; in
//! between it may hand over batches, one at a time, and waits until each is recorded. A poll is only requested when the
//! last one is done, so two never overlap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::client::{Connected, SharedClient};
use super::listing::{Listed, PAGE_SIZE, Page, StartPosition, load_page};
use super::{S3Watch, errors};
use crate::model::{Batch, SeenObject, SeenSnapshot};
use crate::triggers::Mailbox;
use crate::triggers::aws::errors::PollError;
use crate::triggers::watch::Existing;
use crate::triggers::watch::hash;
use crate::triggers::watch::seen::{Lookup, SeenSet};

/// Objects in one event of a watch with `batch`, and keys that leave in one batch: the size of a page.
const BATCH_SIZE: usize = PAGE_SIZE as usize;

/// Consecutive pages that bring no new object. Servers may send empty pages, but a listing of nothing else would never end.
const MAX_PAGES_WITHOUT_PROGRESS: usize = 100;

/// Pages of one listing: ten million objects, a seen-set of 240 MB. Beyond that a watch needs a longer prefix.
const MAX_PAGES: usize = 10_000;

/// With `ordered`, each hundredth poll is a full listing, which then costs a poll a hundredth of its pages on average; at the
/// default interval it comes every 50 minutes.
const FULL_LISTING_EVERY: u32 = 100;

/// For one listing, without the time in which its batches are recorded.
const LISTING_TIMEOUT: Duration = Duration::from_secs(1800);

/// From the source to its poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Poll now.
    Poll,
    /// The batch is in the store.
    Recorded,
    /// The batch is not in the store.
    NotRecorded,
}

/// From the poller to its source.
#[derive(Debug)]
pub(super) enum Report {
    /// A batch to record.
    Found(Batch),
    /// The poll has ended.
    Done(Result<(), PollError>),
}

/// Why a poll ended early.
#[derive(Debug)]
enum Stop {
    /// It failed.
    Failed(PollError),
    /// The source is gone.
    Gone,
}

impl From<PollError> for Stop {
    fn from(error: PollError) -> Stop {
        Stop::Failed(error)
    }
}

/// A new or changed object of a page.
#[derive(Debug)]
struct Candidate {
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
    /// With `ordered`: the greatest key listed so far. Not stored: the first poll after a start is a full listing.
    last_key: Option<String>,
    /// With `ordered`: successful polls since the last full listing.
    short_polls: u32,
    client: Arc<SharedClient>,
    commands: UnboundedReceiver<Command>,
    mailbox: Mailbox,
}

/// Polls on command, until the source is dropped.
pub(super) async fn run(watch: S3Watch, known: SeenSnapshot, commands: UnboundedReceiver<Command>, mailbox: Mailbox) {
    let mut poller = Poller {
        client: SharedClient::for_settings(&watch.client),
        seen: SeenSet::from_snapshot(known.objects),
        baseline_done: known.baseline_done,
        last_key: None,
        short_polls: 0,
        watch,
        commands,
        mailbox,
    };
    while let Some(command) = poller.commands.recv().await {
        debug_assert_eq!(command, Command::Poll, "the answer to a batch is awaited where the batch is handed over");
        let result = match poller.poll().await {
            Ok(()) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Gone) => return,
        };
        poller.mailbox.send(Box::new(Report::Done(result)));
    }
}

impl Poller {
    async fn poll(&mut self) -> Result<(), Stop> {
        let connected = self.client.connected().await?;
        let result = self.scan(&connected).await;
        connected.http.close();
        if let Err(Stop::Failed(PollError { reconnect: true, .. })) = &result {
            self.client.discard(&connected).await;
        }
        result
    }

    /// Reads one listing to its end.
    async fn scan(&mut self, connected: &Arc<Connected>) -> Result<(), Stop> {
        let start = self.start_position();
        let is_full = start == StartPosition::First;
        let mut pending = Vec::new();
        let mut greatest: Option<String> = None;
        let mut position = start;
        let mut pages_without_progress = 0;
        let mut time_left = LISTING_TIMEOUT;
        for page in 0..MAX_PAGES {
            let began = Instant::now();
            let answer = tokio::time::timeout(time_left, load_page(connected, &self.watch, position.clone())).await;
            let Page { objects, next } =
                answer.map_err(|_| errors::malformed("it takes more than half an hour", connected))??;
            time_left = time_left.saturating_sub(began.elapsed());
            // A short poll without objects, which is the usual one, does not touch the memory of the seen-set.
            if page == 0 && (is_full || !objects.is_empty()) {
                self.seen.begin_listing();
            }
            if self.watch.ordered {
                greatest = greatest.max(objects.iter().map(|object| &object.key).max().cloned());
            }

            let (candidates, progress) = self.diff_page(objects, &pending);
            self.deliver_page(candidates, &mut pending).await?;
            pages_without_progress = if progress { 0 } else { pages_without_progress + 1 };
            let Some(token) = next.map(StartPosition::Token) else {
                self.finish(pending, is_full).await?;
                self.note_position(greatest, is_full);
                return Ok(());
            };
            if token == position || pages_without_progress > MAX_PAGES_WITHOUT_PROGRESS {
                return Err(errors::malformed("it repeats itself", connected).into());
            }
            position = token;
        }
        let most = MAX_PAGES * BATCH_SIZE;
        Err(PollError { text: format!("more than {most} objects; watch a longer prefix"), reconnect: false }.into())
    }

    /// Where the next listing begins. Only a full one can find changed objects and keys that left.
    fn start_position(&self) -> StartPosition {
        match &self.last_key {
            Some(key) if self.watch.ordered && self.short_polls + 1 < FULL_LISTING_EVERY => StartPosition::After(key.clone()),
            _ => StartPosition::First,
        }
    }

    /// After a complete listing, all of which is recorded: remembers where the next one may begin.
    fn note_position(&mut self, greatest: Option<String>, is_full: bool) {
        if is_full {
            self.short_polls = 0;
            self.last_key = greatest;
        } else {
            self.short_polls += 1;
            // `None` is less than any key.
            self.last_key = self.last_key.take().max(greatest);
        }
    }

    /// Compares a page with the seen-set. Returns the new and changed objects, ordered by key, and whether the page contained
    /// any object that this listing had not contained yet.
    fn diff_page(&mut self, mut objects: Vec<Listed>, pending: &[Candidate]) -> (Vec<Candidate>, bool) {
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        objects.dedup_by(|a, b| a.key == b.key);
        let mut candidates = Vec::new();
        let mut progress = false;
        // Markers that consoles create for empty folders are ignored.
        for object in objects.into_iter().filter(|object| !(object.size == 0 && object.key.ends_with('/'))) {
            let seen =
                SeenObject { key: hash::object_key(&object.key), version: hash::object_version(&object.etag, object.size) };
            let lookup = self.seen.look_up(seen);
            let is_candidate = match lookup {
                // Pending objects are not recorded yet, and so not in the seen-set.
                Lookup::New => pending.iter().all(|candidate| candidate.seen.key != seen.key),
                Lookup::Changed => true,
                Lookup::Known | Lookup::Repeated => false,
            };
            progress |= is_candidate || lookup == Lookup::Known;
            if is_candidate {
                candidates.push(Candidate { seen, event: self.makes_event(&object.key).then(|| self.payload(object)) });
            }
        }
        (candidates, progress)
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

    /// Hands over the candidates of a page. With `batch`, those with an event are collected until they fill one.
    async fn deliver_page(&mut self, candidates: Vec<Candidate>, pending: &mut Vec<Candidate>) -> Result<(), Stop> {
        if !self.watch.batch {
            return self.deliver_each(candidates).await;
        }
        let (with_event, without_event): (Vec<Candidate>, Vec<Candidate>) =
            candidates.into_iter().partition(|candidate| candidate.event.is_some());
        self.deliver_each(without_event).await?;
        pending.extend(with_event);
        while pending.len() >= BATCH_SIZE {
            let full = pending.drain(..BATCH_SIZE).collect();
            self.deliver_as_one(full).await?;
        }
        Ok(())
    }

    async fn deliver_each(&mut self, candidates: Vec<Candidate>) -> Result<(), Stop> {
        if candidates.is_empty() {
            return Ok(());
        }
        let seen = candidates.iter().map(|candidate| candidate.seen).collect();
        let events = candidates.into_iter().filter_map(|candidate| candidate.event).collect();
        self.deliver(Batch { events, seen, ..Batch::default() }).await
    }

    async fn deliver_as_one(&mut self, candidates: Vec<Candidate>) -> Result<(), Stop> {
        let seen = candidates.iter().map(|candidate| candidate.seen).collect();
        let objects: Vec<Value> = candidates.into_iter().filter_map(|candidate| candidate.event).collect();
        let event = json!({ "bucket": self.watch.bucket, "count": objects.len(), "objects": objects });
        self.deliver(Batch { events: vec![event], seen, ..Batch::default() }).await
    }

    /// Completes a listing: only now it is known which keys a full one did not contain.
    async fn finish(&mut self, pending: Vec<Candidate>, is_full: bool) -> Result<(), Stop> {
        if !pending.is_empty() {
            self.deliver_as_one(pending).await?;
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

    /// Hands a batch over and waits until it is stored; only then do its objects count as seen.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Stop> {
        let seen = batch.seen.clone();
        self.mailbox.send(Box::new(Report::Found(batch)));
        match self.commands.recv().await {
            Some(Command::Recorded) => {
                self.seen.insert(&seen);
                Ok(())
            }
            Some(Command::NotRecorded) => Err(PollError::not_recorded().into()),
            Some(Command::Poll) => {
                debug_assert!(false, "a poll was requested during a poll");
                Err(PollError::not_recorded().into())
            }
            None => Err(Stop::Gone),
        }
    }
}
