//! Requests of the control socket and their answers.

use super::clocks::Clocks;
use super::io::PeerId;
use super::{Reactor, Ticket, WaitFor, Waiter};
use crate::control::commands::{cancel, logs, pause, retry, status};
use crate::control::protocol::{ErrorCode, Reply, Request};
use crate::engine::{self, Event, JobState};
use crate::model::{JobId, Now, RunId, StateWord};
use crate::store::{StoredRun, log_path};

impl<C: Clocks> Reactor<C> {
    pub(super) fn answer(&mut self, peer: PeerId, request: Request) {
        let reply = match request {
            Request::Status(request) => self.status(&request),
            Request::Job(request) => self.whole_job(&request),
            Request::Graph(_) => Ok(self.graph()),
            Request::Health(_) => Ok(self.health()),
            Request::Trigger(request) => match self.find_job(&request.job) {
                Ok(job) if self.is_retired(job.index()) => Err(Reply::failed(
                    ErrorCode::NotFound,
                    format!("`{}` was removed from the configuration; what runs of it is seen to its end", request.job),
                )),
                Ok(job) if !self.engine.rules().jobs[job.index()].enabled && !request.force => Err(Reply::failed(
                    ErrorCode::Refused,
                    format!("`{}` is disabled in the configuration; --force runs it all the same", request.job),
                )),
                Ok(_) if self.engine.is_stopping() => Err(Reply::failed(ErrorCode::Refused, "the daemon is stopping")),
                Ok(job) => {
                    let ticket = self.next_ticket;
                    self.next_ticket += 1;
                    self.tickets.insert(ticket, Ticket { peer, wait: request.wait });
                    let ask = engine::Request::Trigger { job, force: request.force, with_deps: request.with_deps, ticket };
                    self.inbox.push_back(Event::Ask(ask));
                    return;
                }
                Err(reply) => Err(reply),
            },
            Request::Retry(request) => match self.retry(peer, &request) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Request::Cancel(request) => self.cancel(request.run),
            Request::Logs(request) => match self.logs(&request) {
                Ok(answer) if request.wait && !answer.run.state.is_end() => {
                    if let Some(run) = answer.run.id {
                        self.waiters.push(Waiter { peer, what: WaitFor::Logs(run) });
                    }
                    return;
                }
                answer => answer.map(|answer| Reply::done(&answer)),
            },
            Request::Events(_) => {
                self.peers.follow(peer);
                return;
            }
            Request::Pause(request) => self.pause(&request, true),
            Request::Resume(request) => self.pause(&request, false),
            Request::Reload(request) => return self.ask_reload(peer, &request),
            Request::Stop(request) => {
                self.waiters.push(Waiter { peer, what: WaitFor::Stop });
                if request.now {
                    log::info!("asked to stop now: running jobs are killed");
                    self.stop_now();
                } else if !self.engine.is_stopping() {
                    self.stop("asked to");
                }
                return;
            }
        };
        let reply = reply.unwrap_or_else(|refusal| refusal);
        self.peers.reply(peer, &reply, self.now.elapsed, &mut self.io);
    }

    pub(super) fn find_job(&self, name: &str) -> Result<JobId, Reply> {
        let found = (0..).zip(&self.config.jobs).find(|(_, job)| &*job.name == name);
        found.map(|(index, _)| JobId(index)).ok_or_else(|| {
            let hint = crate::model::nearest(name, self.config.jobs.iter().map(|job| &*job.name))
                .map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            Reply::failed(ErrorCode::NotFound, format!("there is no job `{name}`{hint}"))
        })
    }

