//! The daemon's host: processes, sources, observers and peers as the kernel has them.

use std::convert::Infallible;

use nix::sys::signal::Signal;

use super::bridge::{Bridge, OBSERVERS};
use super::clocks::Clocks;
use super::core::Core;
use super::front::{Asker, Command, Front};
use super::helper::{self, Delivery, Helper};
use super::host::{EndedRun, FollowUp, FoundBatch, Host};
use super::io::{Io, PeerId};
use super::ledger::{Acts, Copied, StateCopy, Written};
use super::lifecycle::Lifecycle;
use super::memory;
use super::mounts::Mounts;
use super::observers::{Context, Observers, Report};
use super::processes::{Processes, RunExit};
use super::sources::{CountPolls, SourceContext, Sources};
use super::view::View;
use crate::config::{Config, Job, OnStop};
use crate::control::commands::events::What;
use crate::control::commands::reload::{self, Reloaded, summary};
use crate::control::protocol::{ErrorCode, Reply, Request};
use crate::engine::{self, Event, Notice, RunRecord, Spawn, StopSignal};
use crate::exec::Known;
use crate::helper::{Answer, Request as FilesRequest, Response, no_answer};
use crate::model::{Elapsed, JobId, Pid, RunId, format_size};
use crate::triggers::{AskId, Readiness};

/// The parts of the daemon that touch the kernel; each owns what it needs, and this connects them.
pub(super) struct KernelHost<C> {
    pub clocks: C,
    pub io: Io,
    pub bridge: Bridge,
    pub processes: Processes,
    pub sources: Sources,
    pub front: Front,
    pub observers: Observers,
    pub helper: Helper,
    pub lifecycle: Lifecycle,
    /// Watched once something follows it; an error is not met twice.
    pub mounts: Option<std::io::Result<Mounts>>,
    /// Nothing runs any more, and what is written last is on its way.
    pub is_closing: bool,
}

