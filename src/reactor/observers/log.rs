//! What happened, as text: lines of the log and events of the `events` stream.

use super::{Context, Observer, Report};
use crate::config::Config;
use crate::control::commands::events::{Happened, What};
use crate::engine::Notice;
use crate::model::{JobId, Outcome, StateWord, WallTime, format_duration};
use crate::store::split_exit;

/// The daemon's log.
pub(super) struct Log;

impl Observer for Log {
    fn on_notice(&mut self, report: &Report<'_>, cx: &mut Context<'_>) {
        if let Some(notice) = report.notice() {
            log_notice(&cx.core.config, notice);
        }
    }
}

/// One `info` line a run, at its end; the rest is `debug`, or `warn` where a person may want to look.
fn log_notice(config: &Config, notice: &Notice) {
    let name = |job: &JobId| &*config.jobs[job.index()].name;
    match notice {
        Notice::Triggered { run, job, trigger, scheduled_at } => {
            log::debug!("{}: run {run} triggered by {trigger}, due {}", name(job), show(config, *job, *scheduled_at));
        }
        Notice::Started { run, job, attempt } => log::debug!("{}: run {run} starts attempt {attempt}", name(job)),
        Notice::WillRetry { run, job, attempt, delay, reason, .. } => {
            let delay = format_duration(*delay);
            log::warn!("{}: run {run} attempt {attempt} failed ({reason}); the next one starts in {delay}", name(job));
        }
        Notice::Ended { run, job, outcome, exit, reason, .. } => {
            let (code, signal) = split_exit(*exit);
            let mut line = format!("{}: run {run} {}", name(job), outcome.word());
            match (code, signal) {
                (Some(code), _) if code != 0 || *outcome != Outcome::Succeeded => line.push_str(&format!(", exit code {code}")),
                (_, Some(signal)) => line.push_str(&format!(", killed by {signal}")),
                _ => {}
            }
            if let Some(reason) = reason {
                line.push_str(&format!(" ({reason})"));
            }
            match outcome {
                Outcome::Succeeded | Outcome::Skipped | Outcome::Cancelled => log::info!("{line}"),
                Outcome::Failed | Outcome::TimedOut | Outcome::Lost => log::warn!("{line}"),
            }
        }
        Notice::Missed { job, at, count, reason } => {
            log::warn!("{}: {count} missed, the latest was due {}: {reason}", name(job), show(config, *job, *at));
        }
        Notice::ClockSet { by } => {
            let step = format_duration(std::time::Duration::from_nanos(by.unsigned_abs()));
            let way = if *by < 0 { "back" } else { "forward" };
            log::warn!("the wall clock was set {way} by {step}; every wall deadline was computed again");
        }
        Notice::Paused { job, paused } => {
            let jobs = job.as_ref().map_or("all jobs", name);
            log::info!("{jobs}: {}", if *paused { "paused" } else { "resumed" });
        }
        Notice::ClockReady { synchronized: true } => log::info!("the clock is synchronized: wall deadlines are armed"),
        Notice::ClockReady { synchronized: false } => {
            log::warn!("the clock is still not synchronized after wait_for_clock: wall deadlines are armed all the same");
        }
    }
}

/// The event of the stream.
pub(super) fn event_of(config: &Config, at: WallTime, notice: &Notice) -> Happened {
    let name = |job: &JobId| Some(config.jobs[job.index()].name.to_string());
    let mut happened = Happened::new(config.zone.rfc3339(at), What::Ended);
    match notice {
        Notice::Triggered { run, job, trigger, .. } => {
            happened.what = What::Triggered;
            (happened.job, happened.run, happened.trigger) = (name(job), Some(*run), Some(*trigger));
            happened.state = Some(StateWord::Pending);
        }
        Notice::Started { run, job, attempt } => {
            happened.what = What::Started;
            (happened.job, happened.run, happened.attempt) = (name(job), Some(*run), Some(*attempt));
            happened.state = Some(StateWord::Running);
        }
        Notice::WillRetry { run, job, attempt, reason, .. } => {
            happened.what = What::WillRetry;
            (happened.job, happened.run, happened.attempt) = (name(job), Some(*run), Some(*attempt));
            (happened.state, happened.reason) = (Some(StateWord::Pending), Some(reason.clone()));
        }
        Notice::Ended { run, job, outcome, attempt, reason, .. } => {
            (happened.job, happened.run, happened.attempt) = (name(job), Some(*run), Some(*attempt));
            (happened.state, happened.reason) = (Some(outcome.word()), reason.as_deref().map(Into::into));
        }
        Notice::Missed { job, reason, .. } => {
            happened.what = What::Missed;
            (happened.job, happened.state, happened.reason) = (name(job), Some(StateWord::Missed), Some(reason.clone()));
        }
        Notice::ClockSet { by } => {
            happened.what = What::ClockSet;
            happened.reason = Some(format!("by {:+.3} s", *by as f64 / 1e9));
        }
        Notice::Paused { job, paused } => {
            happened.what = if *paused { What::Paused } else { What::Resumed };
            happened.job = job.as_ref().and_then(name);
        }
        Notice::ClockReady { synchronized } => {
            happened.what = What::ClockReady;
            happened.reason = (!synchronized).then(|| "not synchronized, but wait_for_clock is over".into());
        }
    }
    happened
}

fn show(config: &Config, job: JobId, at: WallTime) -> String {
    config.jobs[job.index()].zone.rfc3339(at)
}
