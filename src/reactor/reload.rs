//! Another configuration while the daemon runs.
//!
//! The new file is read and checked whole before anything is touched. Then everything under way is finished under the old
//! list of jobs, because a job's number is its place in that list; the engine goes on by the new rules; and the sources of
//! jobs whose trigger is the same are handed over as they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::core::Core;
use super::host::Host;
use crate::config::{Config, Job};
use crate::control::commands::reload::Reloaded;
use crate::engine::rules::Rules;
use crate::model::JobId;
use crate::store::JobKey;

/// Rounds of effects that may follow each other before a reload waits for the next turn.
const ROUNDS: usize = 64;

impl Core {
    /// Takes over the next configuration, if there is one, at the end of a turn.
    pub(super) fn reload_if_asked<H: Host>(&mut self, host: &mut H) -> Result<(), H::Halt> {
        let Some(config) = self.next_config.take() else { return Ok(()) };
        for _ in 0..ROUNDS {
            host.collect_started(self)?;
            if !self.has_events() {
                let result = self.reload(host, *config)?;
                return host.reloaded(self, result);
            }
            let mut effects = Vec::new();
            self.drain_inbox(host, &mut effects)?;
            self.apply(host, effects, Vec::new())?;
        }
        self.next_config = Some(config);
        Ok(())
    }

    /// The outer error is the host's, the inner one a sentence for a person.
    fn reload<H: Host>(&mut self, host: &mut H, mut next: Config) -> Result<Result<Reloaded, String>, H::Halt> {
        if self.engine.is_stopping() {
            return Ok(Err("the daemon is stopping".into()));
        }
        // A job's number in what is not written yet is its place in the old list.
        self.commit_all(host)?;
        if let Some(trouble) = self.ledger.trouble() {
            return Ok(Err(format!("the state can't be written: {trouble}")));
        }
        let answer = self.compare(&next);
        self.retire_gone(host, &next)?;

        let mut rules = std::mem::take(&mut next.rules);
        let (configured, wait_for_clock) = (rules.jobs.len(), rules.wait_for_clock);
        let retired = self.engine.to_retire(&rules);
        rules.jobs.extend(retired.iter().map(|job| self.engine.rules().jobs[job.index()].retired()));
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        if let Err(error) = self.ledger.store().set_jobs(&keys) {
            return Ok(Err(error.to_string()));
        }
        let mut effects = Vec::new();
        if !host.drive_reload(&mut self.engine, self.now, rules, &mut effects)? {
            return Ok(Err("the dependencies have a cycle".into()));
        }

        let mut old: Vec<Option<Job>> = std::mem::take(&mut self.config.jobs).into_iter().map(Some).collect();
        host.hand_over(self, &old, &next)?;
        next.jobs.extend(retired.iter().filter_map(|job| old[job.index()].take()));
        self.renumber_history(&old, &next);
        if next.durability != self.config.durability
            && let Err(error) = self.ledger.store().set_durability(next.durability)
        {
            log::warn!("{error}");
        }
        next.path = std::mem::take(&mut self.config.path);
        self.config = next;
        (self.configured, self.wait_for_clock) = (configured, wait_for_clock);
        host.configured(self)?;
        self.apply(host, effects, Vec::new())?;
        self.ledger.look_for_gone_jobs();
        host.start_sources(self)?;
        Ok(Ok(answer))
    }

    /// Waiting runs of jobs that the next configuration does not have are skipped.
    fn retire_gone<H: Host>(&mut self, host: &mut H, next: &Config) -> Result<(), H::Halt> {
        let kept: HashSet<&Arc<str>> = next.jobs.iter().map(|job| &job.name).collect();
        let gone: Vec<JobId> = self.jobs().filter(|job| !kept.contains(&self.config.jobs[job.index()].name)).collect();
        let mut effects = Vec::new();
        host.drive_retire(&mut self.engine, self.now, &gone, &mut effects)?;
        self.apply(host, effects, Vec::new())
    }

    fn renumber_history(&mut self, old: &[Option<Job>], next: &Config) {
        let ids: HashMap<&str, JobId> = next.jobs.iter().zip(0..).map(|(job, index)| (&*job.name, JobId(index))).collect();
        let still = |job: JobId| old.get(job.index())?.as_ref().and_then(|job| ids.get(&*job.name)).copied();
        self.ledger.renumber(still);
    }

    /// What another configuration would change.
    #[must_use]
    pub fn compare(&self, next: &Config) -> Reloaded {
        let old: HashMap<&str, JobId> = self.jobs().map(|job| (&*self.config.jobs[job.index()].name, job)).collect();
        let mut answer = Reloaded::default();
        for (job, index) in next.jobs.iter().zip(0..) {
            match old.get(&*job.name).filter(|was| !self.is_retired(**was)) {
                None => answer.added.push(job.name.to_string()),
                Some(was) if self.is_unchanged(*was, next, index) => answer.unchanged += 1,
                Some(_) => answer.changed.push(job.name.to_string()),
            }
        }
        let kept: HashSet<&str> = next.jobs.iter().map(|job| &*job.name).collect();
        let configured = &self.config.jobs[..self.configured];
        let gone = configured.iter().filter(|job| !kept.contains(&*job.name));
        answer.removed = gone.map(|job| job.name.to_string()).collect();
        if next.state_dir != self.config.state_dir {
            answer.warnings.push("`state_dir` has changed; it takes effect at the next start".into());
        }
        if next.rules.wait_for_clock != self.wait_for_clock {
            answer.warnings.push("`wait_for_clock` is about the start; it takes effect at the next one".into());
        }
        answer.warnings.extend(next.warnings.iter().map(|warning| warning.message.clone()));
        answer
    }

    fn is_unchanged(&self, was: JobId, next: &Config, is: usize) -> bool {
        let (old_rules, new_rules) = (self.engine.rules(), &next.rules);
        let mut like = old_rules.jobs[was.index()].clone();
        // Numbers of other jobs may differ, their names may not.
        like.depends_on = new_rules.jobs[is].depends_on.clone();
        like == new_rules.jobs[is]
            && upstream_names(old_rules, was.index()) == upstream_names(new_rules, is)
            && self.config.jobs[was.index()] == next.jobs[is]
    }
}

fn upstream_names(rules: &Rules, index: usize) -> Vec<&str> {
    rules.jobs[index].depends_on.iter().map(|dep| &*rules.jobs[dep.index()].name).collect()
}
