//! The reactor's side of a watch: when to poll, and the way of batches and warnings between the two threads.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::S3Watch;
use super::poll::{Note, Order, run};
use crate::model::format_duration;
use crate::triggers::aws::errors::Trouble;
use crate::triggers::{Readiness, Source, SourceHost};

/// The longest wait between two polls of a bucket that can't be listed, unless `poll_interval` is longer still.
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);

/// One watch, as the reactor drives it.
#[derive(Debug)]
pub(super) struct S3Source {
    watch: S3Watch,
    poller: Option<Poller>,
    /// Polls that failed since the last good one.
    failures: u32,
}

/// The future in the S3 thread.
#[derive(Debug)]
struct Poller {
    orders: UnboundedSender<Order>,
    task: AbortHandle,
}

impl S3Source {
    pub(super) fn new(watch: S3Watch) -> S3Source {
        S3Source { watch, poller: None, failures: 0 }
    }

    fn order(&self, order: Order) {
        // A poller ends only with its source, so that nobody misses the order.
        let _ = self.poller.as_ref().map(|poller| poller.orders.send(order));
    }

    /// How long to wait for the next poll.
    fn wait(&self) -> Duration {
        let longest = LONGEST_BACKOFF.max(self.watch.poll_interval);
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = self.watch.poll_interval.saturating_mul(1 << doublings).min(longest);
        self.watch.spread.stretch(wait)
    }

    fn done(&mut self, host: &mut dyn SourceHost, result: Result<(), Trouble>) {
        self.failures = if result.is_ok() { 0 } else { self.failures.saturating_add(1) };
        host.polled(result.is_ok());
        let wait = self.wait();
        // Rounded, because the jitter's digits say nothing to a person.
        let shown = format_duration(Duration::from_secs(wait.as_secs().max(1)));
        let warning = result
            .err()
            .map(|trouble| format!("s3://{}/{}: {}; next try in {shown}", self.watch.bucket, self.watch.prefix, trouble.text));
        host.warn(warning);
        let at = host.now().elapsed + wait;
        host.wake_at(Some(at));
    }
}

impl Source for S3Source {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        let known = host.load_seen(&self.watch.identity())?;
        let runtime = host.runtime().map_err(|e| format!("the thread for S3 can't be started: {e}"))?;
        let (orders, inbox) = unbounded_channel();
        let task = runtime.spawn(run(self.watch.clone(), known, inbox, host.mailbox())).abort_handle();
        self.poller = Some(Poller { orders, task });
        self.order(Order::Poll);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Timer => self.order(Order::Poll),
            Readiness::Recorded => self.order(Order::Recorded),
            Readiness::NotRecorded => self.order(Order::NotRecorded),
            Readiness::Message(message) => match message.downcast::<Note>().map(|note| *note) {
                Ok(Note::Found(batch)) => host.emit(batch),
                Ok(Note::Done(result)) => self.done(host, result),
                Err(_) => debug_assert!(false, "only the poller has this source's mailbox"),
            },
            Readiness::Fd(_) | Readiness::Exited(_) | Readiness::Room | Readiness::RunEnded { .. } => {
                debug_assert!(false, "an S3 watch has no descriptor and no child with the reactor");
            }
        }
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
        if let Some(poller) = self.poller.take() {
            poller.task.abort();
        }
    }
}

impl Drop for S3Source {
    fn drop(&mut self) {
        if let Some(poller) = self.poller.take() {
            poller.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triggers::Spread;
    use crate::triggers::aws::ClientSettings;
    use crate::triggers::watch::Existing;

    fn source(poll_interval: Duration, spread: Spread) -> S3Source {
        S3Source::new(S3Watch {
            bucket: "bucket".into(),
            prefix: String::new(),
            filter: None,
            poll_interval,
            existing: Existing::Skip,
            batch: false,
            ordered: false,
            spread,
            client: ClientSettings::default(),
        })
    }

    #[test]
    fn the_wait_doubles_from_the_poll_interval_to_ten_minutes_and_falls_back_at_once() {
        let mut source = source(Duration::from_secs(30), Spread::default());
        let waits = [(0, 30), (1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (7, 600), (u32::MAX, 600), (0, 30)];
        for (failures, seconds) in waits {
            source.failures = failures;
            assert_eq!(source.wait(), Duration::from_secs(seconds), "after {failures} failures");
        }
    }

    #[test]
    fn a_poll_interval_above_ten_minutes_is_never_shortened() {
        let mut source = source(Duration::from_secs(3600), Spread::default());
        source.failures = 3;
        assert_eq!(source.wait(), Duration::from_secs(3600));
    }

    #[test]
    fn the_jitter_is_at_most_a_tenth_and_always_the_same() {
        let widest = source(Duration::from_secs(30), Spread::from_offset(Duration::from_secs(1)));
        assert_eq!(widest.wait(), Duration::from_secs(33));
        let half = source(Duration::from_secs(30), Spread::from_offset(Duration::from_millis(500)));
        assert_eq!(half.wait(), Duration::from_millis(31_500));
        assert_eq!(half.wait(), half.wait());
    }
}
