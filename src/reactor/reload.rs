//! A new configuration while the daemon runs, and the daemon's own replacement.
//!
//! The new file is read and checked whole before anything is touched. Then everything that is on its way is settled
//! under the old list of jobs, because a job's number means its place in that list; the engine goes on by the new rules;
//! and the sources of jobs whose trigger is the same are handed over as they are.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clocks::Clocks;
use super::io::PeerId;
use super::watches::{Owner, Surroundings as Around};
use super::{Reactor, WaitFor, Waiter, memory, service};
use crate::config::{Config, Job, Refused, load};
use crate::control::commands::events::What;
use crate::control::commands::reload::{Reloaded, Request, summary};
use crate::control::protocol::{ErrorCode, Reply};
use crate::engine::rules::{JobRules, Rules};
use crate::engine::{self, Event};
use crate::model::{JobId, TriggerWord};
use crate::store::JobKey;

/// Turns of effects that may follow each other before the rest of a reload waits for the next readiness.
const SETTLING: usize = 64;

impl<C: Clocks> Reactor<C> {
    /// A peer asks.
    pub(super) fn ask_reload(&mut self, peer: PeerId, request: &Request) {
        let answer = match self.read_again() {
            Err(refusal) => refusal,
            Ok(config) if request.exec => match self.prepare_exec() {
                Ok(()) => {
                    self.exec_answer = Some(Reply::done(&self.compare(&config)));
                    self.waiters.push(Waiter { peer, what: WaitFor::Stop });
                    self.service.notify.reloading();
                    log::info!("asked to replace itself: what runs goes on");
                    self.tell_of_itself(What::Stopping, "asked to replace itself");
                    self.replace = true;
                    self.inbox.push_back(Event::Ask(engine::Request::Leave));
                    return;
                }
                Err(why) => Reply::failed(ErrorCode::Refused, why),
            },
            Ok(config) if request.dry_run => Reply::done(&self.compare(&config)),
            Ok(config) => {
                self.service.notify.reloading();
                self.take_over_next(config, Some(peer));
                return;
            }
        };
        self.peers.reply(peer, &answer, self.now.elapsed, &mut self.io);
    }

    /// SIGHUP.
    pub(super) fn hang_up(&mut self) {
        log::info!("SIGHUP: reading {} again", self.config.path.display());
        self.service.notify.reloading();
        match self.read_again() {
            Ok(config) => self.take_over_next(config, None),
            Err(refusal) => {
                if let Reply::Failed { error, .. } = refusal {
                    error.lines().for_each(|line| log::error!("{line}"));
                }
                self.tell_ready();
            }
        }
    }

    /// At the end of the turn. What was read before in this turn is outdated, but who asked for that still waits.
    fn take_over_next(&mut self, config: Config, peer: Option<PeerId>) {
        let mut waiting = self.next_config.take().map_or_else(Vec::new, |(_, waiting)| waiting);
        waiting.extend(peer);
        self.next_config = Some((Box::new(config), waiting));
    }

