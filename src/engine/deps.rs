//! Propagation of a run's end down the graph: credits, the runs they release, and the runs that a failure skips.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::Engine;
use super::event::Change;
use super::flow::Cause;
use super::run::RunState;
use crate::dag::{Condition, Verdict};
use crate::model::{JobId, Now, Outcome, RunId};

/// An end that is being propagated, with the reasons of the runs that it skips.
struct Wave {
    job: JobId,
    outcome: Outcome,
    /// `upstream a failed`: the reason of a run that this end skips.
    reason: Arc<str>,
    /// The reason of the first skipped run on the path, for the reasons of those after it.
    root: Arc<str>,
}

impl Engine {
    /// A run of `job` has ended. All credits are set before any job that they satisfy is considered, so that a job sees one
    /// failure once even where it arrives over several paths.
    pub(super) fn propagate(&mut self, now: Now, job: JobId, outcome: Outcome) {
        if self.graph.downstream(job).is_empty() {
            return;
        }
        let reason: Arc<str> = format!("upstream {} {}", self.rules_of(job).name, outcome.word()).into();
        let mut waves = VecDeque::from([Wave { job, outcome, root: reason.clone(), reason }]);
        let mut skipped: HashSet<JobId> = HashSet::new();
        let mut touched: Vec<JobId> = Vec::new();
        while let Some(wave) = waves.pop_front() {
            for job in self.graph.downstream(wave.job).to_vec() {
                self.note_credit(job, wave.job, wave.outcome);
                let condition = self.rules_of(job).policy.condition;
                let verdict = self.jobs[job.index()].credits.verdict(condition);
                let reason: Arc<str> = match (verdict, condition) {
                    (Verdict::Satisfied, _) => {
                        touched.push(job);
                        continue;
                    }
                    (Verdict::Closed(_), Condition::AllSuccess) if !wave.outcome.is_success() => wave.reason.clone(),
                    (Verdict::Closed(_), Condition::AnySuccess) => "no upstream succeeded".into(),
                    (Verdict::Closed(_), Condition::AnyFailure) => "no upstream failed".into(),
                    (Verdict::Closed(_) | Verdict::Waiting, _) => continue,
                };
                if !skipped.insert(job) {
                    continue;
                }
                if condition != Condition::AllSuccess {
                    // All have ended: the next round starts without credits. With all_success the next success suffices.
                    self.consume_credits(job);
                }
                if self.skip_waiting(now, job, &reason) {
                    let reason = format!("upstream {} skipped: {}", self.rules_of(job).name, wave.root).into();
                    waves.push_back(Wave { job, outcome: Outcome::Skipped, reason, root: wave.root.clone() });
                }
            }
        }
        for job in touched {
            self.consider(now, job);
        }
    }

    /// The job's dependencies may be satisfied: advances its waiting run, or triggers the job if dependencies alone do that.
    pub(super) fn consider(&mut self, now: Now, job: JobId) {
        let rules = self.rules_of(job);
        let memory = &self.jobs[job.index()];
        let satisfied = !rules.depends_on.is_empty() && memory.credits.verdict(rules.policy.condition) == Verdict::Satisfied;
        let has_waiting =
            !self.queues.waiting(job).is_empty() || self.queues.stored(job) > 0 || self.queues.credit_holder(job).is_some();
        if satisfied && !has_waiting && rules.is_triggered_by_dependencies() && rules.enabled && !memory.paused {
            let run = self.trigger(now, job, Cause::by_dependencies(now));
            let forbidden = self.queues.get(run).is_some_and(|record| matches!(record.state, RunState::Ended(_)));
            if forbidden {
                // Skipped by `concurrency`: the credits are consumed, as the event of any other trigger would be.
                self.consume_credits(job);
            }
        }
        self.to_advance.push_back(job);
    }

    fn note_credit(&mut self, job: JobId, upstream: JobId, outcome: Outcome) {
        if let Some(slot) = self.rules_of(job).slot_of(upstream) {
            self.memory(job).credits.set(slot, outcome);
            self.record(Change::Credit { job, upstream, outcome: Some(outcome) });
        }
    }

    /// A run of the job starts: it consumes all credits.
    pub(super) fn consume_credits(&mut self, job: JobId) {
        for slot in 0..self.rules_of(job).depends_on.len() {
            if self.jobs[job.index()].credits.is_empty() {
                break;
            }
            self.clear_credit(job, slot);
        }
    }

    fn clear_credit(&mut self, job: JobId, slot: usize) {
        if self.jobs[job.index()].credits.get(slot).is_some() {
            self.memory(job).credits.clear(slot);
            let upstream = self.rules_of(job).depends_on[slot];
            self.record(Change::Credit { job, upstream, outcome: None });
        }
    }

    /// Skips every run of the job that waits for its dependencies, or the one that they would have triggered; false
    /// if there was none.
    fn skip_waiting(&mut self, now: Now, job: JobId, reason: &Arc<str>) -> bool {
        let mut runs: Vec<RunId> = self.queues.waiting(job).iter().copied().collect();
        runs.extend(self.queues.credit_holder(job));
        let any_stored = self.skip_stored(now, job, reason);
        let rules = self.rules_of(job);
        if runs.is_empty() && !any_stored {
            if !rules.is_triggered_by_dependencies() || !rules.enabled || self.jobs[job.index()].paused {
                return false;
            }
            runs.push(self.new_run(job, &Cause::by_dependencies(now)));
        }
        for run in runs {
            self.close(now, run, Outcome::Skipped, None, Some(reason.clone()));
        }
        true
    }

    /// Skips the runs of the job that only the store holds; false if there was none.
    pub(super) fn skip_stored(&mut self, now: Now, job: JobId, reason: &Arc<str>) -> bool {
        let Some(from) = self.queues.drop_stored(job) else { return false };
        self.record(Change::SkipStored { job, from, at: now.wall, reason: reason.to_string() });
        true
    }
}
