//! Runs as they are shown: to peers, and to observers.

use super::core::Core;
use super::host::EndedRun;
use crate::model::{JobId, RunId, RunView};
use crate::store::StoredRun;

/// A run: as it ended in this turn, else as the engine has it, else as the store does.
pub(super) fn view(core: &mut Core, run: RunId, ended: &[EndedRun]) -> Option<RunView> {
    if let Some(record) = core.engine.run(run) {
        return Some(show(core, &StoredRun::from(record), record.job));
    }
    let stored = match ended.iter().find(|ended| ended.row.id == run) {
        Some(ended) => return Some(show(core, &ended.row, ended.job)),
        None => core.ledger.store().run(run).ok().flatten()?,
    };
    let name = core.ledger.job_of(stored.job_row).map_or("?", |job| &*core.config.jobs[job.index()].name);
    Some(stored.view(name, core.config.zone, core.ledger.state_dir()))
}

/// A row of this job.
pub(super) fn show(core: &Core, run: &StoredRun, job: JobId) -> RunView {
    let job = &core.config.jobs[job.index()];
    run.view(&job.name, job.zone, core.ledger.state_dir())
}

/// A row of this job, or what the engine knows later: the store lags behind while writes fail or `commit_every` holds
/// changes back.
pub(super) fn current(core: &Core, stored: StoredRun, job: JobId) -> RunView {
    let newer = core.engine.run(stored.id).map(StoredRun::from);
    show(core, &newer.unwrap_or(stored), job)
}
