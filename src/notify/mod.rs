//! Webhooks and dead man's switches: HTTP calls when something happens, or while the daemon is healthy.
//!
//! The loop puts a [`Delivery`] into the outbox of each target that subscribes to its event and goes on; one task per
//! target, on the other thread, sends them in order. A target that is slow or down has its own bounded queue, which drops
//! its oldest delivery and reports the number: it delays neither the loop nor another target. Tasks start with the first
//! delivery.
//!
//! Deliveries live in memory: a crash loses those that were not sent. A ping is the means to notice a dead daemon; the loop
//! itself makes the pings, so that a loop that hangs stops them.
//!
//! A URL is a secret: its path may be a token. Only scheme and host are ever shown.

mod delivery;
mod http;
mod outbox;
mod worker;

use std::io;
use std::sync::Arc;

use globset::GlobMatcher;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{NotifyKind, NotifyOn, NotifyTarget};
use crate::control::commands::status;
use crate::cron::Zone;
use crate::model::{Elapsed, StateWord, WallTime};
use crate::triggers::Mailbox;
pub use delivery::Delivery;
use http::Client;
use outbox::Outbox;

impl NotifyTarget {
    /// True if it subscribes to this kind of event, of whichever job.
    #[must_use]
    pub fn subscribes_to(&self, what: NotifyOn) -> bool {
        matches!(&self.kind, NotifyKind::Event { on, .. } if on.contains(&what))
    }
}

/// All targets of the configuration.
pub struct Notifier {
    mailbox: Mailbox,
    client: Option<Arc<Client>>,
    targets: Vec<Target>,
    /// The first part of delivery ids; a number follows.
    prefix: String,
    next: u64,
}

/// One target; its task starts with its first delivery.
struct Target {
    outbox: Arc<Outbox>,
    jobs: Vec<GlobMatcher>,
    next_ping: Option<Elapsed>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Target {
    fn new(hook: &NotifyTarget, now: Elapsed) -> Target {
        let (jobs, next_ping) = match &hook.kind {
            NotifyKind::Event { jobs, .. } => (jobs.iter().map(globset::Glob::compile_matcher).collect(), None),
            NotifyKind::Ping { .. } => (Vec::new(), Some(now)),
        };
        Target { outbox: Arc::new(Outbox::new(hook.clone())), jobs, next_ping, task: None }
    }

    fn wants(&self, job: &str, state: StateWord, recovered: bool) -> bool {
        let hook = &self.outbox.target;
        (hook.subscribes_to(NotifyOn::State(state)) || recovered && hook.subscribes_to(NotifyOn::Recovered))
            && (self.jobs.is_empty() || self.jobs.iter().any(|glob| glob.is_match(job)))
    }
}

impl Notifier {
    /// Without targets. `mailbox` gets a message from each task that ends after [`Notifier::close`].
    #[must_use]
    pub fn new(mailbox: Mailbox, started: WallTime) -> Notifier {
        Notifier { mailbox, client: None, targets: Vec::new(), prefix: format!("{:x}", started.as_nanos()), next: 1 }
    }

    /// Replaces the targets. A target that did not change keeps its queue.
    pub fn set_targets(&mut self, hooks: &[NotifyTarget], now: Elapsed) {
        let mut old = std::mem::take(&mut self.targets);
        for hook in hooks {
            let same = old.iter().position(|target| target.outbox.target == *hook);
            self.targets.push(same.map_or_else(|| Target::new(hook, now), |index| old.remove(index)));
        }
        for gone in &old {
            gone.outbox.log_undelivered("was removed from the configuration");
        }
        if let Some(client) = &self.client {
            client.reload_roots();
        }
    }

    /// True if any target subscribes to it.
    #[must_use]
    pub fn wants(&self, job: &str, state: StateWord, recovered: bool) -> bool {
        self.targets.iter().any(|target| target.wants(job, state, recovered))
    }

    /// Queues the delivery for each target that subscribes to it.
    pub fn notify(&mut self, job: &str, delivery: Delivery, mut runtime: impl FnMut() -> io::Result<Handle>) {
        for index in 0..self.targets.len() {
            if self.targets[index].wants(job, delivery.state(), delivery.recovered()) {
                let id = format!("{}-{}", self.prefix, self.next);
                self.next += 1;
                self.targets[index].outbox.push(delivery.clone().named(id));
                self.start(index, &mut runtime);
            }
        }
    }

    /// When the next ping is due.
    #[must_use]
    pub fn next_ping(&self) -> Option<Elapsed> {
        self.targets.iter().filter_map(|target| target.next_ping).min()
    }

    /// Queues the pings that are due, or skips them if the daemon is not healthy.
    pub fn ping_due(&mut self, now: Elapsed, healthy: bool, mut runtime: impl FnMut() -> io::Result<Handle>) {
        for index in 0..self.targets.len() {
            let target = &mut self.targets[index];
            let NotifyKind::Ping { every } = target.outbox.target.kind else { continue };
            let Some(due) = target.next_ping.filter(|due| *due <= now) else { continue };
            // On the grid; pings that were missed, during a suspend, are skipped.
            let next = due + every;
            target.next_ping = Some(if next > now { next } else { now + every });
            if healthy {
                target.outbox.push(Delivery::ping());
                self.start(index, &mut runtime);
            }
        }
    }

    fn start(&mut self, index: usize, runtime: &mut impl FnMut() -> io::Result<Handle>) {
        let target = &mut self.targets[index];
        if target.task.is_some() {
            return;
        }
        match runtime() {
            Ok(runtime) => {
                let client = Arc::clone(self.client.get_or_insert_with(|| Arc::new(Client::new())));
                target.task = Some(runtime.spawn(worker::run(Arc::clone(&target.outbox), client, self.mailbox.clone())));
            }
            Err(error) => {
                target.outbox.failed(format!("the thread for webhooks can't be started: {error}"));
                log::error!(
                    "{}: the thread for webhooks can't be started: {error}; next try with the next event",
                    target.outbox.origin
                );
            }
        }
    }

    /// At shutdown: no retries from now on.
    pub fn close(&self) {
        self.targets.iter().for_each(|target| target.outbox.close());
    }

    /// True when nothing is queued and no call is in progress.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.targets.iter().all(|target| target.outbox.queued() == 0)
    }

    /// Logs the deliveries that shutdown discards.
    pub fn log_undelivered(&self) {
        self.targets.iter().for_each(|target| target.outbox.log_undelivered("the daemon stops"));
    }

    /// The state of each target, for `status`.
    #[must_use]
    pub fn status(&self, zone: Zone) -> Vec<status::NotifyTarget> {
        self.targets.iter().map(|target| target.outbox.status(zone)).collect()
    }
}
