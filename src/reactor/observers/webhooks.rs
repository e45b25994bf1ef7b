//! Webhooks: what they get, when a ping is due, and the little time that they have at the end.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, Handled, Observer, Report};
use crate::config::NotifyOn;
use crate::control::commands::status;
use crate::cron::Zone;
use crate::engine::Notice;
use crate::model::{Elapsed, StateWord};
use crate::notify::{Delivery, Notifier};
use crate::reactor::bridge::OBSERVERS;
use crate::reactor::show::view;

/// How long deliveries get at the daemon's end, if `shutdown_timeout` is not less.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The ends that make a job a failing one, or not.
const OUTCOMES: [StateWord; 4] = [StateWord::Succeeded, StateWord::Failed, StateWord::TimedOut, StateWord::Lost];

/// The webhooks of the configuration, if there are any, and what must be remembered for them.
#[derive(Default)]
pub(super) struct Webhooks {
    notifier: Option<Notifier>,
    /// Jobs whose last run failed, if a webhook is called for the next success.
    failing: Option<HashSet<Arc<str>>>,
    /// When the daemon stops waiting for deliveries.
    closing: Option<Elapsed>,
}

impl Observer for Webhooks {
    /// Takes over the webhooks as they are now. Those that are the same keep their queues.
    fn configure(&mut self, cx: &mut Context<'_>) {
        let hooks = &cx.core.config.notify;
        let wants_recovered = hooks.iter().any(|hook| hook.subscribes_to(NotifyOn::Recovered));
        if !wants_recovered {
            self.failing = None;
        } else if self.failing.is_none() {
            self.failing = Some(failing_jobs(cx));
        }
        let hooks = &cx.core.config.notify;
        if hooks.is_empty() && self.notifier.is_none() {
            return;
        }
        let mailbox = cx.bridge.mailbox(OBSERVERS);
        let started = cx.view.lifecycle.started.wall;
        let notifier = self.notifier.get_or_insert_with(|| Notifier::new(mailbox, started));
        notifier.set_targets(hooks, cx.core.now.elapsed);
        if hooks.is_empty() {
            self.notifier = None;
        }
    }

    /// Puts a delivery into the queues of the webhooks that want it. Without one, nothing is made.
    fn on_notice(&mut self, report: &Report<'_>, cx: &mut Context<'_>) {
        let Some(notifier) = &mut self.notifier else { return };
        let (job, state, run) = match report.notice() {
            Some(Notice::Ended { run, job, outcome, .. }) => (*job, outcome.word(), Some(*run)),
            Some(Notice::Missed { job, .. }) => (*job, StateWord::Missed, None),
            _ => return,
        };
        let name = Arc::clone(&cx.core.config.jobs[job.index()].name);
        let recovered = self.failing.as_mut().is_some_and(|failing| {
            if is_failure(state) {
                failing.insert(Arc::clone(&name));
            }
            state == StateWord::Succeeded && failing.remove(&name)
        });
        if !notifier.wants(&name, state, recovered) {
            return;
        }
        let run = run.and_then(|run| view(cx.core, run, report.ended));
        let delivery = Delivery::new(report.event(cx.core).clone(), run, state, recovered);
        notifier.notify(&name, delivery, || cx.bridge.runtime());
    }

    /// A queue is empty at the daemon's end: a reason for the turn in which that is looked at.
    fn on_message(&mut self, message: Box<dyn Any + Send>, _cx: &mut Context<'_>) -> Handled {
        if message.is::<()>() { Handled::Done } else { Handled::Other(message) }
    }

    /// Sends the pings that are due, while all is well. The loop does it: a loop that hangs must fall silent.
    fn on_turn_end(&mut self, cx: &mut Context<'_>) {
        let well = cx.core.ledger.trouble().is_none() && !cx.core.engine.is_stopping();
        if let Some(notifier) = &mut self.notifier {
            notifier.ping_due(cx.core.now.elapsed, well, || cx.bridge.runtime());
        }
    }

    fn next_wake(&self) -> Option<Elapsed> {
        let pings = self.notifier.as_ref().and_then(Notifier::next_ping);
        if self.closing.is_some() { self.closing } else { pings }
    }

    fn webhooks(&self, zone: Zone) -> Vec<status::NotifyTarget> {
        self.notifier.as_ref().map_or_else(Vec::new, |notifier| notifier.status(zone))
    }

    /// True once everything is delivered, or the time for it is over.
    fn is_finished(&mut self, cx: &mut Context<'_>) -> bool {
        let now = cx.core.now.elapsed;
        let timeout = DRAIN_TIMEOUT.min(cx.core.config.shutdown_timeout);
        let Some(notifier) = &self.notifier else { return true };
        let until = *self.closing.get_or_insert_with(|| {
            notifier.close();
            now + timeout
        });
        if !notifier.is_idle() && now < until {
            return false;
        }
        notifier.log_undelivered();
        true
    }
}

/// What failed before the daemon's start recovers too.
fn failing_jobs(cx: &mut Context<'_>) -> HashSet<Arc<str>> {
    let (ledger, config) = (&mut cx.core.ledger, &cx.core.config);
    let last = ledger.store().last_runs().unwrap_or_default();
    let failed = last.into_iter().filter(|(job, run)| {
        // A run that goes on, or was never made, does not show whether the job fails.
        let mut decisive = || ledger.store().last_run_in(*job, &OUTCOMES).ok().flatten().map(|run| run.state);
        is_failure(if OUTCOMES.contains(&run.state) { run.state } else { decisive().unwrap_or(run.state) })
    });
    failed.map(|(job, _)| Arc::clone(&config.jobs[job.index()].name)).collect()
}

fn is_failure(state: StateWord) -> bool {
    matches!(state, StateWord::Failed | StateWord::TimedOut | StateWord::Lost)
}