    /// The file as it is now, checked.
    fn read_again(&self) -> Result<Config, Reply> {
        if self.engine.is_stopping() {
            return Err(Reply::failed(ErrorCode::Refused, "the daemon is stopping"));
        }
        load(&self.config.path, &self.surroundings).map_err(|Refused(diagnostics)| {
            let all: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.rendered.as_str()).collect();
            let text = format!("{}\n\nthe configuration is wrong; nothing was changed", all.join("\n\n"));
            Reply::failed(ErrorCode::Invalid, text)
        })
    }

    /// What another configuration would change.
    fn compare(&self, next: &Config) -> Reloaded {
        let old: HashMap<&str, usize> = self.config.jobs.iter().enumerate().map(|(index, job)| (&*job.name, index)).collect();
        let mut answer = Reloaded::default();
        for (job, rules) in next.jobs.iter().zip(&next.rules.jobs) {
            let name = job.name.to_string();
            match old.get(&*job.name).filter(|index| !self.is_retired(**index)) {
                None => answer.added.push(name),
                Some(index) => {
                    let (was, names) = (self.engine.rules(), upstream_names(self.engine.rules(), *index));
                    let mut like = was.jobs[*index].clone();
                    like.depends_on = rules.depends_on.clone();
                    let deps: Vec<&str> = rules.depends_on.iter().map(|dep| &*next.rules.jobs[dep.index()].name).collect();
                    if like == *rules && names == deps && self.config.jobs[*index] == *job {
                        answer.unchanged += 1;
                    } else {
                        answer.changed.push(name);
                    }
                }
            }
        }
        let kept: HashSet<&str> = next.jobs.iter().map(|job| &*job.name).collect();
        let gone =
            self.config.jobs.iter().enumerate().filter(|(index, job)| !kept.contains(&*job.name) && !self.is_retired(*index));
        answer.removed = gone.map(|(_, job)| job.name.to_string()).collect();
        if next.state_dir != self.config.state_dir {
            answer.warnings.push("`state_dir` is another now; it takes effect at the next start".into());
        }
        if next.rules.wait_for_clock != self.wait_for_clock {
            answer.warnings.push("`wait_for_clock` is about the start; it takes effect at the next one".into());
        }
        answer.warnings.extend(next.warnings.iter().map(|warning| warning.message.clone()));
        answer
    }

    /// True for a job that an earlier reload removed while it ran.
    pub(super) fn is_retired(&self, index: usize) -> bool {
        index >= self.configured
    }

    /// Does what was asked for, at the end of a turn.
    pub(super) fn reload_if_asked(&mut self) {
        let Some((config, waiting)) = self.next_config.take() else { return };
        for _ in 0..SETTLING {
            self.settle(true);
            if self.inbox.is_empty() {
                break;
            }
            let mut effects = Vec::new();
            for event in std::mem::take(&mut self.inbox) {
                self.engine.handle(self.now, event, &mut effects);
            }
            self.apply(effects, Vec::new());
        }
        if !self.inbox.is_empty() || self.children.are_coming_up() {
            self.next_config = Some((config, waiting));
            return;
        }
        let answer = self.reload(*config);
        match &answer {
            Ok(done) => {
                log::info!("reloaded: {}", summary(done));
                self.tell_of_itself(What::Reloaded, &summary(done));
                done.warnings.iter().for_each(|warning| log::warn!("{warning}"));
            }
            Err(why) => log::error!("the configuration was not reloaded: {why}"),
        }
        self.tell_ready();
        let reply = answer.map_or_else(|why| Reply::failed(ErrorCode::Refused, why), |done| Reply::done(&done));
        for peer in waiting {
            self.peers.reply(peer, &reply, self.now.elapsed, &mut self.io);
        }
    }

    fn reload(&mut self, mut next: Config) -> Result<Reloaded, String> {
        if self.engine.is_stopping() {
            return Err("the daemon is stopping".into());
        }
        // A job's number in what is not written yet means its place in the old list.
        self.commit_held();
        if let Some(trouble) = self.store.trouble() {
            return Err(format!("the state can't be written: {trouble}"));
        }
        let answer = self.compare(&next);
        let kept: HashSet<Arc<str>> = next.jobs.iter().map(|job| Arc::clone(&job.name)).collect();
        let gone: Vec<JobId> =
            (0..).zip(&self.config.jobs).filter(|(_, job)| !kept.contains(&job.name)).map(|(i, _)| JobId(i)).collect();
        let mut effects = Vec::new();
        self.engine.retire(self.now, &gone, &mut effects);
        self.apply(effects, Vec::new());

        let mut rules = std::mem::take(&mut next.rules);
        let (configured, wait_for_clock) = (rules.jobs.len(), rules.wait_for_clock);
        let retired = self.engine.to_retire(&rules);
        rules.jobs.extend(retired.iter().map(|job| self.engine.rules().jobs[job.index()].retired()));
        let keys: Vec<JobKey> = rules.jobs.iter().map(JobKey::from).collect();
        self.store.set_jobs(&keys).map_err(|error| error.to_string())?;
        let mut effects = Vec::new();
        self.engine.reload(self.now, rules, &mut effects).map_err(|_| "the dependencies have a cycle".to_owned())?;

        let mut old: Vec<Option<Job>> = std::mem::take(&mut self.config.jobs).into_iter().map(Some).collect();
        self.hand_over_sources(&old, &next);
        next.jobs.extend(retired.iter().filter_map(|job| old[job.index()].take()));
        let ids: HashMap<&str, JobId> = next.jobs.iter().zip(0..).map(|(job, index)| (&*job.name, JobId(index))).collect();
        let still = |job: JobId| old.get(job.index())?.as_ref().and_then(|job| ids.get(&*job.name)).copied();
        self.pruning.renumber(still);
        if next.durability != self.config.durability
            && let Err(error) = self.store.set_durability(next.durability)
        {
            log::warn!("{error}");
        }
        next.path = std::mem::take(&mut self.config.path);
        self.config = next;
        (self.configured, self.wait_for_clock) = (configured, wait_for_clock);
        self.set_up_callers();
        self.children.look_for_groups(&self.config.jobs);
        self.set_up_metrics();
        self.apply(effects, Vec::new());
        self.look_for_gone_jobs();
        self.start_missing_sources();
        self.open_window();
        drop(old);
        memory::give_back();
        Ok(answer)
    }

    /// Sources whose trigger is the same go on under the job's new number; the others end.
    fn hand_over_sources(&mut self, old: &[Option<Job>], next: &Config) {
        let new_ids: HashMap<&str, u32> = next.jobs.iter().zip(0..).map(|(job, index)| (&*job.name, index)).collect();
        let keep = |was: &Owner| {
            let job = old.get(was.job.index())?.as_ref()?;
            let id = *new_ids.get(&*job.name)?;
            let (now, rules) = (&next.jobs[id as usize], &self.engine.rules().jobs[id as usize]);
            // A plugin lives in the surroundings of its job.
            let surroundings = rules.trigger != TriggerWord::Plugin || job.exec == now.exec;
            let same = *job.trigger == *now.trigger && surroundings;
            (same && rules.enabled).then(|| owner(JobId(id), now, rules))
        };
        let mut around = Around {
            now: self.now,
            io: &mut self.io,
            bridge: &mut self.bridge,
            store: &mut self.store,
            children: &self.children,
            engine: &self.engine,
            metrics: &mut self.metrics,
        };
        self.watches.keep(keep, &mut around);
    }

    /// What is needed for the daemon to replace itself.
    fn prepare_exec(&self) -> Result<(), String> {
        let program = self.program.as_deref().ok_or("the daemon does not know its own program's path")?;
        nix::unistd::access(program, nix::unistd::AccessFlags::X_OK)
            .map_err(|error| format!("{} can't be executed: {error}", program.display()))
    }
}

