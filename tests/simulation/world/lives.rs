//! Daemons come and go: a start on what the last one left, a reload, an orderly end, a crash, a power cut.

use std::collections::VecDeque;
use std::time::Duration;

use firelink::engine::{Engine, RestoredProcess, RunState};
use firelink::model::{Elapsed, JobId, StateWord, TriggerWord};
use firelink::reactor::gather::Held;
use firelink::store::{DATABASE, JOURNAL, JobKey, Opened, Store};

use super::super::ledger::Broken;
use super::super::vfs;
use super::{Daemon, HOPS, Halt, Source, TURNS, World};

impl World<'_> {
    /// A reload, in the reactor's order.
    pub(super) fn reload(&mut self, variant: usize) -> Result<(), Halt> {
        let now = self.now;
        // Processes that have just started are told first.
        for _ in 0..TURNS {
            let Some(daemon) = &mut self.daemon else { return Ok(()) };
            if daemon.inbox.is_empty() {
                break;
            }
            let mut effects = Vec::new();
            for event in std::mem::take(&mut daemon.inbox) {
                self.handle(event, &mut effects)?;
            }
            self.apply(effects, Vec::new())?;
        }
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.engine.is_stopping() {
            return Ok(());
        }
        self.commit_held()?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.store.trouble().is_some() {
            return Ok(());
        }
        let mut next = self.case.config(variant);
        let gone: Vec<JobId> = (0..)
            .zip(&daemon.config.jobs)
            .filter(|(_, job)| !next.jobs.iter().any(|kept| kept.name == job.name))
            .map(|(index, _)| JobId(index))
            .collect();
        self.ledger.remember_limits(daemon.engine.rules());
        let mut effects = Vec::new();
        daemon.engine.retire(now, &gone, &mut effects);
        self.watch(None, &effects, 0)?;
        self.apply(effects, Vec::new())?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let mut rules = std::mem::take(&mut next.rules);
        let retired = daemon.engine.to_retire(&rules);
        rules.jobs.extend(retired.iter().map(|job| daemon.engine.rules().jobs[job.index()].retired()));
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        if daemon.store.set_jobs(&keys).is_err() {
            return Ok(());
        }
        self.ledger.reload(&rules);
        let mut effects = Vec::new();
        daemon.engine.reload(now, rules, &mut effects).map_err(|_| "the dependencies have a cycle".to_owned())?;
        let mut old: Vec<Option<firelink::config::Job>> = std::mem::take(&mut daemon.config.jobs).into_iter().map(Some).collect();
        next.jobs.extend(retired.iter().filter_map(|job| old[job.index()].take()));
        daemon.config = next;
        self.variant = variant;
        self.watch(None, &effects, 0)?;
        self.apply(effects, Vec::new())?;
        if let Some(daemon) = &mut self.daemon {
            daemon.steady_since = daemon.steady_since.map(|_| now.wall);
        }
        self.start_sources();
        Ok(())
    }

    /// The daemon is gone; what it had not written is, too.
    pub(super) fn die(&mut self) {
        self.say(|| "the daemon dies".into());
        self.daemon = None;
        self.lines.clear();
        self.ledger = self.durable.clone();
        self.forget_unknown();
    }

    /// A process that the state does not know can't be watched by anybody.
    fn forget_unknown(&mut self) {
        let known = &self.ledger;
        self.processes.retain(|process| {
            let run = known.runs.get(&process.run);
            run.is_some_and(|run| run.state == StateWord::Running && run.attempt == process.attempt && run.job == process.job)
        });
    }

    pub(super) fn cut_power(&mut self, away: Duration) -> Result<(), Broken> {
        if self.daemon.is_some() {
            self.die();
        }
        self.processes.clear();
        if let Some(pressed) = self.pressed.take() {
            for name in [DATABASE.to_owned(), format!("{DATABASE}-wal"), format!("{DATABASE}-shm"), JOURNAL.to_owned()] {
                let _ = std::fs::remove_file(self.dir.path().join(name));
            }
            for (name, content) in &pressed.files {
                std::fs::write(self.dir.path().join(name), content).map_err(|error| error.to_string())?;
            }
            self.ledger = pressed.ledger.clone();
            self.durable = pressed.ledger;
            (self.ledger.unsteady, self.durable.unsteady) = (!self.steady, !self.steady);
        }
        self.boot += 1;
        self.synchronized = false;
        self.now.wall = self.now.wall + away;
        self.now.elapsed = Elapsed::from_nanos(12_000_000_000);
        self.begin()
    }

    /// The daemon was asked to stop: it must, in time.
    pub(super) fn come_to_an_end(&mut self, patience: Duration, then: Duration) -> Result<(), Broken> {
        self.settle()?;
        if let Some(daemon) = &self.daemon {
            let grace = daemon.engine.rules().jobs.iter().map(|job| job.policy.kill_grace).max().unwrap_or_default();
            if !daemon.stopped {
                // Whether the clock is right is asked each second meanwhile.
                self.pass(patience + grace + Duration::from_secs(1), 8 * HOPS)?;
            }
        }
        let Some(mut daemon) = self.daemon.take() else { return self.begin() };
        if !daemon.stopped {
            return Err("the daemon was asked to stop and did not".into());
        }
        daemon.store.close();
        drop(daemon);
        self.lines.clear();
        self.ledger = self.durable.clone();
        self.forget_unknown();
        self.move_clocks(then);
        self.end_processes();
        self.begin()
    }

    /// A daemon starts on what the one before it left.
    pub(super) fn begin(&mut self) -> Result<(), Broken> {
        // A disk that refuses would keep it from starting at all, which is another story.
        vfs::heal();
        self.end_processes();
        self.say(|| "a daemon starts".into());
        let mut config = self.case.config(self.variant);
        let rules = std::mem::take(&mut config.rules);
        let Opened { mut store, warnings } =
            Store::open(self.dir.path(), config.durability, format!("boot-{}", self.boot)).map_err(|error| error.to_string())?;
        if !warnings.is_empty() {
            return Err(format!("the state can't be opened as it is: {warnings:?}"));
        }
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        let cursor = rules.wait_for_clock.is_none().then_some(self.now.wall);
        let (mut restored, same_boot) = store.restore(self.now, &keys, cursor).map_err(|error| error.to_string())?;
        self.forget_removed(&rules);
        // As of the last commit, which a reload may have followed.
        self.ledger.keep_edges(&rules);
        self.compare(&rules, &restored, same_boot)?;
        for (record, process) in &mut restored.running {
            let RunState::Running(running) = &record.state else { continue };
            let found = self.processes.iter().find(|process| process.run == record.id.0 && process.attempt == record.attempt.0);
            let pid = if same_boot { running.pid.or(found.map(|process| process.pid)) } else { None };
            if let Some(pid) = pid.filter(|pid| found.is_some_and(|process| process.pid == *pid)) {
                *process = RestoredProcess::Alive(pid);
            }
        }
        self.ledger.begin_anew();
        let alive = self.processes.len();
        let mut engine = Engine::new(rules, self.case.seed).map_err(|_| "the dependencies have a cycle".to_owned())?;
        let mut effects = Vec::new();
        engine.start(self.now, restored, &mut effects);
        let daemon = Daemon {
            engine,
            store,
            config,
            held: Held::default(),
            inbox: VecDeque::new(),
            sources: Vec::new(),
            next_config: None,
            stopped: false,
            leaves: false,
            steady_since: None,
        };
        self.daemon = Some(daemon);
        debug_assert_eq!(alive, self.processes.len());
        let begun = self.watch(None, &effects, 0).and_then(|()| self.apply(effects, Vec::new()));
        match begun {
            Ok(()) => {}
            Err(Halt::Died) => self.die(),
            Err(Halt::Broken(broken)) => return Err(broken),
        }
        self.start_sources();
        self.settle()
    }

    /// Runs of jobs that the file no longer has end when the state is read.
    fn forget_removed(&mut self, rules: &firelink::engine::rules::Rules) {
        for (id, run) in &mut self.ledger.runs {
            if !run.state.is_end() && !rules.jobs.iter().any(|job| *job.name == *run.job) {
                run.state = if run.state == StateWord::Running { StateWord::Lost } else { StateWord::Cancelled };
                self.processes.retain(|process| process.run != *id);
            }
        }
        self.durable = self.ledger.clone();
    }

    /// What a start finds must be what was promised.
    fn compare(
        &self,
        rules: &firelink::engine::rules::Rules,
        restored: &firelink::engine::Restored,
        same_boot: bool,
    ) -> Result<(), Broken> {
        let mut running: Vec<u64> = restored.running.iter().map(|(record, _)| record.id.0).collect();
        running.sort_unstable();
        let promised = self.ledger.in_state(StateWord::Running);
        if running != promised {
            return Err(format!("running before: {promised:?}, after a restart: {running:?}"));
        }
        let mut pending: Vec<u64> = restored.jobs.iter().flat_map(|job| &job.pending).map(|record| record.id.0).collect();
        pending.sort_unstable();
        let promised = self.ledger.in_state(StateWord::Pending);
        // Past a job's window they stay in the store.
        let stored: u64 = restored.jobs.iter().map(|job| job.stored).sum();
        let is_kept = |id: &u64| promised.binary_search(id).is_ok();
        if pending.len() as u64 + stored != promised.len() as u64 || !pending.iter().all(is_kept) {
            return Err(format!("pending before: {promised:?}, after a restart: {pending:?}"));
        }
        for (job, known) in rules.jobs.iter().zip(&restored.jobs) {
            if known.paused != self.ledger.paused.contains(&*job.name) {
                return Err(format!("{}: paused after a restart: {}", job.name, known.paused));
            }
            let mut found: Vec<(String, bool)> = known
                .credits
                .iter()
                .map(|(up, outcome)| (rules.jobs[up.index()].name.to_string(), outcome.is_success()))
                .collect();
            // What came of a dependency that there is no more is nobody's.
            found.retain(|(up, _)| job.depends_on.iter().any(|dep| *rules.jobs[dep.index()].name == **up));
            found.sort();
            let promised = self.ledger.news_of(&job.name);
            if found != promised {
                return Err(format!("{}: credits before: {promised:?}, after a restart: {found:?}", job.name));
            }
            for record in &known.pending {
                let Some(run) = self.ledger.runs.get(&record.id.0) else { continue };
                let waits_again = matches!(record.state, RunState::Pending(firelink::engine::Waiting::Retry { .. }));
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

    /// Each job has the source that it should have.
    fn start_sources(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let mut old = std::mem::take(&mut daemon.sources);
        for (index, job) in daemon.config.jobs.iter().enumerate() {
            let rules = &daemon.engine.rules().jobs[index];
            let plugin = rules.trigger == TriggerWord::Plugin;
            if !rules.enabled || !(plugin || rules.trigger == TriggerWord::Watch) {
                continue;
            }
            let trigger = format!("{:?}", job.trigger);
            if let Some(at) = old.iter().position(|source| *source.job == *job.name && source.trigger == trigger) {
                daemon.sources.push(old.swap_remove(at));
                continue;
            }
            let mut source = Source { job: job.name.to_string(), trigger, plugin, ..Source::default() };
            let id = JobId(u32::try_from(index).unwrap_or(0));
            if let (false, Ok(known)) = (plugin, daemon.store.load_seen(id, &format!("/watched/{}", job.name))) {
                source.baseline_done = known.baseline_done;
                source.seen = known.objects.iter().map(|seen| (seen.key.0, seen.version.0)).collect();
            }
            daemon.sources.push(source);
        }
    }
}
