//! Requests that change something or ask for a run: `trigger`, `retry`, `cancel`, `logs`, `pause`, `resume`.

use crate::control::commands::{cancel, logs, pause, retry, trigger};
use crate::control::protocol::{ErrorCode, Reply};
use crate::engine::Request;
use crate::logs::LogPaths;
use crate::model::{JobId, RunId, RunView, StateWord};
use crate::reactor::core::Core;
use crate::reactor::show::{current, view};
use crate::store::StoreError;

fn not_found(text: String) -> Reply {
    Reply::failed(ErrorCode::NotFound, text)
}

fn refused(text: impl Into<String>) -> Reply {
    Reply::failed(ErrorCode::Refused, text)
}

fn unreadable(error: StoreError) -> Reply {
    refused(error.to_string())
}

pub(super) fn find_job(core: &Core, name: &str) -> Result<JobId, Reply> {
    let found = core.jobs().find(|job| &*core.config.jobs[job.index()].name == name);
    found.ok_or_else(|| {
        let hint = crate::text::nearest(name, core.config.jobs.iter().map(|job| &*job.name))
            .map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        not_found(format!("there is no job `{name}`{hint}"))
    })
}

/// Makes a run of a job. The reply follows when the engine has made it.
pub(super) fn trigger(core: &mut Core, request: &trigger::Request, ticket: u64) -> Result<(), Reply> {
    let job = find_job(core, &request.job)?;
    if core.is_retired(job) {
        let name = &request.job;
        return Err(not_found(format!("`{name}` was removed from the configuration; what runs of it is seen to its end")));
    }
    if !core.engine.rules().jobs[job.index()].enabled && !request.force {
        let name = &request.job;
        return Err(refused(format!("`{name}` is disabled in the configuration; --force runs it all the same")));
    }
    if core.engine.is_stopping() {
        return Err(refused("the daemon is stopping"));
    }
    core.ask(Request::Trigger { job, force: request.force, with_deps: request.with_deps, ticket });
    Ok(())
}

/// Makes a new run of one that did not succeed, and with `downstream` of those that were skipped because of it. The first
/// starts at once; the runs downstream wait for its success.
pub(super) fn retry(core: &mut Core, request: &retry::Request, ticket: u64) -> Result<(), Reply> {
    if core.engine.is_stopping() {
        return Err(refused("the daemon is stopping"));
    }
    let run = request.run;
    if core.engine.run(run).is_some() {
        return Err(refused(format!("run {run} has not ended yet")));
    }
    let row = core.ledger.store().run(run).map_err(unreadable)?;
    let row = row.ok_or_else(|| not_found(format!("there is no run {run}")))?;
    if row.state == StateWord::Succeeded {
        return Err(refused(format!("run {run} has succeeded; `ctl trigger` makes a new one")));
    }
    let gone = || not_found(format!("the job of run {run} is not in the configuration any more"));
    let job = core.ledger.job_of(row.job_row).ok_or_else(gone)?;
    let skipped = match row.ended_at {
        Some(at) if request.downstream => {
            let reason = format!("upstream {} {}", core.config.jobs[job.index()].name, row.state);
            core.ledger.store().skipped_because(at, &reason).map_err(unreadable)?
        }
        _ => Vec::new(),
    };
    let first = std::iter::once((job, row, true));
    let behind = skipped.into_iter().filter_map(|row| Some((core.ledger.job_of(row.job_row)?, row, false)));
    for (job, row, force) in first.chain(behind).collect::<Vec<_>>() {
        let ticket = force.then_some(ticket);
        let (trigger, event, scheduled_at) = (row.trigger, row.event, row.scheduled_at);
        core.ask(Request::Repeat { job, trigger, event, scheduled_at, force, ticket });
    }
    Ok(())
}

pub(super) fn cancel(core: &mut Core, run: RunId) -> Result<Reply, Reply> {
    match view(core, run, &[]) {
        None => Err(not_found(format!("there is no run {run}"))),
        Some(view) if view.state.is_end() => Err(refused(format!("run {run} has already {}", ended_word(&view)))),
        Some(view) if core.engine.run(run).is_none() => Err(refused(format!(
            "run {run} of {} waits in the store behind a thousand others; it can be cancelled once it is near its turn",
            view.job
        ))),
        Some(view) => {
            core.ask(Request::Cancel(run));
            Ok(Reply::done(&cancel::Cancelled { run: view }))
        }
    }
}

pub(super) fn logs(core: &mut Core, request: &logs::Request) -> Result<logs::Logs, Reply> {
    let run = match find_job(core, &request.of) {
        Ok(job) => {
            let found = core.ledger.store().last_run(job).map_err(unreadable)?;
            found.map(|stored| current(core, stored, job))
        }
        Err(unknown) => match request.of.parse().ok().map(RunId) {
            Some(run) => view(core, run, &[]),
            None => return Err(unknown),
        },
    };
    let run = run.ok_or_else(|| not_found(format!("there is no run of `{}` yet", request.of)))?;
    Ok(located(core, run))
}

/// A run with where its output is.
pub(super) fn located(core: &Core, run: RunView) -> logs::Logs {
    let paths = run.id.map(|id| LogPaths::within(core.ledger.state_dir(), &run.job, id));
    let shown = |path: Option<std::path::PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let (log, segments) = paths.map(|paths| (paths.log, paths.segments)).unzip();
    logs::Logs { run, path: shown(log), segments: shown(segments) }
}

pub(super) fn pause(core: &mut Core, request: &pause::Request, paused: bool) -> Result<Reply, Reply> {
    let job = request.job.as_deref().map(|name| find_job(core, name)).transpose()?;
    let held = |job: JobId| core.engine.view(core.now, job).paused;
    // As it will be once the engine has handled the request, later in this turn.
    let count = core.jobs().filter(|id| if job.is_none_or(|job| job == *id) { paused } else { held(*id) }).count();
    core.ask(if paused { Request::Pause(job) } else { Request::Resume(job) });
    Ok(Reply::done(&pause::Paused { paused: count }))
}

fn ended_word(view: &RunView) -> String {
    match view.state {
        StateWord::TimedOut => "timed out".into(),
        StateWord::Lost => "been lost".into(),
        StateWord::Cancelled => "been cancelled".into(),
        StateWord::Skipped => "been skipped".into(),
        other => other.to_string(),
    }
}