impl<C: Clocks> KernelHost<C> {
    /// Sources, and what their calls may touch.
    fn sources<'a>(&'a mut self, core: &'a mut Core) -> (&'a mut Sources, SourceContext<'a>) {
        let cx = SourceContext {
            now: core.now,
            io: &mut self.io,
            bridge: &mut self.bridge,
            store: core.ledger.store(),
            engine: &core.engine,
            config: &core.config,
            environment: self.processes.environment(),
            polls: &mut self.observers,
            helper: &mut self.helper,
        };
        (&mut self.sources, cx)
    }

    /// Observers, and what they may look at.
    fn observers<'a>(&'a mut self, core: &'a mut Core) -> (&'a mut Observers, Context<'a>) {
        let KernelHost { clocks, bridge, processes, sources, observers, helper, lifecycle, .. } = self;
        let view = View { clocks, processes, sources, lifecycle };
        (observers, Context { core, bridge, helper, view, troubles: 0 })
    }

    pub fn call_source(&mut self, core: &mut Core, source: u32, what: Readiness) {
        let (sources, mut cx) = self.sources(core);
        sources.ready(source, what, &mut cx);
    }

    pub fn source_start_ready(&mut self, core: &mut Core, source: u32) {
        let (sources, mut cx) = self.sources(core);
        sources.start_ready(source, &mut cx);
    }

    pub fn reap_source(&mut self, core: &mut Core, source: u32) {
        let (sources, mut cx) = self.sources(core);
        sources.reap(source, &mut cx);
    }

    /// What the helper process answers.
    fn ask_helper(&mut self, core: &mut Core) {
        let deliveries = self.helper.pump(&mut self.io, core.now.elapsed);
        deliveries.into_iter().for_each(|delivery| self.deliver(core, delivery));
    }

    fn deliver(&mut self, core: &mut Core, Delivery { asker, number, response }: Delivery) {
        match asker {
            helper::Asker::Source(source) => {
                self.call_source(core, source, Readiness::Files { ask: AskId(number), response });
            }
            #[cfg(feature = "metrics")]
            helper::Asker::Metrics => {
                let (observers, mut cx) = self.observers(core);
                observers.files(number, response, &mut cx);
            }
            helper::Asker::Copy => {
                if let Some(copied) = copied(response) {
                    core.ledger.copied(core.now.elapsed, &core.config, copied);
                }
            }
        }
    }

    /// Something was mounted or unmounted.
    pub fn mounts_changed(&mut self, core: &mut Core) {
        self.observers.mounts_changed();
        let (sources, mut cx) = self.sources(core);
        sources.mounts_changed(&mut cx);
    }

    /// Watches the list of mounts, if something follows it.
    fn follow_mounts(&mut self) {
        if self.mounts.is_none() && (self.sources.follow_mounts() || self.observers.follow_mounts()) {
            let mounts = Mounts::open(&mut self.io);
            if let Err(error) = &mounts {
                log::warn!("mounts can't be watched, and what is mounted over a watched folder is not seen: {error}");
            }
            self.mounts = Some(mounts);
        }
    }

    /// Nothing runs any more. What is written last is begun at the first call; true once it is written, or was given up.
    fn is_written(&mut self, core: &mut Core) -> bool {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.helper.close(&mut self.io);
            let (observers, mut cx) = self.observers(core);
            observers.write_last(&mut cx);
            if let Some(copy) = core.ledger.last_copy(core.now.elapsed, &core.config) {
                self.put_copy(copy);
            }
        }
        !self.helper.is_asked()
    }

    fn put_copy(&mut self, copy: StateCopy) {
        let StateCopy { file, to, keep_as } = copy;
        let request = FilesRequest::Put { path: to, mode: 0o600, durable: true, keep_as };
        self.helper.ask(helper::Asker::Copy, &request, Some(file.into()));
    }

    /// Messages of the other thread.
    pub fn take_messages(&mut self, core: &mut Core) {
        while let Some((address, message)) = self.bridge.take() {
            if address != OBSERVERS {
                self.call_source(core, address, Readiness::Message(message));
                continue;
            }
            let (observers, mut cx) = self.observers(core);
            if let Some((request, answer)) = observers.message(message, &mut cx) {
                self.request(core, Asker::Web(answer), request);
            }
        }
    }

    /// A peer of the control socket is ready.
    pub fn serve(&mut self, core: &mut Core, peer: PeerId) {
        for request in self.front.ready(peer, core.now.elapsed, &mut self.io) {
            self.request(core, Asker::Peer(peer), request);
        }
    }

    fn request(&mut self, core: &mut Core, asker: Asker, request: Request) {
        let KernelHost { clocks, io, processes, sources, front, observers, lifecycle, .. } = self;
        let view = View { clocks, processes, sources, lifecycle };
        match front.request(asker, request, core, view, observers, io) {
            None => {}
            Some(Command::Stop { now: true }) => {
                log::info!("asked to stop now: running jobs are killed");
                self.stop_now(core);
            }
            Some(Command::Stop { now: false }) if core.engine.is_stopping() => {}
            Some(Command::Stop { now: false }) => self.stop(core, "asked to"),
            Some(Command::Reload(asker, request)) => self.reload(core, asker, &request),
        }
    }

    fn reload(&mut self, core: &mut Core, asker: Asker, request: &reload::Request) {
        let reply = match self.lifecycle.read_config(core) {
            Err(refusal) => refusal,
            Ok(config) if request.exec => match self.lifecycle.check_program() {
                Ok(()) => return self.replace(core, asker, Reply::done(&core.compare(&config))),
                Err(why) => Reply::failed(ErrorCode::Refused, why),
            },
            Ok(config) if request.dry_run => Reply::done(&core.compare(&config)),
            Ok(config) => {
                self.lifecycle.service.notify.reloading();
                self.front.wait_for_reload(asker);
                return core.replace_config(config);
            }
        };
        self.front.reply(asker, &reply, core.now.elapsed, &mut self.io);
    }

    /// The daemon becomes the program at its own path; what runs goes on.
    fn replace(&mut self, core: &mut Core, asker: Asker, reply: Reply) {
        self.front.wait_for_replacement(asker, reply);
        self.lifecycle.service.notify.reloading();
        log::info!("asked to replace itself: what runs goes on");
        self.report(core, What::Stopping, "asked to replace itself");
        self.lifecycle.replaces = true;
        core.ask(engine::Request::Leave);
    }

    /// SIGHUP.
    fn hang_up(&mut self, core: &mut Core) {
        log::info!("SIGHUP: reading {} again", core.config.path.display());
        self.lifecycle.service.notify.reloading();
        match self.lifecycle.read_config(core) {
            Ok(config) => core.replace_config(config),
            Err(refusal) => {
                if let Reply::Failed { error, .. } = refusal {
                    error.lines().for_each(|line| log::error!("{line}"));
                }
                self.lifecycle.ready(core);
            }
        }
    }

    /// A signal to the daemon.
    pub fn signalled(&mut self, core: &mut Core, signal: Signal) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT if core.is_stopping() => {
                log::warn!("{signal} again: running jobs are killed");
                self.stop_now(core);
            }
            Signal::SIGTERM | Signal::SIGINT => self.stop(core, signal.as_str()),
            Signal::SIGHUP => self.hang_up(core),
            Signal::SIGUSR1 => self.lifecycle.reopen_log(),
            _ => {
                let (runs, hooks) = self.processes.without_pidfd(core.now.elapsed);
                runs.into_iter().for_each(|run| self.reap(core, run));
                hooks.into_iter().for_each(|hook| self.processes.reap_hook(&mut self.io, hook));
                self.sources.without_pidfd().into_iter().for_each(|source| self.reap_source(core, source));
                self.helper.reap().into_iter().for_each(|delivery| self.deliver(core, delivery));
            }
        }
    }

    fn stop(&mut self, core: &mut Core, why: &str) {
        let patience = core.config.shutdown_timeout;
        let alive = core.engine.alive();
        self.lifecycle.service.notify.stopping(&format!("stopping, {alive} running"));
        self.report(core, What::Stopping, why);
        if core.config.on_stop == OnStop::Leave {
            log::info!("stopping ({why}): {alive} running, which go on; the next start watches them");
            return core.ask(engine::Request::Leave);
        }
        log::info!("stopping ({why}): nothing new starts; {alive} running");
        core.ask(engine::Request::Stop { patience });
        self.processes.hurry_starts(core.now.elapsed);
        let (sources, mut cx) = self.sources(core);
        sources.close(&mut cx);
    }

    /// Everything ends at once.
    fn stop_now(&mut self, core: &mut Core) {
        if !core.engine.is_stopping() {
            self.report(core, What::Stopping, "asked to, now");
        }
        self.lifecycle.service.notify.stopping("stopping, running jobs are killed");
        let (sources, mut cx) = self.sources(core);
        sources.close(&mut cx);
        sources.kill_children();
        self.processes.hurry_starts(core.now.elapsed);
        core.ask(engine::Request::StopNow);
    }

    /// The process of a run may have ended.
    pub fn reap(&mut self, core: &mut Core, run: RunId) {
        match self.processes.reap(&mut self.io, run, core.now.elapsed) {
            Some(RunExit::Exited { exit, out_of_memory }) => {
                let reason = out_of_memory.then(|| memory_reason(core, run)).flatten();
                core.push(Event::Exited { run, exit, reason });
            }
            Some(RunExit::Unknown) => core.push(Event::ExitUnknown { run }),
            None => {}
        }
    }

    /// What the daemon itself does.
    fn report(&mut self, core: &mut Core, what: What, reason: &str) {
        let report = Report::of_daemon(&core.config, core.now.wall, what, reason);
        self.publish(core, &report);
    }

    fn publish(&mut self, core: &mut Core, report: &Report<'_>) {
        let (observers, mut cx) = self.observers(core);
        observers.notify(report, &mut cx);
        if self.front.has_followers() {
            self.front.stream(report.line(core), core.now.elapsed, &mut self.io);
        }
    }

    /// The last of everything, once the loop has ended.
    pub fn close(&mut self, core: &mut Core) {
        let (sources, mut cx) = self.sources(core);
        sources.stop(&mut cx);
        let helper: Vec<Known> = self.helper.known().collect();
        self.processes.close(&helper);
        core.ledger.close();
    }
}

