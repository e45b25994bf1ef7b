//! The queue's client, on the S3 thread: one task receives messages, the other deletes them and extends their visibility
//! timeouts. The tasks share a client and know nothing of runs.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::{Ack, SqsWatch, VISIBILITY_TIMEOUT, errors};
use crate::triggers::Mailbox;
use crate::triggers::aws::Service;
use crate::triggers::aws::errors::PollError;
use crate::triggers::aws::http::Http;
use crate::triggers::aws::session::{self, Limits, Session};
use crate::triggers::defaults::SERVER_TIMEOUT;

/// The wait of a long poll: the maximum of SQS.
const LONG_POLL: Duration = Duration::from_secs(20);
/// The maximum of messages in one request of SQS.
pub(super) const BATCH_SIZE: usize = 10;

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    /// The receipt handle: identifies this delivery of the message.
    pub(super) handle: String,
    pub(super) body: String,
}

/// A message's id, and the receipt handle of its latest delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) id: String,
    pub(super) handle: String,
}

/// A request about received messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Delete(Vec<Receipt>),
    /// Restarts their visibility timeouts.
    ExtendVisibility(Vec<Receipt>),
}

/// From the tasks to the source.
#[derive(Debug)]
pub(super) enum Report {
    /// The messages of a long poll.
    Received(Result<Vec<Message>, PollError>),
    /// These ids are deleted. An expired receipt counts as deleted: if the message is delivered again, it has a new one.
    Deleted(Vec<String>, Option<PollError>),
    /// Visibility timeouts were extended, or not all of them.
    VisibilityExtended(Option<PollError>),
}

/// Both tasks. Dropping it aborts them and their requests.
#[derive(Debug)]
pub(super) struct Link {
    requests: UnboundedSender<usize>,
    actions: UnboundedSender<Action>,
    tasks: [AbortHandle; 2],
}

impl Link {
    pub(super) fn start(watch: &SqsWatch, runtime: &tokio::runtime::Handle, mailbox: &Mailbox) -> Link {
        let queue = Arc::new(Queue { watch: watch.clone(), connected: tokio::sync::Mutex::default() });
        let (requests, requested) = unbounded_channel();
        let (actions, acted) = unbounded_channel();
        let receiver = runtime.spawn(receive(queue.clone(), requested, mailbox.clone()));
        let actor = runtime.spawn(act(queue, acted, mailbox.clone()));
        Link { requests, actions, tasks: [receiver.abort_handle(), actor.abort_handle()] }
    }

    /// Requests up to `most` messages.
    pub(super) fn request(&self, most: usize) {
        // The tasks end only with this link, so the channel is open.
        let _ = self.requests.send(most);
    }

    pub(super) fn act(&self, action: Action) {
        let _ = self.actions.send(action);
    }

    /// Stops receiving. A message in transit becomes visible in the queue again by itself.
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
        mailbox.send(Box::new(Report::Received(result)));
    }
}

async fn act(queue: Arc<Queue>, mut actions: UnboundedReceiver<Action>, mailbox: Mailbox) {
    while let Some(action) = actions.recv().await {
        let report = match action {
            Action::Delete(receipts) => {
                let mut deleted = Vec::new();
                let mut error = None;
                for receipts in receipts.chunks(BATCH_SIZE) {
                    match queue.delete(receipts).await {
                        Ok((done, refused)) => {
                            deleted.extend(done);
                            error = error.or(refused);
                        }
                        Err(failed) => error = Some(failed),
                    }
                }
                Report::Deleted(deleted, error)
            }
            Action::ExtendVisibility(receipts) => {
                let mut error = None;
                for receipts in receipts.chunks(BATCH_SIZE) {
                    error = queue.extend_visibility(receipts).await.err().or(error);
                }
                Report::VisibilityExtended(error)
            }
        };
        mailbox.send(Box::new(report));
    }
}

