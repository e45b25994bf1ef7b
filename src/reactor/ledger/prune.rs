//! Old runs go, a few at a time: between two rounds the loop is free, so that no deadline waits for them.
//!
//! A job's history is looked at when its first run since the daemon's start has ended or its first deadline was missed, and
//! then after each tenth. Where more is over than a round may take, for example a million runs after `keep_runs` was
//! lowered, the rounds go on until it is gone, and nothing wakes the loop after that. A job that is not configured any more
//! is looked at when the configuration was read, and then with the looks at others, one of them a time, because its runs
//! grow old too.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Reactor;
use super::children::remove_logs;
use super::clocks::Clocks;
use crate::model::{Elapsed, JobId, RunId, WallTime};
use crate::store::{Gone, GoneJob, Keep, PRUNE_AT_ONCE, log_path};

/// Ended runs and missed deadlines of a job between two looks at its history: a tenth of what is kept by default.
const EVERY: u32 = 10;

/// What a round may take: mostly a millisecond, and tens of them where its commit is the one that has SQLite empty its log
/// onto the disk. With less time than this before the next deadline it waits.
const ROOM: Duration = Duration::from_millis(100);

/// How long after that deadline, which has something to do first.
const AFTER: Duration = Duration::from_millis(1);

/// For how long it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Jobs looked at in one round, which removes [`PRUNE_AT_ONCE`] runs and missed deadlines at most.
const JOBS_AT_ONCE: usize = 50;

/// The shortest time between two rounds: thousands of runs go in a second, more than can be started in one.
const PAUSE: Duration = Duration::from_millis(10);

/// A job of the configuration, or one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Job(JobId),
    Gone(GoneJob),
}

/// Whose history is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Ended runs and missed deadlines of each job since its last look.
    new: HashMap<JobId, u32>,
    /// Due, in turn; each job once.
    due: VecDeque<Whose>,
    /// The jobs of which something is left that are not configured any more, but for those that are due.
    gone: VecDeque<GoneJob>,
    /// Before when no round begins.
    not_before: Elapsed,
    /// The same, because something else is due first.
    postponed: Elapsed,
}

impl Pruning {
    /// A run of this job has ended, or so many of its deadlines were missed.
    pub fn note(&mut self, job: JobId, count: u64) {
        let new = self.new.entry(job).or_insert(EVERY - 1);
        let before = *new;
        *new = before.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if before < EVERY && *new >= EVERY {
            self.due.push_back(Whose::Job(job));
            self.due.extend(self.gone.pop_front().map(Whose::Gone));
        }
    }

    /// When the next round is due, if one is.
    pub fn next(&self) -> Option<Elapsed> {
        (!self.due.is_empty()).then_some(self.not_before.max(self.postponed))
    }

    /// A round that is due has to wait for what is due before it is surely over, if it has not waited for too long already.
    fn gives_way(&mut self, now: Elapsed, quiet: Duration) -> bool {
        let gives_way = quiet < ROOM && now < self.not_before + PATIENCE;
        if gives_way {
            self.postponed = now + quiet + AFTER;
        }
        gives_way
    }

    /// A round that is due first lets what is jotted down come into the database, which it would have to do itself.
    fn lets_pass(&mut self, now: Elapsed, until: Option<Elapsed>) -> bool {
        let lets_pass = until.is_some_and(|until| now < until && now < self.not_before + PATIENCE);
        if lets_pass {
            self.postponed = until.unwrap_or(now) + AFTER;
        }
        lets_pass
    }

    /// Jobs have other numbers by now, or are gone.
    pub fn renumber(&mut self, still: impl Fn(JobId) -> Option<JobId>) {
        self.new = self.new.drain().filter_map(|(job, count)| Some((still(job)?, count))).collect();
        let renumbered = |whose| match whose {
            Whose::Job(job) => still(job).map(Whose::Job),
            gone @ Whose::Gone(_) => Some(gone),
        };
        self.due = self.due.drain(..).filter_map(renumbered).collect();
    }

    /// These jobs, and no others, are not configured any more.
    fn set_gone(&mut self, gone: Vec<GoneJob>) {
        self.gone.clear();
        self.due.retain(|whose| matches!(whose, Whose::Job(_)));
        self.due.extend(gone.into_iter().map(Whose::Gone));
    }

    fn take(&mut self) -> Option<Whose> {
        let whose = self.due.pop_front()?;
        if let Whose::Job(job) = whose {
            self.new.insert(job, 0);
        }
        Some(whose)
    }

    fn once_more(&mut self, whose: Whose) {
        if let Whose::Job(job) = whose {
            self.new.insert(job, EVERY);
        }
        self.due.push_back(whose);
    }
}