/// What a job's source is told of the job.
pub(super) fn owner(id: JobId, job: &Job, rules: &JobRules) -> Owner {
    let (name, exec) = (Arc::clone(&job.name), Arc::clone(&job.exec));
    Owner { job: id, name, trigger: rules.trigger, exec, kill_grace: rules.policy.kill_grace }
}

fn upstream_names(rules: &Rules, index: usize) -> Vec<&str> {
    rules.jobs[index].depends_on.iter().map(|dep| &*rules.jobs[dep.index()].name).collect()
}

/// The path of the running program, as it is named now: an upgrade puts a newer one there.
#[must_use]
pub fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// The option that a daemon which has detached hands on instead of `--detach`: it has its session, and its pid stays.
pub const DETACHED: &str = "--detached";

/// Becomes this program, with the arguments with which the daemon was called. Returns only if that fails.
#[must_use]
pub fn exec(program: &Path) -> std::io::Error {
    let nul = |_| std::io::Error::other("an argument contains a NUL byte");
    service::pass_on();
    let called = std::env::args_os().map(|arg| if arg == "--detach" { DETACHED.into() } else { arg });
    let args: Result<Vec<CString>, _> = called.map(|arg| CString::new(arg.as_bytes()).map_err(nul)).collect();
    match (CString::new(program.as_os_str().as_bytes()).map_err(nul), args) {
        (Ok(path), Ok(args)) => match nix::unistd::execv(&path, &args) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        (Err(error), _) | (_, Err(error)) => error,
    }
}
