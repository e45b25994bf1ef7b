//! The reactor's half of a queue: the state of each message, from its receipt to its deletion.
//!
//! A message is in one place at a time: in the batch in flight, in flight itself (its run has not ended), or to be deleted.
//! Any other message is left to the queue.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::dedup::{self, DedupSet, DedupState};
use super::link::{Action, BATCH_SIZE, Link, Message, Receipt, Report};
use super::message::{self, Content};
use super::{Ack, MAX_IN_FLIGHT, SqsWatch, VISIBILITY_TIMEOUT};
use crate::model::{Backoff, Batch, Elapsed, Jitter, ObjectKey, StateWord, format_duration};
use crate::triggers::aws::errors::PollError;
use crate::triggers::watch::hash::object_key;
use crate::triggers::{Readiness, Source, SourceHost};

/// The delay after the first failed request.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The longest delay between two tries.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);

/// A server that answers an empty long poll sooner than this does not support long polling; it is asked again after
/// [`SHORT_POLL_INTERVAL`].
const SHORTEST_LONG_POLL: Duration = Duration::from_secs(2);
const SHORT_POLL_INTERVAL: Duration = Duration::from_secs(20);

/// How often visibility timeouts are extended: two requests in a row may fail.
const EXTEND_INTERVAL: Duration = Duration::from_secs(VISIBILITY_TIMEOUT.as_secs() / 3);

/// How long shutdown waits until messages are deleted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Expired ids that leave the store with one batch.
const EXPIRED_PER_BATCH: usize = 100;

/// The retries of one kind of request.
#[derive(Debug, Default)]
struct Retries {
    failures: u32,
    /// No request before this instant.
    retry_at: Option<Elapsed>,
    warning: Option<String>,
}

impl Retries {
    fn on_result(&mut self, error: Option<PollError>, now: Elapsed, watch: &SqsWatch) {
        let Some(error) = error else {
            *self = Retries::default();
            return;
        };
        self.failures = self.failures.saturating_add(1);
        let backoff = Backoff { delay: RETRY_DELAY, factor: 2, max: MAX_RETRY_DELAY, jitter: Jitter::Stable(watch.spread) };
        // Stable jitter draws no number.
        let wait = backoff.delay_after(self.failures, || 0);
        // In whole seconds: the digits of the jitter are noise.
        let shown = format_duration(Duration::from_secs(wait.as_secs()));
        self.retry_at = Some(now + wait);
        self.warning = Some(format!("{}: {}; next try in {shown}", watch.queue, error.text));
    }

    fn is_due(&self, now: Elapsed) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }
}

/// See the module.
pub(super) struct SqsSource {
    watch: SqsWatch,
    link: Option<Link>,
    dedup: DedupSet,
    /// The messages of the batch in flight; empty for one that only deletes ids.
    batch: Option<Vec<Receipt>>,
    /// Messages that were received while a batch was in flight.
    received: Vec<Message>,
    /// Messages whose runs have not ended; with `ack: after_success`, and the receipt handles to extend.
    in_flight: HashMap<String, Option<String>>,
    /// Receipt handles of messages to delete, by id.
    to_delete: HashMap<String, String>,
    /// Ids to delete from the store.
    to_forget: Vec<ObjectKey>,
    /// When the current long poll began.
    receiving: Option<Elapsed>,
    is_deleting: bool,
    receive_retries: Retries,
    delete_retries: Retries,
    extend_warning: Option<String>,
    extend_at: Option<Elapsed>,
    /// The runs of messages to delete are not written yet: when the write is tried again.
    unwritten_until: Option<Elapsed>,
    /// Set at shutdown: when it stops waiting.
    closing: Option<Elapsed>,
    has_timed_out: bool,
}

impl SqsSource {
    pub(super) fn new(watch: SqsWatch) -> SqsSource {
        SqsSource {
            watch,
            link: None,
            dedup: DedupSet::default(),
            batch: None,
            received: Vec::new(),
            in_flight: HashMap::new(),
            to_delete: HashMap::new(),
            to_forget: Vec::new(),
            receiving: None,
            is_deleting: false,
            receive_retries: Retries::default(),
            delete_retries: Retries::default(),
            extend_warning: None,
            extend_at: None,
            unwritten_until: None,
            closing: None,
            has_timed_out: false,
        }
    }

    fn act(&self, action: Action) {
        if let Some(link) = &self.link {
            link.act(action);
        }
    }