impl<C: Clocks> Reactor<C> {
    /// One round, if one is due.
    pub(super) fn prune(&mut self) {
        if self.pruning.next().is_none_or(|at| at > self.now.elapsed) {
            return;
        }
        let quiet = self.quiet();
        let until = self.pace.until();
        if self.pruning.gives_way(self.now.elapsed, quiet) || self.pruning.lets_pass(self.now.elapsed, until) {
            return;
        }
        let mut room = PRUNE_AT_ONCE;
        for _ in 0..JOBS_AT_ONCE {
            if room == 0 {
                break;
            }
            let Some(whose) = self.pruning.take() else { break };
            let (removed, forgotten) = match whose {
                Whose::Job(job) => (self.prune_job(job, room), false),
                Whose::Gone(job) => self.prune_gone(job, room),
            };
            room = room.saturating_sub(removed);
            match whose {
                Whose::Gone(_) if forgotten => {}
                _ if room == 0 => self.pruning.once_more(whose),
                Whose::Gone(job) => self.pruning.gone.push_back(job),
                Whose::Job(_) => {}
            }
        }
        self.pruning.not_before = self.now.elapsed + PAUSE;
    }

    /// Returns how much was removed.
    fn prune_job(&mut self, job: JobId, room: usize) -> usize {
        let settings = &self.config.jobs[job.index()];
        let keep = keep(settings.keep_runs, settings.keep_for, self.now.wall);
        match self.store.prune(job, keep, room) {
            Ok(pruned) => {
                remove_logs(&self.state_dir, &settings.name, &pruned.runs);
                pruned.count()
            }
            Err(error) => {
                log::warn!("{}: old runs can't be removed: {error}", settings.name);
                0
            }
        }
    }

    /// Returns how much was removed, and whether nothing of the job is left.
    fn prune_gone(&mut self, job: GoneJob, room: usize) -> (usize, bool) {
        let keep = keep(self.config.keep_runs, self.config.keep_for, self.now.wall);
        match self.store.prune_gone(job, keep, room) {
            Ok(Gone { name, pruned, forgotten }) => {
                remove_logs(&self.state_dir, &name, &pruned.runs);
                if forgotten && let Some(folder) = log_path(&self.state_dir, &name, RunId(0)).parent() {
                    // It is not there if none of its runs had output.
                    let _ = std::fs::remove_dir(folder);
                }
                (pruned.count(), forgotten)
            }
            Err(error) => {
                log::warn!("old runs of a job that is not configured any more can't be removed: {error}");
                (0, false)
            }
        }
    }

    /// The configuration was read: who is in the state and not in it?
    pub(super) fn look_for_gone_jobs(&mut self) {
        match self.store.gone() {
            Ok(gone) => self.pruning.set_gone(gone),
            Err(error) => log::warn!("jobs that are not configured any more can't be looked for: {error}"),
        }
    }
}

fn keep(runs: u32, period: Option<Duration>, now: WallTime) -> Keep {
    Keep { runs, since: period.map(|period| now - period) }
}

#[cfg(test)]
mod tests {
    use super::{Duration, EVERY, Elapsed, JobId, PAUSE, Pruning, ROOM, Whose};

    #[test]
    fn a_jobs_first_end_after_a_start_has_its_history_looked_at_and_then_each_tenth() {
        let mut pruning = Pruning::default();
        assert_eq!(pruning.next(), None);
        let mut looks = 0;
        for end in 0..=2 * EVERY {
            pruning.note(JobId(3), 1);
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
        pruning.note(JobId(1), 1);
        assert!(!pruning.gives_way(at(1_000), ROOM));
        assert!(pruning.gives_way(at(1_000), near));
        assert_eq!(pruning.next(), Some(at(1_031)), "it wakes nobody before that deadline has");
        assert!(pruning.gives_way(at(10_999), near));
        assert!(!pruning.gives_way(at(11_000), near));
    }

    #[test]
    fn ends_while_a_job_waits_for_its_look_do_not_make_it_wait_twice() {
        let mut pruning = Pruning::default();
        for _ in 0..5 * EVERY {
            pruning.note(JobId(1), 1);
            pruning.note(JobId(2), 3);
        }
        let whose = |jobs: &[u32]| jobs.iter().map(|job| Whose::Job(JobId(*job))).collect::<Vec<_>>();
        assert_eq!(pruning.due, whose(&[1, 2]));
        pruning.not_before = Elapsed::default() + PAUSE;
        assert_eq!(pruning.next(), Some(Elapsed::default() + PAUSE));
        assert_eq!(pruning.take(), Some(Whose::Job(JobId(1))));
        pruning.once_more(Whose::Job(JobId(1)));
        pruning.note(JobId(1), 1);
        assert_eq!(pruning.due, whose(&[2, 1]));
        pruning.renumber(|job| (job == JobId(1)).then_some(JobId(7)));
        assert_eq!(pruning.due, whose(&[7]));
    }
}
