//! The reactor's half of a watch: when to poll; batches and warnings between the two threads.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::S3Watch;
use super::poll::{Command, Report, run};
use crate::model::{Backoff, Jitter, format_duration};
use crate::triggers::aws::errors::PollError;
use crate::triggers::{Readiness, Source, SourceHost};

/// The longest delay between polls of a bucket that can't be listed, unless `poll_interval` is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(600);

/// One watch, as the reactor drives it.
#[derive(Debug)]
pub(super) struct S3Source {
    watch: S3Watch,
    poller: Option<Poller>,
    /// Failed polls since the last successful one.
    failures: u32,
}

/// The future on the S3 thread.
#[derive(Debug)]
struct Poller {
    commands: UnboundedSender<Command>,
    task: AbortHandle,
}

impl S3Source {
    pub(super) fn new(watch: S3Watch) -> S3Source {
        S3Source { watch, poller: None, failures: 0 }
    }

    fn command(&self, command: Command) {
        // The poller ends only with its source, so the channel is open.
        let _ = self.poller.as_ref().map(|poller| poller.commands.send(command));
    }

    /// The delay before the next poll.
    fn wait(&self) -> Duration {
        let backoff =
            Backoff { delay: self.watch.poll_interval, factor: 2, max: MAX_BACKOFF, jitter: Jitter::Stable(self.watch.spread) };
        // Stable jitter draws no number.
        backoff.delay_after(self.failures, || 0)
    }

    fn on_done(&mut self, host: &mut dyn SourceHost, result: Result<(), PollError>) {
        self.failures = if result.is_ok() { 0 } else { self.failures.saturating_add(1) };
        host.polled(result.is_ok());
        let wait = self.wait();
        // In whole seconds: the digits of the jitter are noise.
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
        let (commands, inbox) = unbounded_channel();
        let task = runtime.spawn(run(self.watch.clone(), known, inbox, host.mailbox())).abort_handle();
        self.poller = Some(Poller { commands, task });
        self.command(Command::Poll);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Timer => self.command(Command::Poll),
            Readiness::Recorded => self.command(Command::Recorded),
            Readiness::NotRecorded => self.command(Command::NotRecorded),
            Readiness::Message(message) => match message.downcast::<Report>().map(|report| *report) {
                Ok(Report::Found(batch)) => host.emit(batch),
                Ok(Report::Done(result)) => self.on_done(host, result),
                Err(_) => debug_assert!(false, "only the poller has this mailbox"),
            },
            Readiness::Fd(_)
            | Readiness::Files { .. }
            | Readiness::MountsChanged
            | Readiness::Exited(_)
            | Readiness::NotStarted(_)
            | Readiness::Room
            | Readiness::RunEnded { .. } => {
                debug_assert!(false, "this source has no descriptors and no child, and follows no runs");
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
    fn the_delay_doubles_from_the_poll_interval_to_ten_minutes_and_is_reset_by_a_success() {
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
    fn the_jitter_is_stable_and_at_most_a_tenth() {
        let widest = source(Duration::from_secs(30), Spread::from_offset(Duration::from_secs(1)));
        assert_eq!(widest.wait(), Duration::from_secs(33));
        let half = source(Duration::from_secs(30), Spread::from_offset(Duration::from_millis(500)));
        assert_eq!(half.wait(), Duration::from_millis(31_500));
        assert_eq!(half.wait(), half.wait());
    }
}
