//! Deletes old runs, a few at a time: between two rounds the loop is free, so that no deadline waits for them.
//!
//! A job's history is looked at when its first run since the daemon's start has ended or its first deadline was missed, and
//! then after each tenth. If there is more to delete than a round may, for example a million runs after `keep_runs` was
//! lowered, the rounds go on until it is gone, and nothing wakes the loop after that. Jobs that are no longer configured
//! are looked at when the configuration was read, and then one with each look at another job, because their runs grow old
//! too.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{JobId, Ledger, Now, RunId};
use crate::config::Config;
use crate::files::Dir;
use crate::logs::{self, LogPaths};
use crate::model::{Elapsed, WallTime};
use crate::store::{Gone, GoneJob, Keep, PRUNE_AT_ONCE};

/// Ended runs and missed deadlines of a job between two looks at its history: a tenth of what is kept by default.
const EVERY: u32 = 10;

/// How long a round may take: mostly a millisecond, and tens of them if its commit is the one that has SQLite make a
/// checkpoint. With less time than this before the next deadline it waits.
const ROOM: Duration = Duration::from_millis(100);

/// How long after that deadline the round is tried again.
const AFTER: Duration = Duration::from_millis(1);

/// For how long a round waits for others at most.
const MAX_POSTPONED: Duration = Duration::from_secs(10);

/// Jobs looked at in one round, which removes [`PRUNE_AT_ONCE`] runs and missed deadlines at most.
const JOBS_AT_ONCE: usize = 50;

/// The shortest time between two rounds: thousands of runs go in a second, more than can be started in one.
const PAUSE: Duration = Duration::from_millis(10);

/// A job of the configuration, or one that was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Job(JobId),
    Gone(GoneJob),
}

/// The jobs with a history to look at.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Ended runs and missed deadlines of each job since its last look.
    new: HashMap<JobId, u32>,
    /// Due, in turn; each job once.
    due: VecDeque<Owner>,
    /// The jobs of which something is left that are not configured any more, but for those that are due.
    gone: VecDeque<GoneJob>,
    /// No round begins before this.
    not_before: Elapsed,
    /// Nor before this, because something else is due first.
    postponed: Elapsed,
}

impl Pruning {
    /// One more row in the history of this job.
    pub fn note(&mut self, job: JobId) {
        let new = self.new.entry(job).or_insert(EVERY - 1);
        *new = new.saturating_add(1);
        if *new == EVERY {
            self.due.push_back(Owner::Job(job));
            self.due.extend(self.gone.pop_front().map(Owner::Gone));
        }
    }

    /// When the next round is due, if one is.
    pub fn next(&self) -> Option<Elapsed> {
        (!self.due.is_empty()).then_some(self.not_before.max(self.postponed))
    }

    /// Postpones a round that may still be busy when the next deadline is reached, unless it has waited too long already.
    fn waits_for_deadline(&mut self, now: Elapsed, quiet: Duration) -> bool {
        let waits_for_deadline = quiet < ROOM && now < self.not_before + MAX_POSTPONED;
        if waits_for_deadline {
            self.postponed = now + quiet + AFTER;
        }
        waits_for_deadline
    }

    /// Postpones a round until the journal's entries are in the database, which it would have to commit itself.
    fn waits_for_commit(&mut self, now: Elapsed, until: Option<Elapsed>) -> bool {
        let waits_for_commit = until.is_some_and(|until| now < until && now < self.not_before + MAX_POSTPONED);
        if waits_for_commit {
            self.postponed = until.unwrap_or(now) + AFTER;
        }
        waits_for_commit
    }

    /// Jobs have other numbers, or are gone.
    pub fn renumber(&mut self, still: impl Fn(JobId) -> Option<JobId>) {
        self.new = self.new.drain().filter_map(|(job, count)| Some((still(job)?, count))).collect();
        let renumbered = |owner| match owner {
            Owner::Job(job) => still(job).map(Owner::Job),
            gone @ Owner::Gone(_) => Some(gone),
        };
        self.due = self.due.drain(..).filter_map(renumbered).collect();
    }

    /// These jobs, and no others, are not configured any more.
    fn set_gone(&mut self, gone: Vec<GoneJob>) {
        self.gone.clear();
        self.due.retain(|owner| matches!(owner, Owner::Job(_)));
        self.due.extend(gone.into_iter().map(Owner::Gone));
    }

    fn take(&mut self) -> Option<Owner> {
        let owner = self.due.pop_front()?;
        if let Owner::Job(job) = owner {
            self.new.insert(job, 0);
        }
        Some(owner)
    }

    fn look_again(&mut self, owner: Owner) {
        if let Owner::Job(job) = owner {
            self.new.insert(job, EVERY);
        }
        self.due.push_back(owner);
    }
}

impl Ledger {
    /// When the next round is due, if one is.
    #[must_use]
    pub fn next_prune(&self) -> Option<Elapsed> {
        self.pruning.next()
    }

