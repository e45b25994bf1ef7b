//! The daemon to look at: for replies, and for observers.

use super::clocks::Clocks;
use super::core::Core;
use super::lifecycle::Lifecycle;
use super::processes::Processes;
use super::sources::Sources;
use crate::model::JobId;

/// The parts of the daemon that others may look at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub clocks: &'a dyn Clocks,
    pub processes: &'a Processes,
    pub sources: &'a Sources,
    pub lifecycle: &'a Lifecycle,
}

/// Warnings about the daemon and these jobs; `troubles` are those of the observers.
pub(super) fn warnings<'a>(core: &Core, jobs: &[JobId], view: &View<'_>, troubles: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut warnings = view.lifecycle.warnings.clone();
    warnings.extend(core.ledger.trouble().map(|trouble| format!("state: {trouble}")));
    warnings.extend(core.ledger.copy_trouble().map(str::to_owned));
    if core.engine.is_waiting_for_clock() {
        warnings.push("the clock is not synchronized yet: wall deadlines wait for it (wait_for_clock)".into());
    }
    warnings.extend(troubles.map(str::to_owned));
    warnings.extend(view.sources.warnings());
    let by_rlimits = |job: &JobId| {
        let job = &core.config.jobs[job.index()];
        Some((&job.name, view.processes.why_no_group(&job.exec.limits)?))
    };
    if let Some((name, why)) = jobs.iter().find_map(by_rlimits) {
        warnings.push(format!(
            "{name}: `limits` are kept by rlimits: `memory` bounds the address space of each process, `pids` all processes of \
             the job's user ({why})"
        ));
    }
    for job in jobs {
        let stored = core.engine.stored(*job);
        if stored > 0 {
            warnings.push(format!("{}: {stored} more runs wait in the store", core.config.jobs[job.index()].name));
        }
    }
    warnings
}
