//! `status`.

use super::requests;
use crate::control::commands::status::{Job, JobWord, Request, Status};
use crate::control::protocol::{ErrorCode, Reply};
use crate::engine::JobState;
use crate::model::{JobId, Now};
use crate::reactor::core::Core;
use crate::reactor::observers::Observers;
use crate::reactor::show::{current, show};
use crate::reactor::view::{View, warnings};
use crate::store::{StoreError, StoredRun};

pub(super) fn status(core: &mut Core, request: &Request, view: View<'_>, observers: &Observers) -> Result<Reply, Reply> {
    let only = request.job.as_deref().map(|name| requests::find_job(core, name)).transpose()?;
    let jobs: Vec<JobId> = match only {
        Some(job) => vec![job],
        None => core.jobs().collect(),
    };
    let unreadable = |error: StoreError| Reply::failed(ErrorCode::Refused, error.to_string());
    let mut last = match only {
        Some(job) => core.ledger.store().last_run(job).map_err(unreadable)?.map(|run| (job, run)).into_iter().collect(),
        // A disk that can't be read must not take away the view of what runs.
        None => core.ledger.store().last_runs().unwrap_or_default(),
    };
    let now = view.clocks.now();
    let shown = jobs.iter().map(|job| job_status(core, *job, now, last.remove(job))).collect();
    let active = core.engine.active().into_iter().filter(|run| only.is_none_or(|job| run.job == job));
    let warnings = warnings(core, &jobs, &view, observers.troubles());
    Ok(Reply::done(&Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: core.config.zone.rfc3339(view.lifecycle.started.wall),
        config: core.config.path.display().to_string(),
        jobs: shown,
        active: active.map(|record| show(core, &StoredRun::from(record), record.job)).collect(),
        warnings,
        state_error: core.ledger.trouble().map(str::to_owned),
        notify: if only.is_none() { observers.webhooks(core.config.zone) } else { Vec::new() },
    }))
}

/// One job, with its newest run as the store has it.
pub(super) fn job_status(core: &Core, job: JobId, now: Now, last: Option<StoredRun>) -> Job {
    let rules = &core.engine.rules().jobs[job.index()];
    let view = core.engine.view(now, job);
    Job {
        name: rules.name.to_string(),
        trigger: rules.trigger,
        enabled: rules.enabled,
        paused: view.paused,
        state: job_word(view.state),
        next_at: view.next_at.map(|at| core.config.jobs[job.index()].zone.rfc3339(at)),
        last_run: last.map(|run| current(core, run, job)),
        waiting_for: view.waiting_for,
    }
}

pub(super) const fn job_word(state: JobState) -> JobWord {
    match state {
        JobState::Idle => JobWord::Idle,
        JobState::Pending => JobWord::Pending,
        JobState::Running => JobWord::Running,
    }
}
