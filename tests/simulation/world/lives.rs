//! Daemons come and go: a start on what the last one left, an orderly end, a crash, a power cut.

use std::time::Duration;

use firelink::engine::rules::Rules;
use firelink::engine::{Restored, RunState, Waiting};
use firelink::model::{Elapsed, StateWord};
use firelink::reactor::{CommitLimits, Core, OpenedCore};
use firelink::store::{DATABASE, JOURNAL, Opened, Store};

use super::super::oracle::Broken;
use super::super::vfs;
use super::{HOPS, Halt, Outside, World, hash};

impl World<'_> {
    /// The daemon is gone, and everything that it had not written.
    pub(super) fn die(&mut self) {
        self.host.say(|| "the daemon dies".into());
        self.daemon = None;
        self.host.lose_memory();
    }

    pub(super) fn cut_power(&mut self, away: Duration) -> Result<(), Broken> {
        if self.daemon.is_some() {
            self.die();
        }
        let host = &mut self.host;
        host.processes.clear();
        if let Some(synced) = host.synced.take() {
            for name in [DATABASE.to_owned(), format!("{DATABASE}-wal"), format!("{DATABASE}-shm"), JOURNAL.to_owned()] {
                let _ = std::fs::remove_file(host.dir.path().join(name));
            }
            for (name, content) in &synced.files {
                std::fs::write(host.dir.path().join(name), content).map_err(|error| error.to_string())?;
            }
            host.oracle = synced.oracle.clone();
            host.durable = synced.oracle;
            (host.oracle.unsteady, host.durable.unsteady) = (!host.steady, !host.steady);
        }
        host.boot += 1;
        host.synchronized = false;
        host.now.wall = host.now.wall + away;
        host.now.elapsed = Elapsed::from_nanos(12_000_000_000);
        self.begin()
    }

    /// The daemon was asked to stop: it must, in time.
    pub(super) fn end_daemon(&mut self, patience: Duration, then: Duration) -> Result<(), Broken> {
        self.settle()?;
        if let Some(daemon) = self.daemon.as_ref().filter(|daemon| !daemon.has_stopped()) {
            let grace = daemon.engine.rules().jobs.iter().map(|job| job.policy.kill_grace).max().unwrap_or_default();
            // Whether the clock is right is asked each second meanwhile.
            self.pass(patience + grace + Duration::from_secs(1), 8 * HOPS)?;
        }
        let Some(mut daemon) = self.daemon.take() else { return self.begin() };
        if !daemon.has_stopped() {
            return Err("the daemon was asked to stop and did not".into());
        }
        daemon.ledger.close();
        drop(daemon);
        self.host.lose_memory();
        self.host.move_clocks(then);
        self.begin()
    }

    /// A daemon starts on what the one before it left.
    pub(super) fn begin(&mut self) -> Result<(), Broken> {
        // With failing writes it would not start at all.
        vfs::heal();
        let host = &mut self.host;
        let now = host.now.elapsed;
        host.processes.retain(|process| process.ends > now);
        host.say(|| "a daemon starts".into());
        (host.steady_since, host.leaves, host.held_since) = (None, false, None);
        host.sources.clear();
        let config = host.case.config(host.variant);
        let Opened { store, warnings } =
            Store::open(host.dir.path(), config.durability, format!("boot-{}", host.boot)).map_err(|error| error.to_string())?;
        if !warnings.is_empty() {
            return Err(format!("the state can't be opened as it is: {warnings:?}"));
        }
        let dir = host.dir.path().to_owned();
        let opened = Core::open(config, store, dir, host.limits(), host.now, host.case.seed);
        let OpenedCore { core, restored, same_boot, .. } = opened.map_err(|error| error.to_string())?;
        host.forget_removed(core.engine.rules());
        // As of the last commit, which a reload may have followed.
        host.oracle.keep_edges(core.engine.rules());
        host.compare(core.engine.rules(), &restored, same_boot)?;
        host.oracle.restart();
        match self.daemon.insert(core).start(&mut self.host, restored, same_boot) {
            Ok(()) => {}
            Err(Halt::Died) => self.die(),
            Err(Halt::Broken(broken)) => return Err(broken),
        }
        self.settle()
    }
}

