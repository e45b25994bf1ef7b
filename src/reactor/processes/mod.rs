//! The processes of runs and of their hooks: started, watched, read from, signalled, reaped.
//!
//! * `start`: one process until it has executed its program; `starting`: those of runs;
//! * `running`: exits and output of those that have executed their programs;
//! * `hooks`: the commands that follow an attempt or a run;
//! * `logs`, `groups`, `environment`: what a run's processes write into, are limited by, and know;
//! * `sweep`: processes that outlived their run.

mod environment;
mod groups;
mod hooks;
mod logs;
mod running;
mod start;
mod starting;
mod sweep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::host::FollowUp;
use super::io::{HookId, Io};
use crate::config::Job;
use crate::engine::{RunRecord, RunState, Spawn, StopSignal};
use crate::exec::spec::{KillMode, Limits};
use crate::exec::{self, Adopted, EventDelivery, Known, Launch, PendingSpawn};
use crate::files::Dir;
use crate::model::{Attempt, Elapsed, Exit, Pid, RunId, StateWord};
use crate::store::StoreError;
use environment::About;
pub(super) use environment::{Environment, borrowed};
use groups::{RunGroup, RunGroups};
use hooks::{Hooks, Reaped};
use logs::Logs;
use running::{Ended, Running};
pub(super) use start::{AbandonedStarts, Start};
use starting::{Finished, Starting};
use sweep::Sweep;

/// How the process of a run ended.
pub(super) enum RunExit {
    /// With this status.
    Exited {
        exit: Exit,
        /// The kernel killed of its processes because they reached their limit of memory.
        out_of_memory: bool,
    },
    /// It was adopted: nobody knows.
    Unknown,
}

/// Every process that the daemon has started, but for plugins, which are the sources'.
pub(super) struct Processes {
    environment: Environment,
    /// The state directory.
    state: Arc<Dir>,
    starting: Starting,
    running: Running,
    hooks: Hooks,
    logs: Logs,
    groups: RunGroups,
    sweep: Sweep,
    /// Runs whose process has exited and is traced by another, which keeps the exit from the daemon: when that one is killed.
    held: BTreeMap<RunId, Elapsed>,
    /// Processes go on without this daemon.
    leaves: bool,
}

/// How long a tracer may keep the exit of the process that it traces: it usually only reports it.
const TRACER_TIMEOUT: Duration = Duration::from_secs(1);