    fn status(&mut self, request: &status::Request) -> Result<Reply, Reply> {
        let only = request.job.as_deref().map(|name| self.find_job(name)).transpose()?;
        let jobs: Vec<JobId> = match only {
            Some(job) => vec![job],
            None => (0..).take(self.config.jobs.len()).map(JobId).collect(),
        };
        let unreadable = |error: crate::store::StoreError| Reply::failed(ErrorCode::Refused, error.to_string());
        let mut last = match only {
            Some(job) => self.store.last_run(job).map_err(unreadable)?.map(|run| (job, run)).into_iter().collect(),
            // A disk that can't be read must not take away the view of what runs.
            None => self.store.last_runs().unwrap_or_default(),
        };
        let now = self.clocks.now();
        let shown = jobs.iter().map(|job| self.job_status(*job, now, last.remove(job)));
        let shown: Vec<status::Job> = shown.collect();
        let active = self.engine.active().into_iter().filter(|run| only.is_none_or(|job| run.job == job));
        let answer = status::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: self.config.zone.rfc3339(self.started.wall),
            config: self.config.path.display().to_string(),
            jobs: shown,
            active: active.map(|record| self.show(&StoredRun::from(record), record.job)).collect(),
            warnings: self.all_warnings(&jobs),
            state_error: self.store.trouble().map(str::to_owned),
            notify: if only.is_none() { self.callers.status(self.config.zone) } else { Vec::new() },
        };
        Ok(Reply::done(&answer))
    }

    /// One job, with its newest run as the store has it.
    pub(super) fn job_status(&self, job: JobId, now: Now, last: Option<StoredRun>) -> status::Job {
        let rules = &self.engine.rules().jobs[job.index()];
        let view = self.engine.view(now, job);
        status::Job {
            name: rules.name.to_string(),
            trigger: rules.trigger,
            enabled: rules.enabled,
            paused: view.paused,
            state: job_word(view.state),
            next_at: view.next_at.map(|at| self.config.jobs[job.index()].zone.rfc3339(at)),
            last_run: last.map(|run| self.current(run, job)),
            waiting_for: view.waiting_for,
        }
    }

    /// The store may lag behind memory, while the disk refuses or `commit_every` gathers.
    pub(super) fn current(&self, stored: StoredRun, job: JobId) -> crate::model::RunView {
        let newer = self.engine.run(stored.id).map(StoredRun::from);
        self.show(&newer.unwrap_or(stored), job)
    }

    pub(super) fn all_warnings(&self, jobs: &[JobId]) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.store.trouble().map(|trouble| format!("state: {trouble}")));
        warnings.extend(self.sync_trouble.clone());
        if self.engine.is_waiting_for_clock() {
            warnings.push("the clock is not synchronized yet: wall deadlines wait for it (wait_for_clock)".into());
        }
        warnings.extend(self.window.trouble());
        warnings.extend(self.metrics.trouble());
        warnings.extend(self.watches.warnings());
        let unkept = |job: &JobId| {
            let job = &self.config.jobs[job.index()];
            Some((&job.name, self.children.why_no_group(&job.exec.limits)?))
        };
        if let Some((name, why)) = jobs.iter().find_map(unkept) {
            warnings.push(format!(
                "{name}: `limits` are kept by rlimits: `memory` bounds the address space of each process, `pids` all processes of \
                 the job's user ({why})"
            ));
        }
        for job in jobs {
            let stored = self.engine.stored(*job);
            if stored > 0 {
                warnings.push(format!("{}: {stored} more runs wait in the store", self.config.jobs[job.index()].name));
            }
        }
        warnings
    }

    /// Makes a new run of what did not succeed, and of what was skipped because of it if that is asked for. A person
    /// wants it now: only the runs downstream wait, for the success of the first.
    fn retry(&mut self, peer: PeerId, request: &retry::Request) -> Result<(), Reply> {
        let refused = |text: String| Reply::failed(ErrorCode::Refused, text);
        let unreadable = |error: crate::store::StoreError| refused(error.to_string());
        if self.engine.is_stopping() {
            return Err(refused("the daemon is stopping".into()));
        }
        let run = request.run;
        if self.engine.run(run).is_some() {
            return Err(refused(format!("run {run} has not ended yet")));
        }
        let missing = || Reply::failed(ErrorCode::NotFound, format!("there is no run {run}"));
        let row = self.store.run(run).map_err(unreadable)?.ok_or_else(missing)?;
        if row.state == StateWord::Succeeded {
            return Err(refused(format!("run {run} has succeeded; `ctl trigger` makes a new one")));
        }
        let gone = || Reply::failed(ErrorCode::NotFound, format!("the job of run {run} is not in the configuration any more"));
        let job = self.store.job_of(row.job_row).ok_or_else(gone)?;
        let skipped = match row.ended_at {
            Some(at) if request.downstream => {
                let reason = format!("upstream {} {}", self.config.jobs[job.index()].name, row.state);
                self.store.skipped_because(at, &reason).map_err(unreadable)?
            }
            _ => Vec::new(),
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, Ticket { peer, wait: request.wait });
        let first = std::iter::once((job, row, true));
        let behind = skipped.into_iter().filter_map(|row| Some((self.store.job_of(row.job_row)?, row, false)));
        for (job, row, force) in first.chain(behind) {
            let ticket = force.then_some(ticket);
            let (trigger, event, scheduled_at) = (row.trigger, row.event, row.scheduled_at);
            let ask = engine::Request::Repeat { job, trigger, event, scheduled_at, force, ticket };
            self.inbox.push_back(Event::Ask(ask));
        }
        Ok(())
    }

    fn cancel(&mut self, run: RunId) -> Result<Reply, Reply> {
        match self.view(run, &[]) {
            None => Err(Reply::failed(ErrorCode::NotFound, format!("there is no run {run}"))),
            Some(view) if view.state.is_end() => {
                Err(Reply::failed(ErrorCode::Refused, format!("run {run} has already {}", ended_word(&view))))
            }
            Some(view) if self.engine.run(run).is_none() => Err(Reply::failed(
                ErrorCode::Refused,
                format!(
                    "run {run} of {} waits in the store behind a thousand others; it can be cancelled once it is near its turn",
                    view.job
                ),
            )),
            Some(view) => {
                self.inbox.push_back(Event::Ask(engine::Request::Cancel(run)));
                Ok(Reply::done(&cancel::Cancelled { run: view }))
            }
        }
    }

    fn logs(&mut self, request: &logs::Request) -> Result<logs::Logs, Reply> {
        let run = match self.find_job(&request.of) {
            Ok(job) => {
                let found = self.store.last_run(job).map_err(|error| Reply::failed(ErrorCode::Refused, error.to_string()))?;
                found.map(|stored| self.current(stored, job))
            }
            Err(unknown) => match request.of.parse().ok().map(RunId) {
                Some(run) => self.view(run, &[]),
                None => return Err(unknown),
            },
        };
        let run = run.ok_or_else(|| Reply::failed(ErrorCode::NotFound, format!("there is no run of `{}` yet", request.of)))?;
        let path = run.id.map(|id| log_path(&self.state_dir, &run.job, id).display().to_string()).unwrap_or_default();
        Ok(logs::Logs { run, path })
    }

    fn pause(&mut self, request: &pause::Request, paused: bool) -> Result<Reply, Reply> {
        let job = request.job.as_deref().map(|name| self.find_job(name)).transpose()?;
        let held = |job: JobId| self.engine.view(self.now, job).paused;
        let all = (0..).take(self.config.jobs.len()).map(JobId);
        // As it will be once the engine has heard of it, later in this turn.
        let count = all.filter(|id| if job.is_none_or(|job| job == *id) { paused } else { held(*id) }).count();
        let ask = if paused { engine::Request::Pause(job) } else { engine::Request::Resume(job) };
        self.inbox.push_back(Event::Ask(ask));
        Ok(Reply::done(&pause::Paused { paused: count }))
    }
}

pub(super) const fn job_word(state: JobState) -> status::JobWord {
    match state {
        JobState::Idle => status::JobWord::Idle,
        JobState::Pending => status::JobWord::Pending,
        JobState::Running => status::JobWord::Running,
    }
}

fn ended_word(view: &crate::model::RunView) -> String {
    match view.state {
        crate::model::StateWord::TimedOut => "timed out".into(),
        crate::model::StateWord::Lost => "been lost".into(),
        crate::model::StateWord::Cancelled => "been cancelled".into(),
        crate::model::StateWord::Skipped => "been skipped".into(),
        other => other.to_string(),
    }
}