impl Outside<'_> {
    /// Some daemons are throttled so that most of their turns go into the journal, and stay there for long.
    fn limits(&self) -> CommitLimits {
        match hash(&[self.case.seed, 1]).below(4) {
            0 => CommitLimits::default(),
            1 => CommitLimits { interval: Duration::from_secs(20), burst: 1, ..CommitLimits::default() },
            2 => CommitLimits {
                interval: Duration::from_secs(300),
                burst: 2,
                max_wait: Duration::from_secs(90),
                ..CommitLimits::default()
            },
            _ => CommitLimits {
                interval: Duration::from_secs(3_600),
                burst: 1,
                max_wait: Duration::from_secs(900),
                max_bytes: 8 << 10,
            },
        }
    }

    /// A daemon is gone: what is not in the state is lost, and no one watches a process that the state does not know.
    fn lose_memory(&mut self) {
        self.lines.clear();
        self.not_started.clear();
        // What has not executed its program dies with the daemon.
        let now = self.now.elapsed;
        self.processes.retain(|process| process.is_reported || process.starts <= now);
        self.made.clear();
        self.unwritten.clear();
        (self.refused, self.next_variant) = (None, None);
        self.oracle = self.durable.clone();
        let known = &self.oracle;
        self.processes.retain_mut(|process| {
            process.is_reported = true;
            let run = known.runs.get(&process.run);
            run.is_some_and(|run| run.state == StateWord::Running && run.attempt == process.attempt && run.job == process.job)
        });
    }

    /// Runs of jobs that the file no longer has end when the state is read.
    fn forget_removed(&mut self, rules: &Rules) {
        for (id, run) in &mut self.oracle.runs {
            if !run.state.is_end() && !rules.jobs.iter().any(|job| *job.name == *run.job) {
                run.state = if run.state == StateWord::Running { StateWord::Lost } else { StateWord::Cancelled };
                self.processes.retain(|process| process.run != *id);
            }
        }
        self.durable = self.oracle.clone();
    }

    /// What a start finds must be what was promised.
    fn compare(&self, rules: &Rules, restored: &Restored, same_boot: bool) -> Result<(), Broken> {
        let mut running: Vec<u64> = restored.running.iter().map(|(record, _)| record.id.0).collect();
        running.sort_unstable();
        let promised = self.oracle.in_state(StateWord::Running);
        if running != promised {
            return Err(format!("running before: {promised:?}, after a restart: {running:?}"));
        }
        let mut pending: Vec<u64> = restored.jobs.iter().flat_map(|job| &job.pending).map(|record| record.id.0).collect();
        pending.sort_unstable();
        let promised = self.oracle.in_state(StateWord::Pending);
        // Past a job's in-memory limit they stay in the store.
        let stored: u64 = restored.jobs.iter().map(|job| job.stored).sum();
        let is_kept = |id: &u64| promised.binary_search(id).is_ok();
        if pending.len() as u64 + stored != promised.len() as u64 || !pending.iter().all(is_kept) {
            return Err(format!("pending before: {promised:?}, after a restart: {pending:?}"));
        }
        for (job, known) in rules.jobs.iter().zip(&restored.jobs) {
            if known.paused != self.oracle.paused.contains(&*job.name) {
                return Err(format!("{}: paused after a restart: {}", job.name, known.paused));
            }
            let mut found: Vec<(String, bool)> = known
                .credits
                .iter()
                .map(|(up, outcome)| (rules.jobs[up.index()].name.to_string(), outcome.is_success()))
                .collect();
            // Ends of dependencies that were removed count no more.
            found.retain(|(up, _)| job.depends_on.iter().any(|dep| *rules.jobs[dep.index()].name == **up));
            found.sort();
            let promised = self.oracle.news_of(&job.name);
            if found != promised {
                return Err(format!("{}: credits before: {promised:?}, after a restart: {found:?}", job.name));
            }
            for record in &known.pending {
                let Some(run) = self.oracle.runs.get(&record.id.0) else { continue };
                let waits_again = matches!(record.state, RunState::Pending(Waiting::Retry { .. }));
                let not_yet = same_boot && run.retry_due.is_some_and(|due| due > self.now.elapsed);
                if run.attempt != record.attempt.0 || not_yet && !waits_again {
                    return Err(format!(
                        "run {} is pending at attempt {} after a restart: {:?}",
                        record.id, record.attempt, record.state
                    ));
                }
            }
        }
        Ok(())
    }
}
