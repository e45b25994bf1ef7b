//! The loop's side of the hooks: what they are told, when a ping is due, and the little time that they get at the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::bridge::HOOKS;
use super::clocks::Clocks;
use super::{Reactor, diary};
use crate::config::Tell;
use crate::control::commands::status;
use crate::engine::Story;
use crate::model::{Elapsed, StateWord};
use crate::notify::{Letter, Notifier};
use crate::store::StoredRun;
use crate::triggers::cron::Zone;

/// How long deliveries get at the daemon's end; less if `shutdown_timeout` is less.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The ends that say how a job stands: after one of them it fails, or it does not.
const TELLING: [StateWord; 4] = [StateWord::Succeeded, StateWord::Failed, StateWord::TimedOut, StateWord::Lost];

/// The hooks, if there are any, and what must be remembered for them.
#[derive(Default)]
pub(super) struct Callers {
    notifier: Option<Notifier>,
    /// Jobs whose last run failed, if somebody wants to hear of the next success.
    failing: Option<HashSet<Arc<str>>>,
    /// When the daemon stops to wait for deliveries.
    closing: Option<Elapsed>,
}

impl Callers {
    pub fn status(&self, zone: Zone) -> Vec<status::Hook> {
        self.notifier.as_ref().map_or_else(Vec::new, |notifier| notifier.status(zone))
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        let pings = self.notifier.as_ref().and_then(Notifier::next_ping);
        if self.closing.is_some() { self.closing } else { pings }
    }
}

impl<C: Clocks> Reactor<C> {
    /// Takes over the hooks as the configuration has them now. Those that are the same keep what waits for them.
    pub(super) fn set_up_callers(&mut self) {
        let hooks = &self.config.notify;
        let wants_recovered = hooks.iter().any(|hook| hook.is_told_of(Tell::Recovered));
        if !wants_recovered {
            self.callers.failing = None;
        } else if self.callers.failing.is_none() {
            // What failed before the daemon's start recovers too.
            let last = self.store.last_runs().unwrap_or_default();
            let failed = last.into_iter().filter(|(job, run)| {
                // A run that goes on, or was never made, says nothing of how the job stands.
                let mut telling = || self.store.last_run_in(*job, &TELLING).ok().flatten().map(|run| run.state);
                is_failure(if TELLING.contains(&run.state) { run.state } else { telling().unwrap_or(run.state) })
            });
            self.callers.failing = Some(failed.map(|(job, _)| Arc::clone(&self.config.jobs[job.index()].name)).collect());
        }
        if hooks.is_empty() && self.callers.notifier.is_none() {
            return;
        }
        let mailbox = self.bridge.mailbox(HOOKS);
        let notifier = self.callers.notifier.get_or_insert_with(|| Notifier::new(mailbox, self.started.wall));
        notifier.set_hooks(hooks, self.now.elapsed);
        if hooks.is_empty() {
            self.callers.notifier = None;
        }
    }

    /// Tells the hooks that want to hear of it. Nothing is made for anyone else.
    pub(super) fn tell_callers(&mut self, story: &Story, ended: &[StoredRun]) {
        let (job, state, run) = match story {
            Story::Ended { run, job, outcome, .. } => (*job, outcome.word(), Some(*run)),
            Story::Missed { job, .. } => (*job, StateWord::Missed, None),
            _ => return,
        };
        if self.callers.notifier.is_none() {
            return;
        }
        let name = Arc::clone(&self.config.jobs[job.index()].name);
        let recovered = self.callers.failing.as_mut().is_some_and(|failing| {
            if is_failure(state) {
                failing.insert(Arc::clone(&name));
            }
            state == StateWord::Succeeded && failing.remove(&name)
        });
        if !self.callers.notifier.as_ref().is_some_and(|notifier| notifier.wants(&name, state, recovered)) {
            return;
        }
        let event = diary::event_of(&self.config, self.now.wall, story);
        let run = run.and_then(|run| self.view(run, ended));
        let letter = Letter::new(event, run, state, recovered);
        let bridge = &mut self.bridge;
        if let Some(notifier) = &mut self.callers.notifier {
            notifier.tell(&name, letter, || bridge.runtime());
        }
    }

    /// Sends the pings that are due, while all is well. It is the loop that does it: a loop that hangs must fall silent.
    pub(super) fn ping_if_due(&mut self) {
        let well = self.store.trouble().is_none() && !self.engine.is_stopping();
        let bridge = &mut self.bridge;
        if let Some(notifier) = &mut self.callers.notifier {
            notifier.ping_due(self.now.elapsed, well, || bridge.runtime());
        }
    }

    /// At the end: true once everything is delivered, or the time for it is over.
    pub(super) fn callers_are_done(&mut self) -> bool {
        let patience = LAST_WORDS.min(self.config.shutdown_timeout);
        let Some(notifier) = &self.callers.notifier else { return true };
        let until = *self.callers.closing.get_or_insert_with(|| {
            notifier.close();
            self.now.elapsed + patience
        });
        if !notifier.is_idle() && self.now.elapsed < until {
            return false;
        }
        notifier.tell_undelivered();
        true
    }
}

fn is_failure(state: StateWord) -> bool {
    matches!(state, StateWord::Failed | StateWord::TimedOut | StateWord::Lost)
}