impl Processes {
    pub fn new(state_dir: PathBuf, start_dir: PathBuf, socket: PathBuf, state: Arc<Dir>) -> Processes {
        Processes {
            environment: Environment { state_dir, start_dir, socket },
            starting: Starting::default(),
            running: Running::default(),
            hooks: Hooks::default(),
            logs: Logs::new(Arc::clone(&state)),
            state,
            groups: RunGroups::default(),
            sweep: Sweep::at_start(),
            held: BTreeMap::new(),
            leaves: false,
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Opens the daemon's control group, if one of these jobs has a use for it.
    pub fn open_groups(&mut self, jobs: &[Job]) {
        self.groups.open_if_needed(jobs);
    }

    /// Why these limits are not kept by a control group; `None` if they are, or need none.
    pub fn why_no_group(&self, limits: &Limits) -> Option<String> {
        self.groups.why_none(limits)
    }

    /// Watches the process of a run that an earlier daemon started, if it is alive, and reads on where that one ended.
    pub fn adopt(&mut self, io: &mut Io, job: &Job, record: &RunRecord, same_boot: bool) -> Option<Pid> {
        let (run, attempt) = (record.id, record.attempt);
        let pid = match &record.state {
            // It may have died before it recorded the process.
            RunState::Running(running) if same_boot => {
                running.pid.or_else(|| self.environment.find(run, attempt, job.exec.user.as_deref()))
            }
            _ => None,
        };
        let adopted = Adopted::open(pid?)?.with_kill_mode(job.exec.kill_mode);
        let reads_on = self.running.adopt(io, run, adopted, self.groups.find(run, attempt)).ok()?;
        let event_file = Some(exec::event_path(&self.state, run)).filter(|path| path.exists());
        self.logs.resume(job, run, event_file, reads_on);
        pid
    }

    /// Ends what earlier daemons left: plugins, and processes of runs that were not adopted.
    pub fn end_leftovers(&mut self, now: Elapsed) {
        let live: Vec<Known> = self.running.alive().collect();
        match exec::kill_leftovers(&[self.environment.state_mark()], &live) {
            Ok(0) => {}
            Ok(count) => log::info!("{count} processes had outlived the daemon that started them, and were killed"),
            Err(error) => log::warn!("processes that an earlier daemon left behind can't be looked for: {error}"),
        }
        self.groups.end_leftovers(self.running.groups());
        if let Some(delay) = self.groups.remove_ended() {
            self.sweep.by(now + delay);
        }
    }

    /// Joins the logs that earlier daemons left in parts; `job_of` as in [`Logs::join_leftovers`].
    pub fn join_logs(&mut self, job_of: impl FnMut(RunId) -> Result<Option<(Box<str>, bool)>, StoreError>) {
        self.logs.join_leftovers(job_of);
    }

    /// Begins to start an attempt; [`Processes::collect_started`] reports whether that works.
    pub fn spawn(&mut self, io: &mut Io, job: &Job, spawn: Box<Spawn>, now: Elapsed) {
        if self.starting.has_queue() || !self.starting.has_room(now) {
            return self.starting.wait_for_room(spawn);
        }
        self.begin(io, job, spawn, now);
    }

    /// Begins to start attempts that had to wait; `job_of` finds a run's job.
    pub fn begin_waiting<'a>(&mut self, io: &mut Io, job_of: impl Fn(RunId) -> Option<&'a Job>, now: Elapsed) {
        while let Some(spawn) = self.starting.next_in_queue(now) {
            match job_of(spawn.run) {
                Some(job) => self.begin(io, job, spawn, now),
                None => self.starting.refused(spawn, None, "its job is gone".into()),
            }
        }
    }

    fn begin(&mut self, io: &mut Io, job: &Job, spawn: Box<Spawn>, now: Elapsed) {
        match self.launch(job, &spawn) {
            Ok((begun, group)) => self.starting.add(io, spawn, begun, group, now),
            Err((reason, group)) => self.starting.refused(spawn, group, reason),
        }
    }

    /// The error is a sentence for a person, with the control group that was made.
    fn launch(&mut self, job: &Job, spawn: &Spawn) -> Result<(PendingSpawn, Option<RunGroup>), (String, Option<RunGroup>)> {
        let event_file = self.event_file(job, spawn).map_err(|reason| (reason, None))?;
        let mut vars = self.environment.run_vars(job, &About::of_spawn(spawn), event_file.as_deref());
        if let (KillMode::Main, Some(word)) = (job.exec.kill_mode, self.sweep.leave_word()) {
            vars.push((exec::LEAVE.to_owned(), word.into()));
        }
        let files = self.logs.of_attempt(job, spawn.run, spawn.attempt);
        if event_file.is_some() {
            files.event_file = event_file;
        }
        if spawn.attempt > Attempt(1) {
            files.sink.begin_attempt(spawn.attempt);
        }
        let group = self.groups.make(&job.exec, spawn);
        let group = group.map_err(|error| (format!("its control group can't be made: {error}"), None))?;
        let vars = borrowed(&vars);
        let launch = Launch {
            action: &job.action,
            exec: &job.exec,
            start_dir: &self.environment.start_dir,
            vars: &vars,
            cgroup: group.as_ref().map(|group| (group.group.directory(), &group.rest)),
        };
        match exec::begin(&launch) {
            Ok(begun) => Ok((begun.with_kill_mode(job.exec.kill_mode), group)),
            Err(error) => Err((error.to_string(), group)),
        }
    }

    /// The file of a payload that is too large for the environment.
    fn event_file(&self, job: &Job, spawn: &Spawn) -> Result<Option<PathBuf>, String> {
        let Some(event) = spawn.event.as_deref() else { return Ok(None) };
        match exec::deliver_event(event, &self.state, spawn.run, &job.exec) {
            Ok(EventDelivery::File(path)) => Ok(Some(path)),
            Ok(EventDelivery::Inline) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// There is progress with the start of a run's process.
    pub fn start_ready(&mut self, io: &mut Io, run: RunId) {
        self.starting.ready(io, run);
    }

    /// Watches the processes that have executed their programs since the last call. Each comes with its process or, as a
    /// sentence for a person, why it has none.
    pub fn collect_started(&mut self, io: &mut Io) -> Vec<(Box<Spawn>, Result<Pid, String>)> {
        let finished = self.starting.take_finished();
        finished.into_iter().map(|finished| self.watch_started(io, finished)).collect()
    }

    fn watch_started(&mut self, io: &mut Io, finished: Finished) -> (Box<Spawn>, Result<Pid, String>) {
        let Finished { spawn, mut group, result } = finished;
        let started = result.and_then(|child| {
            let watched = self.running.add(io, spawn.run, child, &mut group);
            watched.map_err(|error| format!("its process can't be watched: {error}"))
        });
        if started.is_err() {
            group.map(|group| self.groups.end(group));
        }
        (spawn, started)
    }

    /// True while attempts are about to start.
    pub fn is_starting(&self) -> bool {
        self.starting.is_active()
    }

    /// The daemon is to stop: what has not started soon does not start.
    pub fn hurry_starts(&mut self, now: Elapsed) {
        self.starting.hurry(now);
    }

    pub fn signal(&mut self, run: RunId, signal: StopSignal, now: Elapsed) {
        if !self.starting.signal(run, signal, now) {
            self.running.signal(run, signal, now);
        }
    }

    /// True if what still runs was sent SIGKILL and does not die of it.
    pub fn only_unkillable(&self) -> bool {
        self.running.are_unkillable() && !self.starting.is_active()
    }

    pub fn hook_start_ready(&mut self, io: &mut Io, hook: HookId) {
        if let Some((run, success)) = self.hooks.start_ready(hook, io) {
            self.logs.finish(run, success);
        }
    }

    /// The pipe of a run has something.
    pub fn output_ready(&mut self, run: RunId) {
        self.running.output_ready(run);
    }

    /// The pipe of a run is empty, and everybody has closed the other end.
    pub fn output_ended(&mut self, io: &mut Io, run: RunId) {
        self.running.output_ended(io, run);
    }

    pub fn hook_output_ready(&mut self, hook: HookId) {
        self.hooks.output_ready(hook);
    }

    /// True if something can be done without any wait.
    pub fn is_busy(&self) -> bool {
        self.starting.has_finished() || self.running.has_output() || self.hooks.has_output()
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        let all = [self.hooks.next_deadline(), self.sweep.due(), self.starting.next_wake(), self.running.next_report()];
        all.into_iter().flatten().chain(self.held.values().copied()).min()
    }

    /// Reads what was written, and kills hooks whose time is up.
    pub fn pump(&mut self, io: &mut Io, now: Elapsed) {
        self.running.pump(io, &mut self.logs);
        self.hooks.pump(io, &mut self.logs);
        for (run, success) in self.hooks.kill_overdue(io, now) {
            self.logs.finish(run, success);
        }
        self.starting.give_up_overdue(io, now);
        self.running.report_unkillable(now);
        self.trim_if_idle();
    }

    /// The process of a run may have ended: if so, what is left in its pipe is read and everything of it released.
    pub fn reap(&mut self, io: &mut Io, run: RunId, now: Elapsed) -> Option<RunExit> {
        let Some(Ended { process, kill_mode, exit }) = self.running.exit_of(run) else {
            if self.running.is_held_by_tracer(run) {
                self.held.entry(run).or_insert(now + TRACER_TIMEOUT);
            }
            return None;
        };
        self.held.remove(&run);
        self.sweep.ended(process, kill_mode);
        // Before the last look at the pipe, which its remaining processes may hold open.
        let group = self.running.take_group(run);
        let out_of_memory = group.is_some_and(|group| self.groups.end(group));
        self.running.release(io, &mut self.logs, run);
        self.trim_if_idle();
        self.sweep.by(now);
        Some(exit.map_or(RunExit::Unknown, |exit| RunExit::Exited { exit, out_of_memory }))
    }

    /// The process of a hook may have ended; its run's log is finished with the run's last hook.
    pub fn reap_hook(&mut self, io: &mut Io, hook: HookId) {
        if let Some(Reaped { process, finishes }) = self.hooks.reap(hook, io, &mut self.logs) {
            if let Some((run, success)) = finishes {
                self.logs.finish(run, success);
            }
            self.sweep.ended(process, KillMode::Run);
        }
        self.trim_if_idle();
    }

    /// A child has ended of which SIGCHLD alone reports it: these runs and hooks may be it.
    pub fn without_pidfd(&mut self, now: Elapsed) -> (Vec<RunId>, Vec<HookId>) {
        self.sweep.by(now);
        // The pidfd of a traced process need not report that its tracer is gone.
        let runs = self.running.without_pidfd().into_iter().chain(self.held.keys().copied());
        (runs.collect(), self.hooks.without_pidfd())
    }

    /// Starts the hook that follows, if the job has one; else the log of a run that ended is finished.
    pub fn follow_up(&mut self, io: &mut Io, job: &Job, follow_up: &FollowUp<'_>, now: Elapsed) {
        let hook_runs = self.hooks.start(io, &self.environment, &mut self.logs, job, follow_up, now);
        if let (FollowUp::Ended(ended), false) = (follow_up, hook_runs) {
            self.logs.finish_left(job, ended.row.id);
            self.logs.finish(ended.row.id, ended.row.state == StateWord::Succeeded);
        }
    }

    /// Reaps what has ended, and looks for processes that outlived their runs; `others` are none of them.
    pub fn after_acts(&mut self, now: Elapsed, others: impl Iterator<Item = Known>) {
        self.running.reap_exited();
        for (run, at) in self.held.iter_mut().filter(|(_, at)| **at <= now) {
            self.running.kill_tracer(*run);
            // There may be another.
            *at = now + TRACER_TIMEOUT;
        }
        if !self.sweep.begin(now) {
            return;
        }
        if let Some(delay) = self.groups.remove_ended() {
            self.sweep.by(now + delay);
        }
        let known: Vec<Known> = self.known().chain(others).collect();
        self.sweep.kill_escaped(now, &known, self.groups.opened());
    }

    /// All processes but those of plugins and the helper; one that starts would look like an orphan.
    fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.starting.known().chain(self.running.known()).chain(self.hooks.known())
    }

    /// Everything else has ended: hooks must, soon.
    pub fn hurry_hooks(&mut self, now: Elapsed) {
        self.hooks.hurry(now);
    }

    pub fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Stops watching every run's process: they go on, and the next daemon finds them. Of those whose runs are over, what can be
    /// told from theirs and from `others` is killed.
    pub fn leave(&mut self, now: Elapsed, others: impl Iterator<Item = Known>) {
        let known: Vec<Known> = self.known().chain(others).collect();
        self.sweep.kill_escaped(now, &known, self.groups.opened());
        self.leaves = true;
        self.running.leave();
    }

    /// The daemon ends: kills what has outlived its runs, unless processes go on without it; `others` end by themselves.
    pub fn close(&mut self, others: &[Known]) {
        if !self.leaves {
            self.sweep.end_all(others, self.groups.opened());
        }
    }

    /// The variable for the program that this daemon becomes, by which that one knows the orphans.
    pub fn handed_on(&self) -> Option<(&'static str, String)> {
        self.sweep.handed_on()
    }

    /// The buffer is only needed while something is read.
    fn trim_if_idle(&mut self) {
        if self.running.is_empty() && !self.starting.is_active() {
            self.logs.trim();
            exec::trim();
        }
    }
}