    fn acks_after_success(&self) -> bool {
        self.watch.ack == Ack::AfterSuccess
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        self.has_timed_out |= self.closing.is_some_and(|until| until <= now);
        self.process_received(host);
        self.retry_write(host, now);
        self.delete(now);
        self.extend_visibility(now);
        self.forget(host);
        self.receive(host, now);
        let waits = [
            self.receive_retries.retry_at.filter(|_| self.receiving.is_none() && self.closing.is_none()),
            self.delete_retries.retry_at.filter(|_| !self.is_deleting && !self.to_delete.is_empty()),
            self.extend_at,
            self.unwritten_until,
            self.closing.filter(|_| !self.has_timed_out),
        ];
        host.wake_at(waits.into_iter().flatten().filter(|at| *at > now).min());
        let warnings = [&self.receive_retries.warning, &self.delete_retries.warning, &self.extend_warning];
        let mut warnings: Vec<&str> = warnings.into_iter().filter_map(Option::as_deref).collect();
        warnings.dedup();
        host.warn((!warnings.is_empty()).then(|| warnings.join("; ")));
    }

    fn receive(&mut self, host: &mut dyn SourceHost, now: Elapsed) {
        let most = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len()).min(BATCH_SIZE);
        let is_idle = self.receiving.is_none() && self.received.is_empty() && self.batch.is_none() && self.closing.is_none();
        // While deletions fail, received messages would only be delivered again.
        let is_useful = most > 0 && self.to_delete.len() < BATCH_SIZE && self.receive_retries.is_due(now);
        if is_idle && is_useful && host.room() > 0 {
            self.receiving = Some(now);
            self.link.iter().for_each(|link| link.request(most));
        }
    }

    /// While runs are in memory alone, because a write failed after all, their messages are not deleted; an empty batch has
    /// the write tried again.
    fn retry_write(&mut self, host: &mut dyn SourceHost, now: Elapsed) {
        if self.to_delete.is_empty() || host.is_written() {
            self.unwritten_until = None;
        } else if *self.unwritten_until.get_or_insert(now + RETRY_DELAY) <= now && self.batch.is_none() {
            self.unwritten_until = Some(now + RETRY_DELAY);
            self.emit(host, Batch::default(), Vec::new());
        }
    }

    fn delete(&mut self, now: Elapsed) {
        if self.is_deleting || self.to_delete.is_empty() || self.unwritten_until.is_some() || !self.delete_retries.is_due(now) {
            return;
        }
        self.is_deleting = true;
        let receipts = self.to_delete.iter().map(|(id, handle)| Receipt { id: id.clone(), handle: handle.clone() }).collect();
        self.act(Action::Delete(receipts));
    }

    /// Keeps messages in flight hidden from other receivers.
    fn extend_visibility(&mut self, now: Elapsed) {
        let hidden = self.in_flight.iter().filter_map(|(id, handle)| Some((id, handle.as_ref()?)));
        let receipts: Vec<Receipt> = hidden.map(|(id, handle)| Receipt { id: id.clone(), handle: handle.clone() }).collect();
        if receipts.is_empty() {
            self.extend_at = None;
            self.extend_warning = None;
        } else if *self.extend_at.get_or_insert(now + EXTEND_INTERVAL) <= now {
            self.extend_at = Some(now + EXTEND_INTERVAL);
            self.act(Action::ExtendVisibility(receipts));
        }
    }

    /// Deletes ids from the store without waiting for the next message.
    fn forget(&mut self, host: &mut dyn SourceHost) {
        if self.batch.is_none() && !self.to_forget.is_empty() {
            self.emit(host, Batch::default(), Vec::new());
        }
    }

    fn emit(&mut self, host: &mut dyn SourceHost, batch: Batch, receipts: Vec<Receipt>) {
        debug_assert!(self.batch.is_none(), "one batch at a time");
        let in_use: HashSet<ObjectKey> = self.in_flight.keys().chain(self.to_delete.keys()).map(object_key).collect();
        let mut gone = std::mem::take(&mut self.to_forget);
        gone.extend(self.dedup.expire(EXPIRED_PER_BATCH, |key| in_use.contains(&key)));
        // An id that was delivered again stays.
        gone.retain(|key| batch.seen.iter().all(|object| object.key != *key));
        self.batch = Some(receipts);
        host.emit(Batch { gone, ..batch });
    }

    fn process_received(&mut self, host: &mut dyn SourceHost) {
        if self.batch.is_some() {
            return;
        }
        let mut batch = Batch::default();
        let mut receipts: Vec<Receipt> = Vec::new();
        for Message { id, handle, body } in std::mem::take(&mut self.received) {
            if receipts.iter().any(|receipt| receipt.id == id) {
                continue;
            }
            if let Some(current) = self.in_flight.get_mut(&id) {
                // Delivered again: its visibility timeout could not be extended, or its deletion failed.
                match current {
                    Some(old) => *old = handle,
                    None => drop(self.to_delete.insert(id, handle)),
                }
                continue;
            }
            let event = match message::read(&id, &body, self.watch.filter.as_ref()) {
                Content::Event(event) => event,
                Content::Ignored(reason) => {
                    log::debug!("{}: message {id} makes no run: {reason}", self.watch.queue);
                    self.to_delete.insert(id, handle);
                    continue;
                }
            };
            match self.dedup.state(&id) {
                None => {}
                Some(DedupState::StoredEarlier) if self.acks_after_success() => match host.state_of_run(&event) {
                    Ok(Some(StateWord::Pending | StateWord::Running)) => {
                        self.in_flight.insert(id, Some(handle));
                        continue;
                    }
                    // A run that was pruned from the history ended long ago.
                    Ok(None | Some(StateWord::Succeeded)) => {
                        self.to_delete.insert(id, handle);
                        continue;
                    }
                    Ok(Some(_)) => {}
                    Err(error) => {
                        log::warn!("{}: {error}; message {id} is left to be delivered again", self.watch.queue);
                        continue;
                    }
                },
                // Its run is in the store: only the message has to be deleted.
                Some(_) => {
                    self.to_delete.insert(id, handle);
                    continue;
                }
            }
            batch.events.push(event);
            batch.seen.push(dedup::seen(&id, host.now().wall));
            receipts.push(Receipt { id, handle });
        }
        if !receipts.is_empty() {
            self.emit(host, batch, receipts);
        }
    }

    /// The runs of the batch are in the store.
    fn on_recorded(&mut self) {
        for Receipt { id, handle } in self.batch.take().unwrap_or_default() {
            self.dedup.mark_stored(&id);
            let to_extend = if self.acks_after_success() {
                Some(handle)
            } else {
                self.to_delete.insert(id.clone(), handle);
                None
            };
            self.in_flight.insert(id, to_extend);
        }
    }

    fn on_run_ended(&mut self, id: &str, state: StateWord) {
        let handle = self.in_flight.remove(id);
        if !self.acks_after_success() {
            return;
        }
        if state == StateWord::Succeeded {
            self.dedup.mark_succeeded(id);
            if let Some(Some(handle)) = handle {
                self.to_delete.insert(id.to_owned(), handle);
            }
        } else {
            self.to_forget.extend(self.dedup.remove(id));
        }
    }

    fn on_report(&mut self, now: Elapsed, report: Report) {
        match report {
            // Its messages become visible in the queue again by themselves.
            Report::Received(_) if self.closing.is_some() => self.receiving = None,
            Report::Received(Ok(messages)) => {
                let was_short = self.receiving.take().is_some_and(|since| now.since(since) < SHORTEST_LONG_POLL);
                self.receive_retries.on_result(None, now, &self.watch);
                if messages.is_empty() && was_short {
                    self.receive_retries.retry_at = Some(now + SHORT_POLL_INTERVAL);
                }
                self.received = messages;
            }
            Report::Received(Err(error)) => {
                self.receiving = None;
                self.receive_retries.on_result(Some(error), now, &self.watch);
            }
            Report::Deleted(ids, error) => {
                self.is_deleting = false;
                ids.iter().for_each(|id| drop(self.to_delete.remove(id)));
                self.delete_retries.on_result(error, now, &self.watch);
            }
            Report::VisibilityExtended(error) => {
                self.extend_warning = error.map(|error| format!("{}: {}", self.watch.queue, error.text));
            }
        }
    }
}

