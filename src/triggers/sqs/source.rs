//! The reactor's side of a queue: what becomes of each message, from its receipt to its deletion.
//!
//! A message is in one place at a time: handed over in the batch under way, at work (its run has not ended), or to be
//! deleted. What is in none of them is the queue's again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::link::{AT_ONCE, Answer, Link, Message, Note, Slip};
use super::message::{self, Told};
use super::taken::{self, Fate, Taken};
use super::{Ack, HIDDEN, MOST_AT_WORK, SqsWatch};
use crate::model::{Batch, ObjectKey};
use crate::model::{Elapsed, StateWord, format_duration};
use crate::triggers::aws::errors::PollError;
use crate::triggers::watch::hash::object_key;
use crate::triggers::{Readiness, Source, SourceHost};

/// How soon a queue that can't be reached is tried again; twice that the next time, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The longest wait between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// A server that answers in less than this that it has nothing does not let one wait, and is asked again after
/// [`UNWAITED`] only.
const AT_LEAST: Duration = Duration::from_secs(2);
const UNWAITED: Duration = Duration::from_secs(20);

/// How often messages at work are kept hidden anew: two tries may fail.
const KEEP_EVERY: Duration = Duration::from_secs(HIDDEN.as_secs() / 3);

/// How long the end of the daemon waits for messages to be deleted.
const FAREWELL: Duration = Duration::from_secs(5);

/// Old ids that leave with one batch.
const LEAVE_AT_ONCE: usize = 100;

/// Something that is tried until it works.
#[derive(Debug, Default)]
struct Effort {
    failures: u32,
    /// Not before this instant.
    again_at: Option<Elapsed>,
    trouble: Option<String>,
}

impl Effort {
    fn ended(&mut self, trouble: Option<PollError>, now: Elapsed, watch: &SqsWatch) {
        self.failures = if trouble.is_some() { self.failures.saturating_add(1) } else { 0 };
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = watch.spread.stretch(FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY));
        // Rounded, because the jitter's digits say nothing to a person.
        let shown = format_duration(Duration::from_secs(wait.as_secs()));
        self.again_at = trouble.is_some().then(|| now + wait);
        self.trouble = trouble.map(|trouble| format!("{}: {}; next try in {shown}", watch.queue, trouble.text));
    }

    fn may_be_made(&self, now: Elapsed) -> bool {
        self.again_at.is_none_or(|at| at <= now)
    }
}

/// See the module.
pub(super) struct SqsSource {
    watch: SqsWatch,
    link: Option<Link>,
    taken: Taken,
    /// Handed over, until the store has them; the batch may hold none and only forget.
    under_way: Option<Vec<Slip>>,
    /// What came while a batch was under way.
    came: Vec<Message>,
    /// Messages whose runs have not ended, and with `ack: after_success` the receipts by which they are kept.
    at_work: HashMap<String, Option<String>>,
    /// Receipts of messages that are done with, by id.
    to_delete: HashMap<String, String>,
    /// Ids that the store is to forget.
    to_forget: Vec<ObjectKey>,
    /// Since when messages are waited for.
    receiving: Option<Elapsed>,
    is_deleting: bool,
    receipt: Effort,
    deletion: Effort,
    keeping_trouble: Option<String>,
    keep_at: Option<Elapsed>,
    /// The disk refuses the runs of messages that could be deleted: when it is tried again.
    unwritten_until: Option<Elapsed>,
    /// The daemon ends, and waits until then.
    closing: Option<Elapsed>,
    /// The wait is over.
    is_late: bool,
}

impl SqsSource {
    pub(super) fn new(watch: SqsWatch) -> SqsSource {
        SqsSource {
            watch,
            link: None,
            taken: Taken::default(),
            under_way: None,
            came: Vec::new(),
            at_work: HashMap::new(),
            to_delete: HashMap::new(),
            to_forget: Vec::new(),
            receiving: None,
            is_deleting: false,
            receipt: Effort::default(),
            deletion: Effort::default(),
            keeping_trouble: None,
            keep_at: None,
            unwritten_until: None,
            closing: None,
            is_late: false,
        }
    }

    fn answer(&self, answer: Answer) {
        if let Some(link) = &self.link {
            link.answer(answer);
        }
    }

