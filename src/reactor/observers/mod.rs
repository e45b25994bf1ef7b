//! Those that are notified of what happens: the log, Prometheus metrics, webhooks, followers of the web UI.
//!
//! Nothing that an observer does makes anything happen to a run; what follows from an effect is in the turn. What is
//! compiled out is not registered in [`Observers::new`], and nothing else knows of it.

#![cfg_attr(
    not(all(feature = "metrics", feature = "notify", feature = "web")),
    allow(dead_code, reason = "what an observer may use, whichever of them are compiled in")
)]

mod log;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "web")]
mod web;
#[cfg(feature = "notify")]
mod webhooks;

use std::any::Any;
use std::cell::OnceCell;

use super::bridge::Bridge;
use super::core::Core;
use super::helper::{AskNumber, Helper};
use super::host::EndedRun;
use super::view::View;
use crate::config::Config;
use crate::control::commands::events::{Happened, What};
use crate::control::commands::status;
use crate::control::protocol::{Reply, Request};
use crate::cron::Zone;
use crate::engine::{Notice, Spawn};
use crate::helper::Response;
use crate::model::{Elapsed, JobId, RunId, WallTime};

/// Something that happened, with its text, made once and only if an observer needs it.
pub(super) struct Report<'a> {
    subject: Subject<'a>,
    /// The runs that ended in this turn.
    pub ended: &'a [EndedRun],
    line: OnceCell<String>,
}

enum Subject<'a> {
    /// The engine's, with its event once that is made.
    Notice(&'a Notice, OnceCell<Happened>),
    /// What the daemon itself does.
    Daemon(Happened),
}

impl<'a> Report<'a> {
    pub fn of_notice(notice: &'a Notice, ended: &'a [EndedRun]) -> Report<'a> {
        Report { subject: Subject::Notice(notice, OnceCell::new()), ended, line: OnceCell::new() }
    }

    /// What the daemon itself does.
    pub fn of_daemon(config: &Config, at: WallTime, what: What, reason: &str) -> Report<'a> {
        let mut event = Happened::new(config.zone.rfc3339(at), what);
        event.reason = Some(reason.into());
        Report { subject: Subject::Daemon(event), ended: &[], line: OnceCell::new() }
    }

    /// The engine's notice; `None` for what the daemon itself does.
    pub fn notice(&self) -> Option<&'a Notice> {
        match self.subject {
            Subject::Notice(notice, _) => Some(notice),
            Subject::Daemon(_) => None,
        }
    }

    /// The event of the `events` stream.
    pub fn event(&self, core: &Core) -> &Happened {
        match &self.subject {
            Subject::Notice(notice, event) => event.get_or_init(|| log::event_of(&core.config, core.now.wall, notice)),
            Subject::Daemon(event) => event,
        }
    }

    /// The event as a line of JSON, with its end.
    pub fn line(&self, core: &Core) -> &str {
        self.line.get_or_init(|| {
            // Strings, numbers and words: it can't fail.
            let mut line = serde_json::to_string(self.event(core)).unwrap_or_default();
            line.push('\n');
            line
        })
    }

    /// The row of a run that ended in this turn.
    pub fn row_of(&self, run: RunId) -> Option<&'a EndedRun> {
        self.ended.iter().find(|ended| ended.row.id == run)
    }
}

/// What an observer may look at, and the other thread.
pub(super) struct Context<'a> {
    pub core: &'a mut Core,
    pub bridge: &'a mut Bridge,
    pub helper: &'a mut Helper,
    pub view: View<'a>,
    /// How many observers have something to warn of.
    pub troubles: usize,
}

/// Takes one reply to the other thread.
pub(super) type Answer = Box<dyn FnOnce(Reply) + Send>;

/// What becomes of a message from the other thread.
pub(super) enum Handled {
    /// It was meant for this observer.
    Done,
    /// It is a request, and the reply goes there.
    Request(Request, Answer),
    /// It is meant for another one.
    Other(Box<dyn Any + Send>),
}