/// A queue, and the client that is created on first use.
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
        // Boxed: the SDK's loader is a future of many kilobytes, used once.
        let connected = Arc::new(Box::pin(connect(&self.watch)).await?);
        *slot = Some(connected.clone());
        Ok(connected)
    }

    /// After a failed request: closes its connection, and discards the client if its settings may be the cause.
    async fn check<T>(&self, connected: &Arc<Connected>, result: Result<T, PollError>) -> Result<T, PollError> {
        if let Err(error) = &result {
            connected.http.close();
            let mut slot = self.connected.lock().await;
            if error.reconnect && slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, connected)) {
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
            .max_number_of_messages(i32::try_from(most.min(BATCH_SIZE)).unwrap_or(1))
            .wait_time_seconds(seconds(LONG_POLL))
            .set_visibility_timeout((self.watch.ack == Ack::AfterSuccess).then(|| seconds(VISIBILITY_TIMEOUT)));
        let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, &self.watch, "sqs:ReceiveMessage"));
        let answer = self.check(&connected, answer).await?;
        let message = |message: aws_sdk_sqs::types::Message| {
            let body = message.body.unwrap_or_default();
            Some(Message { id: message.message_id?, handle: message.receipt_handle?, body })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Returns the deleted ids, and why others were not deleted.
    async fn delete(&self, receipts: &[Receipt]) -> Result<(Vec<String>, Option<PollError>), PollError> {
        let connected = self.connected().await?;
        let entry = |(n, receipt): (usize, &Receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&receipt.handle).build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| PollError::client(error.to_string()))?;
        let request = connected.client.delete_message_batch().queue_url(self.watch.queue.as_str()).set_entries(Some(entries));
        let answer = Box::pin(request.send()).await.map_err(|error| errors::request(&error, &self.watch, "sqs:DeleteMessage"));
        let answer = self.check(&connected, answer).await?;
        // A sender fault is an expired receipt.
        let failed: Vec<&BatchResultErrorEntry> = answer.failed.iter().filter(|entry| !entry.sender_fault).collect();
        let is_done = |n: &usize| !failed.iter().any(|entry| entry.id == n.to_string());
        let done = (0..receipts.len()).filter(is_done).map(|n| receipts[n].id.clone()).collect();
        Ok((done, failed.first().map(|entry| errors::refused(entry, &self.watch, "deletes"))))
    }

    async fn extend_visibility(&self, receipts: &[Receipt]) -> Result<(), PollError> {
        let connected = self.connected().await?;
        let entry = |(n, receipt): (usize, &Receipt)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&receipt.handle);
            entry.visibility_timeout(seconds(VISIBILITY_TIMEOUT)).build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| PollError::client(error.to_string()))?;
        let request =
            connected.client.change_message_visibility_batch().queue_url(self.watch.queue.as_str()).set_entries(Some(entries));
        let answer = Box::pin(request.send()).await;
        let answer = answer.map_err(|error| errors::request(&error, &self.watch, "sqs:ChangeMessageVisibility"));
        let answer = self.check(&connected, answer).await?;
        match answer.failed.first() {
            Some(entry) => Err(errors::refused(entry, &self.watch, "keeps hidden")),
            None => Ok(()),
        }
    }
}

async fn connect(watch: &SqsWatch) -> Result<Connected, PollError> {
    let mut settings = watch.client.clone();
    // From the queue's URL rather than from a variable, which may be meant for buckets.
    settings.endpoint.get_or_insert_with(|| watch.queue.origin().to_owned());
    if settings.region.is_none() {
        settings.region = watch.queue.region().map(str::to_owned);
    }
    let silence = settings.timeout.unwrap_or(SERVER_TIMEOUT);
    let limits = Limits { silence: LONG_POLL + silence, whole: LONG_POLL + 2 * silence };
    let Session { loaded, http, endpoint, region, credentials } = session::open(&settings, Service::Sqs, limits).await?;
    let mut config = aws_sdk_sqs::config::Builder::from(&loaded).region(region);
    config.set_endpoint_url(endpoint);
    config.set_credentials_provider(credentials);
    Ok(Connected { client: Client::from_conf(config.build()), http })
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