impl CountPolls for Observers {
    fn polled(&mut self, job: JobId, works: bool, now: Elapsed) {
        self.poll(job, works, now);
    }
}

fn memory_reason(core: &Core, run: RunId) -> Option<String> {
    let limit = core.config.jobs[core.engine.run(run)?.job.index()].exec.limits.memory?;
    Some(format!("killed by the kernel: memory limit of {} reached", format_size(limit)))
}

/// What the helper process says of a copy of the state; `None` for a part that says nothing.
fn copied(response: Response) -> Option<Copied> {
    match response {
        Response::Answer(Answer::Done, _) => Some(Copied::Done),
        Response::Answer(Answer::Failed(errno), _) => Some(Copied::Failed(std::io::Error::from_raw_os_error(errno).to_string())),
        Response::Answer(_, _) => None,
        Response::Hung => Some(Copied::Hung(format!("it {}", no_answer()))),
        Response::Unavailable(why) => Some(Copied::Failed(why)),
        Response::Recovered => Some(Copied::Recovered),
    }
}

type Done = Result<(), Infallible>;

impl<C: Clocks> Host for KernelHost<C> {
    type Halt = Infallible;

    fn next_wake(&self) -> Option<Elapsed> {
        let all = [
            self.sources.next_wake(),
            self.front.next_wake(),
            self.processes.next_wake(),
            self.observers.next_wake(),
            self.helper.next_wake(),
            self.lifecycle.service.notify.next_wake(),
        ];
        all.into_iter().flatten().min()
    }

