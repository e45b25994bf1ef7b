//! Old runs go, a few at a time: between two rounds the loop is free, so that no deadline waits for them.
//!
//! A job's history is looked at when its first run since the daemon's start has ended, and then after each tenth. Where
//! more is over than a round may take, for example a million runs after `keep_runs` was lowered, the rounds go on until
//! it is gone, and nothing wakes the loop after that.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Reactor;
use super::children::remove_logs;
use super::clocks::Clocks;
use crate::model::{Elapsed, JobId};
use crate::store::PRUNE_AT_ONCE;

/// Ended runs of a job between two looks at its history: a tenth of what is kept by default.
const EVERY: u32 = 10;

/// Jobs looked at in one round, which removes [`PRUNE_AT_ONCE`] runs at most.
const JOBS_AT_ONCE: usize = 50;

/// The shortest time between two rounds: thousands of runs go in a second, more than can be started in one.
const PAUSE: Duration = Duration::from_millis(10);

/// Whose history is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Ended runs of each job since its last look.
    ended: HashMap<JobId, u32>,
    /// Due, in turn; each job once.
    due: VecDeque<JobId>,
    /// Before when no round begins.
    not_before: Elapsed,
}

impl Pruning {
    /// A run of this job has ended.
    pub fn note(&mut self, job: JobId) {
        let ended = self.ended.entry(job).or_insert(EVERY - 1);
        *ended += 1;
        if *ended == EVERY {
            self.due.push_back(job);
        }
    }

    /// When the next round is due, if one is.
    pub fn next(&self) -> Option<Elapsed> {
        (!self.due.is_empty()).then_some(self.not_before)
    }

    /// Jobs have other numbers by now, or are gone.
    pub fn renumber(&mut self, still: impl Fn(JobId) -> Option<JobId>) {
        self.ended = self.ended.drain().filter_map(|(job, count)| Some((still(job)?, count))).collect();
        self.due = self.due.drain(..).filter_map(still).collect();
    }

    fn take(&mut self) -> Option<JobId> {
        let job = self.due.pop_front()?;
        self.ended.insert(job, 0);
        Some(job)
    }

    fn once_more(&mut self, job: JobId) {
        self.ended.insert(job, EVERY);
        self.due.push_back(job);
    }
}

impl<C: Clocks> Reactor<C> {
    /// One round, if one is due.
    pub(super) fn prune(&mut self) {
        if self.pruning.next().is_none_or(|at| at > self.now.elapsed) {
            return;
        }
        let mut room = PRUNE_AT_ONCE;
        for _ in 0..JOBS_AT_ONCE {
            if room == 0 {
                break;
            }
            let Some(job) = self.pruning.take() else { break };
            let settings = &self.config.jobs[job.index()];
            let before = settings.keep_for.map(|keep| self.now.wall - keep);
            match self.store.prune(job, settings.keep_runs, before, room) {
                Ok(runs) => {
                    remove_logs(&self.state_dir, &settings.name, &runs);
                    room = room.saturating_sub(runs.len());
                    if room == 0 {
                        self.pruning.once_more(job);
                    }
                }
                Err(error) => log::warn!("{}: old runs can't be removed: {error}", settings.name),
            }
        }
        self.pruning.not_before = self.now.elapsed + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY, Elapsed, JobId, PAUSE, Pruning};

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
    fn ends_while_a_job_waits_for_its_look_do_not_make_it_wait_twice() {
        let mut pruning = Pruning::default();
        for _ in 0..5 * EVERY {
            pruning.note(JobId(1));
            pruning.note(JobId(2));
        }
        assert_eq!(pruning.due, [JobId(1), JobId(2)]);
        pruning.not_before = Elapsed::default() + PAUSE;
        assert_eq!(pruning.next(), Some(Elapsed::default() + PAUSE));
        assert_eq!(pruning.take(), Some(JobId(1)));
        pruning.once_more(JobId(1));
        pruning.note(JobId(1));
        assert_eq!(pruning.due, [JobId(2), JobId(1)]);
        pruning.renumber(|job| (job == JobId(1)).then_some(JobId(7)));
        assert_eq!(pruning.due, [JobId(7)]);
    }
}