    fn keeps_until_success(&self) -> bool {
        self.watch.ack == Ack::AfterSuccess
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        self.is_late |= self.closing.is_some_and(|until| until <= now);
        self.look_at_messages(host);
        self.write_again(host, now);
        self.delete(now);
        self.keep(now);
        self.forget(host);
        self.receive(host, now);
        let waits = [
            self.receipt.again_at.filter(|_| self.receiving.is_none() && self.closing.is_none()),
            self.deletion.again_at.filter(|_| !self.is_deleting && !self.to_delete.is_empty()),
            self.keep_at,
            self.unwritten_until,
            self.closing.filter(|_| !self.is_late),
        ];
        host.wake_at(waits.into_iter().flatten().filter(|at| *at > now).min());
        let told = [&self.receipt.trouble, &self.deletion.trouble, &self.keeping_trouble];
        let mut told: Vec<&str> = told.into_iter().filter_map(Option::as_deref).collect();
        told.dedup();
        host.warn((!told.is_empty()).then(|| told.join("; ")));
    }

    fn receive(&mut self, host: &mut dyn SourceHost, now: Elapsed) {
        let most = MOST_AT_WORK.saturating_sub(self.at_work.len()).min(AT_ONCE);
        let is_idle = self.receiving.is_none() && self.came.is_empty() && self.under_way.is_none() && self.closing.is_none();
        // While nothing can be deleted, what is received only comes back.
        let is_useful = most > 0 && self.to_delete.len() < AT_ONCE && self.receipt.may_be_made(now);
        if is_idle && is_useful && host.room() > 0 {
            self.receiving = Some(now);
            self.link.iter().for_each(|link| link.request(most));
        }
    }

    /// A run that is in memory alone is no reason to delete its message; the disk may have refused it after all.
    fn write_again(&mut self, host: &mut dyn SourceHost, now: Elapsed) {
        if self.to_delete.is_empty() || host.is_written() {
            self.unwritten_until = None;
        } else if *self.unwritten_until.get_or_insert(now + FIRST_RETRY) <= now && self.under_way.is_none() {
            self.unwritten_until = Some(now + FIRST_RETRY);
            self.hand_over(host, Batch::default(), Vec::new());
        }
    }

    fn delete(&mut self, now: Elapsed) {
        if self.is_deleting || self.to_delete.is_empty() || self.unwritten_until.is_some() || !self.deletion.may_be_made(now) {
            return;
        }
        self.is_deleting = true;
        let slips = self.to_delete.iter().map(|(id, receipt)| Slip { id: id.clone(), receipt: receipt.clone() }).collect();
        self.answer(Answer::Delete(slips));
    }

    /// Keeps what is at work hidden from others.
    fn keep(&mut self, now: Elapsed) {
        let kept = self.at_work.iter().filter_map(|(id, receipt)| Some((id, receipt.as_ref()?)));
        let slips: Vec<Slip> = kept.map(|(id, receipt)| Slip { id: id.clone(), receipt: receipt.clone() }).collect();
        if slips.is_empty() {
            self.keep_at = None;
            self.keeping_trouble = None;
        } else if *self.keep_at.get_or_insert(now + KEEP_EVERY) <= now {
            self.keep_at = Some(now + KEEP_EVERY);
            self.answer(Answer::Keep(slips));
        }
    }

    /// Has the store forget what is due without waiting for the next message.
    fn forget(&mut self, host: &mut dyn SourceHost) {
        if self.under_way.is_none() && !self.to_forget.is_empty() {
            self.hand_over(host, Batch::default(), Vec::new());
        }
    }

    fn hand_over(&mut self, host: &mut dyn SourceHost, batch: Batch, slips: Vec<Slip>) {
        debug_assert!(self.under_way.is_none(), "one batch at a time");
        let needed: HashSet<ObjectKey> = self.at_work.keys().chain(self.to_delete.keys()).map(object_key).collect();
        let mut gone = std::mem::take(&mut self.to_forget);
        gone.extend(self.taken.outdated(LEAVE_AT_ONCE, |key| needed.contains(&key)));
        // What was to be forgotten and has come again is known again.
        gone.retain(|key| batch.seen.iter().all(|object| object.key != *key));
        self.under_way = Some(slips);
        host.emit(Batch { gone, ..batch });
    }