    fn is_busy(&self) -> bool {
        self.sources.has_batch() || self.processes.is_busy() || self.helper.is_busy()
    }

    fn is_clock_synchronized(&self) -> bool {
        self.clocks.is_synchronized()
    }

    fn adopt(&mut self, config: &Config, run: &RunRecord, same_boot: bool) -> Option<Pid> {
        let pid = self.processes.adopt(&mut self.io, &config.jobs[run.job.index()], run, same_boot)?;
        log::info!("run {} goes on: its process {} outlived the daemon that started it", run.id, pid.pid);
        Some(pid)
    }

    fn adopted_all(&mut self, core: &mut Core) -> Done {
        self.processes.end_leftovers(core.now.elapsed);
        self.processes.join_logs(|run| core.ledger.store().job_and_end_of(run));
        Ok(())
    }

    fn begin_turn(&mut self, core: &mut Core) -> Done {
        let now = core.now.elapsed;
        self.lifecycle.service.notify.wake_due(now);
        self.processes.pump(&mut self.io, now);
        self.front.drop_overdue(now, &mut self.io);
        let (sources, mut cx) = self.sources(core);
        sources.wake_due(&mut cx);
        self.ask_helper(core);
        Ok(())
    }

    fn take_batches(&mut self, _core: &mut Core) -> Result<Vec<FoundBatch>, Infallible> {
        Ok(self.sources.take_batches())
    }

    fn answer_source(&mut self, core: &mut Core, source: u32, is_written: bool) -> Done {
        self.call_source(core, source, if is_written { Readiness::Recorded } else { Readiness::NotRecorded });
        Ok(())
    }

    fn review(&mut self, core: &Core, acts: Acts) -> Result<Acts, Infallible> {
        if !acts.is_empty() {
            self.observers.changed(core.now.elapsed);
        }
        Ok(acts)
    }

    fn written(&mut self, core: &mut Core, written: Written) -> Done {
        match written {
            Written::Failed { first } => {
                self.observers.failed_write(core.now.elapsed);
                if let (true, Some(trouble)) = (first, core.ledger.trouble()) {
                    self.lifecycle.service.notify.status(&format!("jobs go on, but {trouble}"));
                }
            }
            Written::Committed { recovered: true } => {
                self.lifecycle.service.notify.status("the state can be written again");
            }
            Written::Held | Written::Journaled | Written::Committed { recovered: false } => {}
        }
        Ok(())
    }

    fn notify(&mut self, core: &mut Core, notice: &Notice, ended: &[EndedRun]) -> Done {
        self.publish(core, &Report::of_notice(notice, ended));
        Ok(())
    }

    fn follow_up(&mut self, core: &mut Core, follow_up: FollowUp<'_>) -> Done {
        let job = &core.config.jobs[follow_up.job().index()];
        self.processes.follow_up(&mut self.io, job, &follow_up, core.now.elapsed);
        let FollowUp::Ended(ended) = follow_up else { return Ok(()) };
        self.front.ended(ended, core, &mut self.io);
        if let Some(source) = self.sources.follower(ended.job) {
            let event = ended.row.event.as_deref().and_then(|event| serde_json::from_str(event).ok()).unwrap_or_default();
            self.call_source(core, source, Readiness::RunEnded { event, state: ended.row.state });
        }
        Ok(())
    }