    /// One round, if one is due; `quiet` is how long nothing else is.
    pub fn prune(&mut self, now: Now, config: &Config, quiet: Duration) {
        let until = self.throttle.until();
        if self.pruning.waits_for_deadline(now.elapsed, quiet) || self.pruning.waits_for_commit(now.elapsed, until) {
            return;
        }
        let mut room = PRUNE_AT_ONCE;
        for _ in 0..JOBS_AT_ONCE {
            if room == 0 {
                break;
            }
            let Some(owner) = self.pruning.take() else { break };
            let (removed, is_gone) = match owner {
                Owner::Job(job) => (self.prune_job(job, now.wall, config, room), false),
                Owner::Gone(job) => self.prune_gone(job, now.wall, config, room),
            };
            room = room.saturating_sub(removed);
            match owner {
                Owner::Gone(_) if is_gone => {}
                _ if room == 0 => self.pruning.look_again(owner),
                Owner::Gone(job) => self.pruning.gone.push_back(job),
                Owner::Job(_) => {}
            }
        }
        self.pruning.not_before = now.elapsed + PAUSE;
    }

    /// Returns the number of rows deleted.
    fn prune_job(&mut self, job: JobId, now: WallTime, config: &Config, room: usize) -> usize {
        let settings = &config.jobs[job.index()];
        match self.store.prune(job, keep(settings.keep_runs, settings.keep_for, now), room) {
            Ok(pruned) => {
                remove_logs(&self.store.dir(), &settings.name, &pruned.runs);
                pruned.count()
            }
            Err(error) => {
                log::warn!("{}: old runs can't be deleted: {error}", settings.name);
                0
            }
        }
    }

    /// Returns the number of rows deleted, and whether nothing of the job is left.
    fn prune_gone(&mut self, job: GoneJob, now: WallTime, config: &Config, room: usize) -> (usize, bool) {
        match self.store.prune_gone(job, keep(config.keep_runs, config.keep_for, now), room) {
            Ok(Gone { name, pruned, forgotten }) => {
                let dir = self.store.dir();
                remove_logs(&dir, &name, &pruned.runs);
                if forgotten && let Some(folder) = LogPaths::of_run(&name, RunId(0)).log.parent() {
                    // It is not there if none of its runs had output.
                    let _ = dir.remove_dir(folder);
                }
                (pruned.count(), forgotten)
            }
            Err(error) => {
                log::warn!("old runs of a job that is no longer configured can't be deleted: {error}");
                (0, false)
            }
        }
    }

    /// The configuration was read: finds the jobs that are in the state and not in it.
    pub fn look_for_gone_jobs(&mut self) {
        match self.store.gone() {
            Ok(gone) => self.pruning.set_gone(gone),
            Err(error) => log::warn!("jobs that are no longer configured can't be looked for: {error}"),
        }
    }

    /// Jobs have other numbers, or are gone.
    pub fn renumber(&mut self, still: impl Fn(JobId) -> Option<JobId>) {
        self.pruning.renumber(still);
    }
}

/// Deletes the logs of these runs of a job.
fn remove_logs(dir: &Dir, job: &str, runs: &[u64]) {
    for run in runs {
        if let Err(error) = logs::remove(dir, &LogPaths::of_run(job, RunId(*run))) {
            log::warn!("{job}: the log of run {run} can't be deleted: {error}");
        }
    }
}

fn keep(runs: u32, period: Option<Duration>, now: WallTime) -> Keep {
    Keep { runs, since: period.map(|period| now - period) }
}

#[cfg(test)]
mod tests {
    use super::{Duration, EVERY, Elapsed, JobId, Owner, PAUSE, Pruning, ROOM};

    #[test]
    fn a_jobs_first_end_after_a_start_has_its_history_looked_at_and_then_each_tenth() {
        let mut pruning = Pruning::default();
        assert_eq!(pruning.next(), None);
        let mut looks = 0;
        for end in 0..=2 * EVERY {
            pruning.note(JobId(3));
            assert_eq!(pruning.take().is_some(), end % EVERY == 0, "{end}");
            looks += u32::from(end % EVERY == 0);
        }
        assert_eq!((looks, pruning.next()), (3, None));
    }

    #[test]
    fn a_round_waits_for_a_deadline_that_is_near_but_not_for_ever() {
        let at = |millis| Elapsed::default() + Duration::from_millis(millis);
        let near = Duration::from_millis(30);
        let mut pruning = Pruning { not_before: at(1_000), ..Pruning::default() };
        pruning.note(JobId(1));
        assert!(!pruning.waits_for_deadline(at(1_000), ROOM));
        assert!(pruning.waits_for_deadline(at(1_000), near));
        assert_eq!(pruning.next(), Some(at(1_031)), "it wakes nobody before that deadline has");
        assert!(pruning.waits_for_deadline(at(10_999), near));
        assert!(!pruning.waits_for_deadline(at(11_000), near));
    }

    #[test]
    fn ends_while_a_job_waits_for_its_look_do_not_make_it_wait_twice() {
        let mut pruning = Pruning::default();
        for _ in 0..5 * EVERY {
            pruning.note(JobId(1));
            pruning.note(JobId(2));
        }
        let owner = |jobs: &[u32]| jobs.iter().map(|job| Owner::Job(JobId(*job))).collect::<Vec<_>>();
        assert_eq!(pruning.due, owner(&[1, 2]));
        pruning.not_before = Elapsed::default() + PAUSE;
        assert_eq!(pruning.next(), Some(Elapsed::default() + PAUSE));
        assert_eq!(pruning.take(), Some(Owner::Job(JobId(1))));
        pruning.look_again(Owner::Job(JobId(1)));
        pruning.note(JobId(1));
        assert_eq!(pruning.due, owner(&[2, 1]));
        pruning.renumber(|job| (job == JobId(1)).then_some(JobId(7)));
        assert_eq!(pruning.due, owner(&[7]));
    }
}
