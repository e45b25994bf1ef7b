//! The way to the queue, in the S3 thread: one task waits for messages, the other answers for them. They share a client,
//! and know nothing of runs.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::{Ack, HIDDEN, SqsWatch, errors};
use crate::triggers::Mailbox;
use crate::triggers::aws::Service;
use crate::triggers::aws::errors::PollError;
use crate::triggers::aws::http::Http;
use crate::triggers::aws::session::{self, Limits, Session};
use crate::triggers::defaults::SERVER_TIMEOUT;

/// How long a request for messages waits for one: as long as SQS allows.
const WAIT: Duration = Duration::from_secs(20);
/// What SQS gives or takes at once.
pub(super) const AT_ONCE: usize = 10;

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    /// By which this delivery of it is deleted or kept hidden.
    pub(super) receipt: String,
    pub(super) body: String,
}

/// The part of a message by which one answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub(super) id: String,
    pub(super) receipt: String,
}

/// An answer for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// They are done with.
    Delete(Vec<Slip>),
    /// They stay hidden for another while.
    Keep(Vec<Slip>),
}

/// From the tasks to the source.
#[derive(Debug)]
pub(super) enum Note {
    /// What came, within the time that SQS waits.
    Received(Result<Vec<Message>, PollError>),
    /// Deleted: these ids. A receipt that is no longer good is as good as deleted: if the message comes again, it has a
    /// new one.
    Deleted(Vec<String>, Option<PollError>),
    /// Kept, or not all of them.
    Kept(Option<PollError>),
}

/// Both tasks. Dropping it ends them; what is under way is dropped with them.
#[derive(Debug)]
pub(super) struct Link {
    requests: UnboundedSender<usize>,
    answers: UnboundedSender<Answer>,
    tasks: [AbortHandle; 2],
}

impl Link {
    pub(super) fn start(watch: &SqsWatch, runtime: &tokio::runtime::Handle, mailbox: &Mailbox) -> Link {
        let queue = Arc::new(Queue { watch: watch.clone(), connected: tokio::sync::Mutex::default() });
        let (requests, requested) = unbounded_channel();
        let (answers, answered) = unbounded_channel();
        let receiver = runtime.spawn(receive(queue.clone(), requested, mailbox.clone()));
        let answerer = runtime.spawn(answer(queue, answered, mailbox.clone()));
        Link { requests, answers, tasks: [receiver.abort_handle(), answerer.abort_handle()] }
    }

    /// Asks for this many messages at most.
    pub(super) fn request(&self, most: usize) {
        // The tasks end only with this.
        let _ = self.requests.send(most);
    }

    pub(super) fn answer(&self, answer: Answer) {
        let _ = self.answers.send(answer);
    }

    /// Receives no more. A message that is on its way comes back to the queue by itself.
    pub(super) fn stop_receiving(&self) {
        self.tasks[0].abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn receive(queue: Arc<Queue>, mut requests: UnboundedReceiver<usize>, mailbox: Mailbox) {
    while let Some(most) = requests.recv().await {
        let result = queue.receive(most).await;
        mailbox.send(Box::new(Note::Received(result)));
    }
}

async fn answer(queue: Arc<Queue>, mut answers: UnboundedReceiver<Answer>, mailbox: Mailbox) {
    while let Some(answer) = answers.recv().await {
        let note = match answer {
            Answer::Delete(slips) => {
                let mut deleted = Vec::new();
                let mut trouble = None;
                for slips in slips.chunks(AT_ONCE) {
                    match queue.delete(slips).await {
                        Ok((done, refused)) => {
                            deleted.extend(done);
                            trouble = trouble.or(refused);
                        }
                        Err(said) => trouble = Some(said),
                    }
                }
                Note::Deleted(deleted, trouble)
            }
            Answer::Keep(slips) => {
                let mut trouble = None;
                for slips in slips.chunks(AT_ONCE) {
                    trouble = queue.keep(slips).await.err().or(trouble);
                }
                Note::Kept(trouble)
            }
        };
        mailbox.send(Box::new(note));
    }
}

/// A queue, and the client that is made on first need.
struct Queue {
    watch: SqsWatch,
    connected: tokio::sync::Mutex<Option<Arc<Connected>>>,
}

struct Connected {
    client: Client,
    http: Http,
}

impl Queue {
    async fn connected(&self) -> Result<Arc<Connected>, PollError> {
        let mut slot = self.connected.lock().await;
        if let Some(connected) = &*slot {
            return Ok(connected.clone());
        }
        // Boxed: the SDK's loader is a future of many kilobytes, needed once.
        let connected = Arc::new(Box::pin(connect(&self.watch)).await?);
        *slot = Some(connected.clone());
        Ok(connected)
    }

    /// After a request: its connection is not kept where it failed, nor the client where that may be why.
    async fn settle<T>(&self, connected: &Arc<Connected>, result: Result<T, PollError>) -> Result<T, PollError> {
        if let Err(trouble) = &result {
            connected.http.close();
            let mut slot = self.connected.lock().await;
            if trouble.reconnect && slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, connected)) {
                *slot = None;
            }
        }
        result
    }