impl Source for SqsSource {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        let known = host.load_seen(self.watch.queue.as_str())?;
        let runtime = host.runtime().map_err(|e| format!("the thread for SQS can't be started: {e}"))?;
        self.dedup = DedupSet::from_snapshot(known.objects);
        self.link = Some(Link::start(&self.watch, &runtime, &host.mailbox()));
        host.follow_runs();
        self.work(host);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Timer | Readiness::Room => {}
            Readiness::Recorded => self.on_recorded(),
            Readiness::NotRecorded => {
                // The messages are delivered again after their visibility timeouts.
                self.batch = None;
                self.receive_retries.on_result(Some(PollError::not_recorded()), host.now().elapsed, &self.watch);
            }
            Readiness::RunEnded { event, state } => {
                if let Some(id) = event["message_id"].as_str() {
                    self.on_run_ended(id, state);
                }
            }
            Readiness::Message(message) => match message.downcast::<Report>() {
                Ok(report) => {
                    if let Report::Received(received) = &*report {
                        host.polled(received.is_ok());
                    }
                    self.on_report(host.now().elapsed, *report);
                }
                Err(_) => debug_assert!(false, "only the link has this mailbox"),
            },
            Readiness::Fd(_)
            | Readiness::Files { .. }
            | Readiness::MountsChanged
            | Readiness::Exited(_)
            | Readiness::NotStarted(_) => {
                debug_assert!(false, "this source has no descriptors and no child");
            }
        }
        self.work(host);
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        self.closing.get_or_insert(host.now().elapsed + DRAIN_TIMEOUT);
        self.link.iter().for_each(Link::stop_receiving);
        self.work(host);
    }

    fn is_busy(&self) -> bool {
        self.closing.is_some() && !self.has_timed_out && !self.to_delete.is_empty()
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
        self.link = None;
    }
}