    fn look_at_messages(&mut self, host: &mut dyn SourceHost) {
        if self.under_way.is_some() {
            return;
        }
        let mut batch = Batch::default();
        let mut slips: Vec<Slip> = Vec::new();
        for Message { id, receipt, body } in std::mem::take(&mut self.came) {
            if slips.iter().any(|slip| slip.id == id) {
                continue;
            }
            if let Some(kept) = self.at_work.get_mut(&id) {
                // Its run lasts longer than it could be kept hidden, or its deletion failed.
                match kept {
                    Some(old) => *old = receipt,
                    None => drop(self.to_delete.insert(id, receipt)),
                }
                continue;
            }
            let event = match message::read(&id, &body, self.watch.filter.as_ref()) {
                Told::Event(event) => event,
                Told::Nothing(why) => {
                    log::debug!("{}: message {id} makes no run: {why}", self.watch.queue);
                    self.to_delete.insert(id, receipt);
                    continue;
                }
            };
            match self.taken.fate(&id) {
                None => {}
                Some(Fate::Earlier) if self.keeps_until_success() => match host.state_of_run(&event) {
                    Ok(Some(StateWord::Pending | StateWord::Running)) => {
                        self.at_work.insert(id, Some(receipt));
                        continue;
                    }
                    // What the history no longer holds was dealt with long ago.
                    Ok(None | Some(StateWord::Succeeded)) => {
                        self.to_delete.insert(id, receipt);
                        continue;
                    }
                    Ok(Some(_)) => {}
                    Err(error) => {
                        log::warn!("{}: {error}; message {id} is left to come again", self.watch.queue);
                        continue;
                    }
                },
                // Its run is being forgotten, or it is in the store and the message need only go.
                Some(_) => {
                    self.to_delete.insert(id, receipt);
                    continue;
                }
            }
            batch.events.push(event);
            batch.seen.push(taken::seen(&id, host.now().wall));
            slips.push(Slip { id, receipt });
        }
        if !slips.is_empty() {
            self.hand_over(host, batch, slips);
        }
    }

    /// The store has the runs of these messages.
    fn recorded(&mut self) {
        for Slip { id, receipt } in self.under_way.take().unwrap_or_default() {
            self.taken.insert(&id);
            let kept = if self.keeps_until_success() {
                Some(receipt)
            } else {
                self.to_delete.insert(id.clone(), receipt);
                None
            };
            self.at_work.insert(id, kept);
        }
    }

    fn run_ended(&mut self, id: &str, state: StateWord) {
        let kept = self.at_work.remove(id);
        if !self.keeps_until_success() {
            return;
        }
        if state == StateWord::Succeeded {
            self.taken.done(id);
            if let Some(Some(receipt)) = kept {
                self.to_delete.insert(id.to_owned(), receipt);
            }
        } else {
            self.to_forget.extend(self.taken.forget(id));
        }
    }

    fn noted(&mut self, now: Elapsed, note: Note) {
        match note {
            // Its messages come back to the queue by themselves.
            Note::Received(_) if self.closing.is_some() => self.receiving = None,
            Note::Received(Ok(messages)) => {
                let is_hasty = self.receiving.take().is_some_and(|since| now.since(since) < AT_LEAST);
                self.receipt.ended(None, now, &self.watch);
                if messages.is_empty() && is_hasty {
                    self.receipt.again_at = Some(now + UNWAITED);
                }
                self.came = messages;
            }
            Note::Received(Err(trouble)) => {
                self.receiving = None;
                self.receipt.ended(Some(trouble), now, &self.watch);
            }
            Note::Deleted(ids, trouble) => {
                self.is_deleting = false;
                ids.iter().for_each(|id| drop(self.to_delete.remove(id)));
                self.deletion.ended(trouble, now, &self.watch);
            }
            Note::Kept(trouble) => {
                self.keeping_trouble = trouble.map(|trouble| format!("{}: {}", self.watch.queue, trouble.text));
            }
        }
    }
}

impl Source for SqsSource {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        let known = host.load_seen(self.watch.queue.as_str())?;
        let runtime = host.runtime().map_err(|e| format!("the thread for SQS can't be started: {e}"))?;
        self.taken = Taken::from_snapshot(known.objects);
        self.link = Some(Link::start(&self.watch, &runtime, &host.mailbox()));
        host.follow_runs();
        self.work(host);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Timer | Readiness::Room => {}
            Readiness::Recorded => self.recorded(),
            Readiness::NotRecorded => {
                // The messages come again once they are no longer hidden.
                self.under_way = None;
                self.receipt.ended(Some(PollError::not_recorded()), host.now().elapsed, &self.watch);
            }
            Readiness::RunEnded { event, state } => {
                if let Some(id) = event["message_id"].as_str() {
                    self.run_ended(id, state);
                }
            }
            Readiness::Message(message) => match message.downcast::<Note>() {
                Ok(note) => {
                    if let Note::Received(received) = &*note {
                        host.polled(received.is_ok());
                    }
                    self.noted(host.now().elapsed, *note);
                }
                Err(_) => debug_assert!(false, "only the link has this source's mailbox"),
            },
            Readiness::Fd(_) | Readiness::Exited(_) => {
                debug_assert!(false, "a queue has no descriptor and no child with the reactor");
            }
        }
        self.work(host);
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        self.closing.get_or_insert(host.now().elapsed + FAREWELL);
        self.link.iter().for_each(Link::stop_receiving);
        self.work(host);
    }

    fn is_busy(&self) -> bool {
        self.closing.is_some() && !self.is_late && !self.to_delete.is_empty()
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
        self.link = None;
    }
}
