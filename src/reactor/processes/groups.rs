//! The control groups of runs with limits, where the daemon was delegated one.

use std::io;
use std::time::Duration;

use crate::config::Job;
use crate::engine::Spawn;
use crate::exec::spec::{ExecSpec, Limits};
use crate::exec::{Cgroup, Cgroups, NotDelegated};
use crate::model::{Attempt, RunId};

/// The control group in which runs get theirs, or why there is none.
pub(super) struct RunGroups(Result<Cgroups, NotDelegated>);

/// A run's own group, and the limits that it does not keep.
pub(super) struct RunGroup {
    pub group: Cgroup,
    pub rest: Limits,
}

impl Default for RunGroups {
    fn default() -> RunGroups {
        RunGroups(Err(NotDelegated::not_needed()))
    }
}

impl RunGroups {
    /// Looks for the daemon's group, if one of these jobs has a use for it: that moves the daemon into a leaf of it.
    pub fn open_if_needed(&mut self, jobs: &[Job]) {
        if self.0.is_err() && jobs.iter().any(|job| job.exec.limits.are_of_the_whole_run()) {
            self.0 = Cgroups::open();
        }
    }

    /// The daemon's group, if it has one.
    pub fn opened(&self) -> Option<&Cgroups> {
        self.0.as_ref().ok()
    }

    /// Makes a group for an attempt, if its limits need one and it can have one.
    pub fn make(&self, exec: &ExecSpec, spawn: &Spawn) -> io::Result<Option<RunGroup>> {
        let limits = &exec.limits;
        match &self.0 {
            Ok(groups) if limits.are_of_the_whole_run() => {
                let group = groups.make(spawn.run, spawn.attempt, limits, exec.kill_mode)?;
                Ok(Some(RunGroup { group, rest: groups.rest(limits) }))
            }
            _ => Ok(None),
        }
    }

    /// The group that an earlier daemon made for an attempt.
    pub fn find(&self, run: RunId, attempt: Attempt) -> Option<Cgroup> {
        self.0.as_ref().ok()?.find(run, attempt)
    }

    /// Ends what is left in the group of a run that is over; true if its memory had run out.
    pub fn end(&mut self, group: Cgroup) -> bool {
        self.0.as_mut().is_ok_and(|groups| groups.end(group))
    }

    /// Removes the groups of which everything has died; if there are others, when to look again.
    pub fn remove_ended(&mut self) -> Option<Duration> {
        let groups = self.0.as_mut().ok()?;
        groups.remove_empty();
        groups.look_again_after()
    }

    /// Ends what earlier daemons left in groups of runs other than these.
    pub fn end_leftovers<'a>(&mut self, but: impl Iterator<Item = &'a Cgroup>) {
        if let Ok(groups) = &mut self.0 {
            groups.end_leftovers(but);
        }
    }

    /// Why no control group keeps these limits; `None` if one does, or none is needed.
    pub fn why_none(&self, limits: &Limits) -> Option<String> {
        match &self.0 {
            _ if !limits.are_of_the_whole_run() => None,
            Ok(groups) if groups.keeps(limits) => None,
            Ok(_) => Some("the daemon's cgroup has no controller for them".into()),
            Err(why) => Some(why.to_string()),
        }
    }
}