/// One that is notified.
pub(super) trait Observer {
    /// The configuration is new, or has changed; jobs may have other numbers than before.
    fn configure(&mut self, _cx: &mut Context<'_>) {}

    /// Something has happened.
    fn on_notice(&mut self, _report: &Report<'_>, _cx: &mut Context<'_>) {}

    /// The engine has decided something, whether or not there is a notice of it.
    fn on_change(&mut self, _now: Elapsed) {}

    /// A process has executed its program.
    fn on_started(&mut self, _spawn: &Spawn, _cx: &mut Context<'_>) {}

    /// A source has looked at what it watches, and could or could not.
    fn on_poll(&mut self, _job: JobId, _works: bool, _now: Elapsed) {}

    /// A write of the state has failed.
    fn on_failed_write(&mut self, _now: Elapsed) {}

    /// A message from the other thread, to any observer.
    fn on_message(&mut self, message: Box<dyn Any + Send>, _cx: &mut Context<'_>) -> Handled {
        Handled::Other(message)
    }

    /// The turn is over.
    fn on_turn_end(&mut self, _cx: &mut Context<'_>) {}

    /// When a turn has to end at the latest.
    fn next_wake(&self) -> Option<Elapsed> {
        None
    }

    /// A warning of `status`.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Webhooks, for `status`.
    fn webhooks(&self, _zone: Zone) -> Vec<status::NotifyTarget> {
        Vec::new()
    }

    /// Nothing runs any more: true once this observer has reported all of it, or the time for that is over.
    fn is_finished(&mut self, _cx: &mut Context<'_>) -> bool {
        true
    }

    /// What the helper process answers.
    fn on_files(&mut self, _ask: AskNumber, _response: &mut Option<Response>, _cx: &mut Context<'_>) {}

    /// True if [`Observer::on_mounts`] is to be called.
    fn follows_mounts(&self) -> bool {
        false
    }

    /// Something was mounted or unmounted.
    fn on_mounts(&mut self) {}

    /// Nothing runs any more: what is still to be written is.
    fn write_last(&mut self, _cx: &mut Context<'_>) {}
}

/// All of them.
pub(super) struct Observers(Vec<Box<dyn Observer>>);

impl Observers {
    /// Registers what this build has.
    pub fn new() -> Observers {
        fn boxed(observer: impl Observer + 'static) -> Box<dyn Observer> {
            Box::new(observer)
        }
        Observers(Vec::from([
            boxed(log::Log),
            #[cfg(feature = "notify")]
            boxed(webhooks::Webhooks::default()),
            #[cfg(feature = "web")]
            boxed(web::WebUi::default()),
            #[cfg(feature = "metrics")]
            boxed(metrics::Metrics::default()),
        ]))
    }

    pub fn configure(&mut self, cx: &mut Context<'_>) {
        self.0.iter_mut().for_each(|observer| observer.configure(cx));
    }

    pub fn notify(&mut self, report: &Report<'_>, cx: &mut Context<'_>) {
        self.0.iter_mut().for_each(|observer| observer.on_notice(report, cx));
    }

    pub fn changed(&mut self, now: Elapsed) {
        self.0.iter_mut().for_each(|observer| observer.on_change(now));
    }

    pub fn started(&mut self, spawn: &Spawn, cx: &mut Context<'_>) {
        self.0.iter_mut().for_each(|observer| observer.on_started(spawn, cx));
    }

    pub fn poll(&mut self, job: JobId, works: bool, now: Elapsed) {
        self.0.iter_mut().for_each(|observer| observer.on_poll(job, works, now));
    }

    pub fn failed_write(&mut self, now: Elapsed) {
        self.0.iter_mut().for_each(|observer| observer.on_failed_write(now));
    }

    /// Hands a message to the observer that it is meant for. Returns a request, if it is one.
    pub fn message(&mut self, message: Box<dyn Any + Send>, cx: &mut Context<'_>) -> Option<(Request, Answer)> {
        cx.troubles = self.troubles().count();
        let mut message = message;
        for observer in &mut self.0 {
            match observer.on_message(message, cx) {
                Handled::Done => return None,
                Handled::Request(request, answer) => return Some((request, answer)),
                Handled::Other(other) => message = other,
            }
        }
        debug_assert!(false, "a message that is meant for no observer");
        None
    }

    pub fn end_turn(&mut self, cx: &mut Context<'_>) {
        cx.troubles = self.troubles().count();
        self.0.iter_mut().for_each(|observer| observer.on_turn_end(cx));
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        self.0.iter().filter_map(|observer| observer.next_wake()).min()
    }

    /// Warnings of `status`.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|observer| observer.trouble())
    }

    /// Webhooks, for `status`.
    pub fn webhooks(&self, zone: Zone) -> Vec<status::NotifyTarget> {
        self.0.iter().flat_map(|observer| observer.webhooks(zone)).collect()
    }

    /// Nothing runs any more: true once everything is reported, or the time for that is over.
    pub fn are_finished(&mut self, cx: &mut Context<'_>) -> bool {
        let mut finished = true;
        // Each of them has to be asked: their times begin together.
        for observer in &mut self.0 {
            finished &= observer.is_finished(cx);
        }
        finished
    }

    /// Hands on what the helper process answers.
    pub fn files(&mut self, ask: AskNumber, response: Response, cx: &mut Context<'_>) {
        cx.troubles = self.troubles().count();
        let mut response = Some(response);
        self.0.iter_mut().for_each(|observer| observer.on_files(ask, &mut response, cx));
    }

    /// True if one of them is to know when something is mounted or unmounted.
    pub fn follow_mounts(&self) -> bool {
        self.0.iter().any(|observer| observer.follows_mounts())
    }

    pub fn mounts_changed(&mut self) {
        self.0.iter_mut().for_each(|observer| observer.on_mounts());
    }

    pub fn write_last(&mut self, cx: &mut Context<'_>) {
        cx.troubles = self.troubles().count();
        self.0.iter_mut().for_each(|observer| observer.write_last(cx));
    }
}