    fn spawn(&mut self, core: &mut Core, spawn: Box<Spawn>) -> Done {
        let job = &core.config.jobs[spawn.job.index()];
        self.processes.spawn(&mut self.io, job, spawn, core.now.elapsed);
        Ok(())
    }

    fn signal(&mut self, core: &mut Core, run: RunId, signal: StopSignal) -> Done {
        self.processes.signal(run, signal, core.now.elapsed);
        Ok(())
    }

    fn triggered(&mut self, core: &mut Core, ticket: u64, run: RunId, ended: &[EndedRun]) -> Done {
        self.front.triggered(ticket, run, ended, core, &mut self.io);
        Ok(())
    }

    fn collect_started(&mut self, core: &mut Core) -> Done {
        for (spawn, started) in self.processes.collect_started(&mut self.io) {
            let run = spawn.run;
            match started {
                Ok(pid) => {
                    let (observers, mut cx) = self.observers(core);
                    observers.started(&spawn, &mut cx);
                    core.push(Event::Started { run, pid });
                }
                Err(reason) => core.push(Event::NotStarted { run, reason }),
            }
        }
        let job_of = |run| core.engine.run(run).map(|record| &core.config.jobs[record.job.index()]);
        self.processes.begin_waiting(&mut self.io, job_of, core.now.elapsed);
        Ok(())
    }

    fn stopped(&mut self, core: &mut Core) -> Done {
        self.processes.hurry_starts(core.now.elapsed);
        self.processes.hurry_hooks(core.now.elapsed);
        Ok(())
    }

    fn after_acts(&mut self, core: &mut Core) -> Done {
        self.processes.after_acts(core.now.elapsed, self.sources.known().chain(self.helper.known()));
        Ok(())
    }

    fn copy_state(&mut self, _core: &mut Core, copy: StateCopy) -> Done {
        self.put_copy(copy);
        Ok(())
    }

    fn end_turn(&mut self, core: &mut Core) -> Done {
        let (observers, mut cx) = self.observers(core);
        observers.end_turn(&mut cx);
        let (sources, mut cx) = self.sources(core);
        sources.give_room(&mut cx);
        if core.engine.is_stopping() && !core.has_stopped() && !core.has_events() && self.processes.only_unkillable() {
            log::error!("stopping without the end of what can't be killed; the next start watches it");
            core.ask(engine::Request::Leave);
        }
        let is_starting = self.processes.is_starting() || core.has_events();
        if core.has_stopped() && !is_starting && !self.processes.has_hooks() && !self.sources.is_ending() {
            let (observers, mut cx) = self.observers(core);
            if observers.are_finished(&mut cx) && self.is_written(core) {
                if core.engine.alive() > 0 {
                    self.processes.leave(core.now.elapsed, self.sources.known().chain(self.helper.known()));
                }
                log::info!("stopped");
                self.front.answer_stop(core.now.elapsed, &mut self.io);
                self.lifecycle.done = true;
            }
        }
        self.front.send_held_back();
        self.follow_mounts();
        Ok(())
    }

    fn hand_over(&mut self, core: &mut Core, old: &[Option<Job>], next: &Config) -> Done {
        let (sources, mut cx) = self.sources(core);
        sources.hand_over(old, next, &mut cx);
        self.processes.open_groups(&next.jobs);
        Ok(())
    }

    fn configured(&mut self, core: &mut Core) -> Done {
        let (observers, mut cx) = self.observers(core);
        observers.configure(&mut cx);
        Ok(())
    }

    fn start_sources(&mut self, core: &mut Core) -> Done {
        let (sources, mut cx) = self.sources(core);
        sources.start_missing(&mut cx);
        Ok(())
    }

    fn reloaded(&mut self, core: &mut Core, result: Result<Reloaded, String>) -> Done {
        match &result {
            Ok(done) => {
                memory::trim();
                log::info!("reloaded: {}", summary(done));
                self.report(core, What::Reloaded, &summary(done));
                done.warnings.iter().for_each(|warning| log::warn!("{warning}"));
            }
            Err(why) => log::error!("the configuration was not reloaded: {why}"),
        }
        self.lifecycle.ready(core);
        let reply = result.map_or_else(|why| Reply::failed(ErrorCode::Refused, why), |done| Reply::done(&done));
        self.front.answer_reload(&reply, core.now.elapsed, &mut self.io);
        Ok(())
    }
}