    async fn receive(&self, most: usize) -> Result<Vec<Message>, PollError> {
        let connected = self.connected().await?;
        let request = connected
            .client
            .receive_message()
            .queue_url(self.watch.queue.as_str())
            .max_number_of_messages(i32::try_from(most.min(AT_ONCE)).unwrap_or(1))
            .wait_time_seconds(seconds(WAIT))
            .set_visibility_timeout((self.watch.ack == Ack::AfterSuccess).then(|| seconds(HIDDEN)));
        let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, &self.watch, "sqs:ReceiveMessage"));
        let answer = self.settle(&connected, answer).await?;
        let message = |message: aws_sdk_sqs::types::Message| {
            let body = message.body.unwrap_or_default();
            Some(Message { id: message.message_id?, receipt: message.receipt_handle?, body })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Answers which ids are deleted, and why others are not.
    async fn delete(&self, slips: &[Slip]) -> Result<(Vec<String>, Option<PollError>), PollError> {
        let connected = self.connected().await?;
        let entry = |(n, slip): (usize, &Slip)| {
            DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&slip.receipt).build()
        };
        let entries = slips.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| PollError::client(error.to_string()))?;
        let request = connected.client.delete_message_batch().queue_url(self.watch.queue.as_str()).set_entries(Some(entries));
        let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, &self.watch, "sqs:DeleteMessage"));
        let answer = self.settle(&connected, answer).await?;
        // What is the sender's fault is a receipt that is no longer good.
        let failed: Vec<&BatchResultErrorEntry> = answer.failed.iter().filter(|entry| !entry.sender_fault).collect();
        let is_done = |n: &usize| !failed.iter().any(|entry| entry.id == n.to_string());
        let done = (0..slips.len()).filter(is_done).map(|n| slips[n].id.clone()).collect();
        Ok((done, failed.first().map(|entry| errors::refused(entry, &self.watch, "deletes"))))
    }

    async fn keep(&self, slips: &[Slip]) -> Result<(), PollError> {
        let connected = self.connected().await?;
        let entry = |(n, slip): (usize, &Slip)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&slip.receipt);
            entry.visibility_timeout(seconds(HIDDEN)).build()
        };
        let entries = slips.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| PollError::client(error.to_string()))?;
        let request =
            connected.client.change_message_visibility_batch().queue_url(self.watch.queue.as_str()).set_entries(Some(entries));
        let answer = Box::pin(request.send()).await;
        let answer = answer.map_err(|error| errors::request(&error, &self.watch, "sqs:ChangeMessageVisibility"));
        let answer = self.settle(&connected, answer).await?;
        match answer.failed.first() {
            Some(entry) => Err(errors::refused(entry, &self.watch, "keeps hidden")),
            None => Ok(()),
        }
    }
}

async fn connect(watch: &SqsWatch) -> Result<Connected, PollError> {
    let mut settings = watch.client.clone();
    // The queue's own name says where it is, more surely than a variable that may be about buckets.
    settings.endpoint.get_or_insert_with(|| watch.queue.origin().to_owned());
    if settings.region.is_none() {
        settings.region = watch.queue.region().map(str::to_owned);
    }
    let silence = settings.timeout.unwrap_or(SERVER_TIMEOUT);
    let limits = Limits { silence: WAIT + silence, whole: WAIT + 2 * silence };
    let Session { loaded, http, endpoint, region, credentials } = session::open(&settings, Service::Sqs, limits).await?;
    let mut config = aws_sdk_sqs::config::Builder::from(&loaded).region(region);
    config.set_endpoint_url(endpoint);
    config.set_credentials_provider(credentials);
    Ok(Connected { client: Client::from_conf(config.build()), http })
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
