//! The epoll loop: readiness in, engine events; engine effects out, syscalls.
//!
//! One thread, one `epoll_wait` without a timeout. What it waits for: two timerfds armed to the engine's earliest wall
//! and elapsed deadlines, a signalfd, a pidfd and a pipe per running process, the control socket and its peers, an
//! eventfd from the S3 and web thread, and whatever descriptors the sources asked for. While nothing is due there is no
//! wake-up and no system call.
//!
//! A turn of the loop is always the same: read both clocks once; turn what is ready into events; hand them to the
//! engine; then apply all effects in one place: records first, in one transaction (or, while turns follow each other
//! closely, by one write into the state's journal, see `pace`), then processes and signals, then words. Nothing acts in the
//! middle of a decision. A process comes up while the loop goes on, and is waited for when there is nothing else to do.
//!
//! This room imports everything; `main` starts it. Only it and `exec` make syscalls that could block.

pub mod clocks;
mod io;
mod memory;
mod reload;
mod signals;
mod tokens;
mod turn;

#[path = "front/answers.rs"]
mod answers;
#[path = "sources/bridge.rs"]
mod bridge;
#[path = "processes/runs.rs"]
mod children;
#[path = "front/describe.rs"]
mod describe;
#[path = "observers/log.rs"]
mod diary;
#[path = "ledger/held.rs"]
pub mod gather;
#[path = "processes/hooks.rs"]
mod hooks;
#[cfg_attr(feature = "metrics", path = "observers/metrics.rs")]
#[cfg_attr(not(feature = "metrics"), path = "observers/no_metrics.rs")]
mod metrics;
#[path = "ledger/throttle.rs"]
mod pace;
#[path = "front/peers.rs"]
mod peers;
#[path = "ledger/prune.rs"]
mod prune;
#[path = "lifecycle/service.rs"]
mod service;
#[path = "sources/child.rs"]
mod source_child;
#[path = "sources/watches.rs"]
mod watches;
#[cfg_attr(feature = "web", path = "observers/web.rs")]
#[cfg_attr(not(feature = "web"), path = "observers/no_window.rs")]
mod window;

#[cfg_attr(feature = "notify", path = "observers/webhooks.rs")]
#[cfg_attr(not(feature = "notify"), path = "observers/no_callers.rs")]
mod callers;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use mio::{Interest, Poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use crate::config::{self, Config, OnStop};
use crate::control::Bound;
use crate::control::commands::events;
use crate::control::protocol::Reply;
use crate::engine::{Deadlines, Effect, Engine, Event, Request, RestoredProcess, RunState, Spawn};
use crate::exec::{Adopted, Known};
use crate::model::{Elapsed, JobId, Now, RunId, format_size};
use crate::store::{JobKey, Lock, Store};
use crate::triggers::Readiness;
use bridge::Bridge;
use callers::Callers;
use children::{Children, Ended};
use clocks::{Clocks, WallWake};
use gather::Held;
use hooks::Hooks;
use io::{HookId, Io, PeerId, What};
use metrics::Metrics;
use pace::Pace;
use peers::Peers;
use prune::Pruning;
pub use reload::exec;
pub use service::{LogFile, Notify, Service, passed_socket};
use watches::{Surroundings, Watches};
use window::Window;

/// How soon orphans are looked for again: there may be one of which nobody could tell whose it is.
const SWEEP_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// Events of one epoll_wait.
const EVENTS: usize = 256;

/// What a daemon is made of.
#[derive(Debug)]
pub struct Parts<C> {
    /// The configuration.
    pub config: Config,
    /// The state, opened, and the lock on it.
    pub store: Store,
    /// Held for the daemon's life.
    pub lock: Lock,
    /// Where the state is.
    pub state_dir: PathBuf,
    /// What the configuration was read with, and is read again with.
    pub surroundings: config::Surroundings,
    /// The control socket, bound.
    pub socket: Bound,
    /// Time.
    pub clocks: C,
    /// Feeds the jitter of retries.
    pub seed: u64,
    /// What a person should hear about the start, shown in `status`.
    pub warnings: Vec<String>,
    /// Who started the daemon and wants to hear of it.
    pub service: Service,
}

/// Why the loop could not begin, or had to end. All of these are the machine's refusals; no job can cause one.
#[derive(Debug)]
pub enum RunError {
    /// A system call that the loop can't do without.
    Refused {
        /// What was tried.
        tried: &'static str,
        /// The OS's word.
        error: std::io::Error,
    },
    /// The state could not be read.
    Store(crate::store::StoreError),
    /// The dependencies have a cycle; `config` refuses such a file.
    Cycle,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Refused { tried, error } => write!(f, "can't {tried}: {error}"),
            RunError::Store(error) => error.fmt(f),
            RunError::Cycle => f.write_str("the dependencies have a cycle"),
        }
    }
}

impl std::error::Error for RunError {}

/// What is left to do once the loop has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// To exit.
    Exit,
    /// To become this program ([`exec`]), which takes over what runs.
    Replace(PathBuf),
}

fn refused(tried: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |error| RunError::Refused { tried, error }
}

/// Somebody who waits for a run or for the end.
#[derive(Debug)]
struct Waiter {
    peer: PeerId,
    what: WaitFor,
}

#[derive(Debug)]
enum WaitFor {
    /// `trigger --wait`.
    Run(RunId),
    /// `logs -f`.
    Logs(RunId),
    /// `stop`.
    Stop,
}

/// A `trigger` that the engine has yet to answer.
#[derive(Debug)]
struct Ticket {
    peer: PeerId,
    wait: bool,
}

/// The daemon's loop. See the module.
pub struct Reactor<C> {
    poll: Poll,
    io: Io,
    clocks: C,
    armed: Option<Deadlines>,
    signals: SignalFd,
    window: Window,
    metrics: Metrics,
    callers: Callers,
    bridge: Bridge,
    peers: Peers,
    children: Children,
    hooks: Hooks,
    watches: Watches,
    engine: Engine,
    store: Store,
    config: Config,
    _lock: Lock,
    state_dir: PathBuf,
    started: Now,
    now: Now,
    warnings: Vec<String>,
    /// Engine events for the next turn.
    inbox: VecDeque<Event>,
    /// What is coming up.
    spawning: Vec<Spawn>,
    held: Held,
    pace: Pace,
    tickets: HashMap<u64, Ticket>,
    next_ticket: u64,
    waiters: Vec<Waiter>,
    pruning: Pruning,
    /// Whether the store's trouble was told.
    trouble_told: bool,
    /// When the state is copied, and why the last copy failed.
    sync_at: Option<Elapsed>,
    sync_trouble: Option<String>,
    /// When orphans of runs are looked for, and were last.
    sweep_at: Option<Elapsed>,
    swept_at: Option<Elapsed>,
    /// What the configuration is read with.
    surroundings: config::Surroundings,
    /// The jobs of the configuration; those behind them were removed while they ran.
    configured: usize,
    /// As the configuration has it.
    wait_for_clock: Option<Duration>,
    /// A configuration that is taken over at the end of the turn, and who waits for that: as many as asked in this turn.
    next_config: Option<(Box<Config>, Vec<PeerId>)>,
    /// Who wants to hear how the daemon is.
    service: Service,
    /// The program that the daemon is.
    program: Option<PathBuf>,
    /// Whether the daemon replaces itself when it ends, and what is said of it.
    replace: bool,
    exec_answer: Option<Reply>,
    /// The engine has stopped; what is left is to see hooks to their end.
    stopped: bool,
    done: bool,
}

impl<C: Clocks> Reactor<C> {
    /// Takes over what is stored, arms every deadline and starts every source. The socket's peers wait until
    /// [`Reactor::run`].
    ///
    /// # Errors
    /// When the machine refuses what the loop can't do without.
    pub fn new(parts: Parts<C>) -> Result<Reactor<C>, RunError> {
        let Parts { mut config, mut store, lock, state_dir, surroundings, socket, clocks, seed, warnings, service } = parts;
        let poll = Poll::new().map_err(refused("make an epoll instance"))?;
        let mut io = Io::new(poll.registry().try_clone().map_err(refused("share the epoll instance"))?);
        let signals = signals::open().map_err(refused("open a signalfd"))?;
        let watch = refused("watch a descriptor");
        io.watch(clocks.wall_fd(), What::WallTimer, Interest::READABLE).map_err(&watch)?;
        io.watch(clocks.elapsed_fd(), What::ElapsedTimer, Interest::READABLE).map_err(&watch)?;
        io.watch(signals.as_raw_fd(), What::Signals, Interest::READABLE).map_err(&watch)?;
        let bridge_token = io.token(What::Bridge).map_err(&watch)?;
        let bridge = Bridge::new(io.registry(), bridge_token).map_err(refused("make an eventfd"))?;
        let socket_file = std::path::absolute(socket.path()).unwrap_or_else(|_| socket.path().to_owned());
        let peers = Peers::new(socket, &mut io).map_err(&watch)?;
        let now = clocks.now();
        let (configured, wait_for_clock) = (config.jobs.len(), config.rules.wait_for_clock);
        let fresh_cursor = config.rules.wait_for_clock.is_none().then_some(now.wall);
        let keys: Vec<JobKey> = config.rules.jobs.iter().map(JobKey::from).collect();
        let (mut restored, same_boot) = store.restore(now, &keys, fresh_cursor).map_err(RunError::Store)?;
        let late_warnings = store.take_warnings();
        late_warnings.iter().for_each(|warning| log::error!("{warning}"));
        let mut engine = Engine::new(std::mem::take(&mut config.rules), seed).map_err(|_| RunError::Cycle)?;
        let mut children = Children::new(state_dir.clone(), surroundings.start_dir.clone(), socket_file);
        children.look_for_groups(&config.jobs);
        for (record, process) in &mut restored.running {
            let pid = match &record.state {
                RunState::Running(running) if same_boot => running.pid.or_else(|| children.find(record.id, record.attempt)),
                _ => None,
            };
            if let Some(adopted) = pid.and_then(Adopted::open)
                && let Some(pid) = pid
                && children.adopt(&mut io, &config.jobs[record.job.index()], (record.id, record.attempt), adopted).is_ok()
            {
                log::info!("run {} goes on: its process {} outlived the daemon that started it", record.id, pid.pid);
                *process = RestoredProcess::Alive(pid);
            }
        }
        source_child::end_leftovers(&children);
        children.end_groups_of_others();
        let groups_left = children.bury_groups();
        let mut effects = Vec::new();
        engine.start(now, restored, &mut effects);
        let mut reactor = Reactor {
            poll,
            io,
            clocks,
            armed: None,
            signals,
            window: Window::default(),
            metrics: Metrics::default(),
            callers: Callers::default(),
            bridge,
            peers,
            children,
            hooks: Hooks::default(),
            watches: Watches::default(),
            engine,
            store,
            config,
            _lock: lock,
            state_dir,
            started: now,
            now,
            warnings: warnings.into_iter().chain(late_warnings).collect(),
            inbox: VecDeque::new(),
            spawning: Vec::new(),
            held: Held::default(),
            pace: Pace::default(),
            tickets: HashMap::new(),
            next_ticket: 0,
            waiters: Vec::new(),
            pruning: Pruning::default(),
            trouble_told: false,
            sync_at: None,
            sync_trouble: None,
            sweep_at: groups_left.map(|delay| now.elapsed + delay),
            swept_at: None,
            surroundings,
            configured,
            wait_for_clock,
            next_config: None,
            service,
            program: reload::own_program(),
            replace: false,
            exec_answer: None,
            stopped: false,
            done: false,
        };
        reactor.set_up_metrics();
        reactor.set_up_callers();
        reactor.apply(effects, Vec::new());
        reactor.look_for_gone_jobs();
        reactor.start_missing_sources();
        reactor.open_window();
        Ok(reactor)
    }

    /// Starts the source of each job that should have one and has none.
    fn start_missing_sources(&mut self) {
        let mut sources = Vec::new();
        for ((index, job), rules) in (0..).zip(&self.config.jobs).zip(&self.engine.rules().jobs) {
            if self.watches.has(JobId(index)) {
                continue;
            }
            let Some(source) = job.trigger.source().filter(|_| rules.enabled) else { continue };
            sources.push((reload::owner(JobId(index), job, rules), source));
        }
        let (watches, mut around) = self.watching();
        sources.into_iter().for_each(|(owner, source)| watches.start(owner, source, &mut around));
    }

    /// The sources, and what their calls may touch.
    fn watching(&mut self) -> (&mut Watches, Surroundings<'_>) {
        let around = Surroundings {
            now: self.now,
            io: &mut self.io,
            bridge: &mut self.bridge,
            store: &mut self.store,
            children: &self.children,
            engine: &self.engine,
            metrics: &mut self.metrics,
        };
        (&mut self.watches, around)
    }

    /// Runs until it is told to stop and nothing runs any more.
    ///
    /// # Errors
    /// When epoll_wait(2) or a timer fails, which no job and no peer can cause.
    pub fn run(mut self) -> Result<After, RunError> {
        let mut events = mio::Events::with_capacity(EVENTS);
        let mut rested = false;
        self.tell_ready();
        while !self.done {
            let hungry = self.peers.take_hungry();
            let busy = self.is_busy() || !hungry.is_empty();
            if !busy {
                self.arm()?;
                if !rested {
                    rested = true;
                    self.engine.give_back();
                    self.store.give_back();
                    memory::give_back();
                }
            }
            match self.poll.poll(&mut events, busy.then_some(std::time::Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RunError::Refused { tried: "wait for events", error }),
            }
            self.now = self.clocks.now();
            // The exits of others go first; when there is nothing else to do, it is waited for.
            self.settle(events.is_empty() && self.inbox.is_empty());
            hungry.into_iter().for_each(|peer| self.serve(peer));
            for event in &events {
                match self.io.what(event.token()) {
                    // Closed, and nothing to be read: nobody needs to look.
                    Some(What::Output(run)) if event.is_read_closed() && !event.is_readable() => {
                        self.children.output_ended(&mut self.io, run);
                    }
                    Some(what) => self.ready(what)?,
                    None => {}
                }
            }
            self.turn();
        }
        let (watches, mut around) = self.watching();
        watches.stop(&mut around);
        self.copy_state();
        self.store.close();
        self.write_last_metrics();
        Ok(match self.program.filter(|_| self.replace) {
            Some(program) => After::Replace(program),
            None => After::Exit,
        })
    }

    /// Arms both timers, if a deadline has changed.
    fn arm(&mut self) -> Result<(), RunError> {
        let mut deadlines = self.due_next();
        // What is pruned can wait, but not for ever.
        deadlines.elapsed = self.pruning.next().into_iter().chain(deadlines.elapsed).min();
        if self.armed != Some(deadlines) {
            self.clocks.arm(deadlines).map_err(refused("arm a timer"))?;
            self.armed = Some(deadlines);
        }
        Ok(())
    }

    /// True if there is something to do without any wait.
    fn is_busy(&self) -> bool {
        self.watches.has_batch()
            || !self.inbox.is_empty()
            || self.children.are_coming_up()
            || self.children.has_output()
            || self.hooks.has_output()
    }

    /// All but the pruning's.
    fn due_next(&mut self) -> Deadlines {
        let mut deadlines = self.engine.next_deadlines();
        let others = [
            self.watches.next_wake(),
            self.peers.next_deadline(),
            self.hooks.next_deadline(),
            self.held.until(),
            self.pace.until(),
            self.sync_at,
            self.sweep_at,
            self.service.notify.next_wake(),
            self.metrics.next_write(),
            self.callers.next_wake(),
        ];
        deadlines.elapsed = others.into_iter().flatten().chain(deadlines.elapsed).min();
        deadlines
    }

    /// Leaves the state to itself until the next deadline.
    fn rest(&mut self) {
        if self.is_busy() {
            return;
        }
        if self.pace.is_due(self.now.elapsed, self.store.jotted(), self.engine.alive()) {
            self.commit(Vec::new(), Vec::new());
            // It may have waited for this.
            self.prune();
        }
        let quiet = self.quiet();
        self.store.rest(quiet);
    }

    /// For how long nothing is due.
    fn quiet(&mut self) -> Duration {
        let deadlines = self.due_next();
        let wall = deadlines.wall.map(|at| at.since(self.now.wall));
        let elapsed = deadlines.elapsed.map(|at| at.since(self.now.elapsed));
        wall.into_iter().chain(elapsed).min().unwrap_or(Duration::MAX)
    }

    fn ready(&mut self, what: What) -> Result<(), RunError> {
        match what {
            What::WallTimer => {
                self.armed = None;
                if self.clocks.take_wall().map_err(refused("read a timer"))? == WallWake::ClockSet {
                    // It may have been set since this turn began.
                    self.now = self.clocks.now();
                    self.inbox.push_back(Event::ClockSet);
                }
            }
            What::ElapsedTimer => {
                self.armed = None;
                self.clocks.take_elapsed().map_err(refused("read a timer"))?;
            }
            What::Signals => self.take_signals().map_err(refused("read a signal"))?,
            What::Bridge => {
                while let Some((watch, message)) = self.bridge.take() {
                    #[cfg(feature = "web")]
                    if watch == bridge::WINDOW {
                        self.asked_by_window(message);
                        continue;
                    }
                    // All that the hooks send is a reason to look again at the end of the turn.
                    #[cfg(feature = "notify")]
                    if watch == bridge::HOOKS {
                        continue;
                    }
                    self.call_source(watch, Readiness::Message(message));
                }
            }
            What::Listener => self.peers.accept(self.now.elapsed, &mut self.io),
            What::Peer(peer) => self.serve(peer),
            What::Exit(run) => self.reap(run),
            What::Output(run) => self.children.output_ready(run),
            What::HookExit(hook) => self.reap_hook(hook),
            What::HookOutput(hook) => self.hooks.output_ready(hook),
            What::Source(watch, fd) => self.call_source(watch, Readiness::Fd(fd)),
            What::SourceExit(watch) => self.reap_source(watch),
        }
        Ok(())
    }

    fn serve(&mut self, peer: PeerId) {
        for request in self.peers.ready(peer, self.now.elapsed, &mut self.io) {
            self.answer(peer, request);
        }
    }

    fn call_source(&mut self, watch: u32, what: Readiness) {
        let (watches, mut around) = self.watching();
        watches.ready(watch, what, &mut around);
    }

    fn reap_source(&mut self, watch: u32) {
        let (watches, mut around) = self.watching();
        watches.reap(watch, &mut around);
    }

    /// Looks for what left the process groups of runs that are over, and for orphans that have ended. At the end of a turn,
    /// and not after each when they follow each other closely: what is due does not wait for it.
    fn sweep(&mut self) {
        // One that is coming up can't be told from an orphan.
        if self.children.are_coming_up() || self.sweep_at.take_if(|at| *at <= self.now.elapsed).is_none() {
            return;
        }
        let next = self.swept_at.map_or(self.now.elapsed, |at| at + SWEEP_AGAIN);
        if self.now.elapsed < next {
            self.sweep_at = Some(next);
            return;
        }
        self.swept_at = Some(self.now.elapsed);
        if let Some(delay) = self.children.bury_groups() {
            self.sweep_at = Some(self.now.elapsed + delay);
        }
        let known: Vec<Known> = self.children.known().chain(self.hooks.known()).chain(self.watches.known()).collect();
        match crate::exec::sweep(&known) {
            Ok(swept) => {
                for stray in &swept.killed {
                    log::info!("run {}: its process {} had left its group and outlived it, and was killed", stray.run, stray.pid);
                }
                if swept.again {
                    let soon = self.now.elapsed + SWEEP_AGAIN;
                    self.sweep_at = Some(self.sweep_at.map_or(soon, |at| at.min(soon)));
                }
            }
            Err(error) => log::warn!("orphans of runs can't be looked for: {error}"),
        }
    }

    fn reap(&mut self, run: RunId) {
        match self.children.reap(&mut self.io, run) {
            Some(Ended::Exited { exit, out_of_memory }) => {
                self.sweep_at = Some(self.now.elapsed);
                let reason = out_of_memory.then(|| self.memory_reason(run)).flatten();
                self.inbox.push_back(Event::Exited { run, exit, reason });
            }
            Some(Ended::Vanished) => {
                self.sweep_at = Some(self.now.elapsed);
                self.inbox.push_back(Event::Vanished { run });
            }
            None => {}
        }
    }

    fn memory_reason(&self, run: RunId) -> Option<String> {
        let limit = self.config.jobs[self.engine.run(run)?.job.index()].exec.limits.memory?;
        Some(format!("killed by the kernel: memory limit of {} reached", format_size(limit)))
    }

    fn reap_hook(&mut self, hook: HookId) {
        if let Some((run, success)) = self.hooks.reap(hook, &mut self.io, &mut self.children) {
            self.children.finish(run, success);
        }
    }

    fn take_signals(&mut self) -> std::io::Result<()> {
        for signal in signals::take(&self.signals)? {
            match signal {
                Signal::SIGTERM | Signal::SIGINT if self.engine.is_stopping() || self.is_to_stop() => {
                    log::warn!("{signal} again: running jobs are killed");
                    self.stop_now();
                }
                Signal::SIGTERM | Signal::SIGINT => self.stop(signal.as_str()),
                Signal::SIGHUP => self.hang_up(),
                Signal::SIGUSR1 => self.reopen_log(),
                _ => {
                    self.sweep_at = Some(self.now.elapsed);
                    for run in self.children.without_pidfd() {
                        self.reap(run);
                    }
                    for hook in self.hooks.without_pidfd() {
                        self.reap_hook(hook);
                    }
                    for watch in self.watches.without_pidfd() {
                        self.reap_source(watch);
                    }
                }
            }
        }
        Ok(())
    }

    /// True if the engine will hear in this turn that it has to stop: two signals may come at once.
    fn is_to_stop(&self) -> bool {
        self.inbox.iter().any(|event| matches!(event, Event::Ask(Request::Stop { .. })))
    }

    fn tell_ready(&mut self) {
        let jobs = self.configured;
        let status = format!("{jobs} job{} of {}", if jobs == 1 { "" } else { "s" }, self.config.path.display());
        self.service.notify.ready(&status);
    }

    fn reopen_log(&self) {
        match &self.service.log_file {
            None => log::info!("SIGUSR1: the log goes to stderr, there is no file to reopen"),
            Some(file) => match file.reopen() {
                Ok(()) => log::info!("SIGUSR1: the log goes on in this file"),
                Err(error) => log::error!("SIGUSR1: {} can't be opened: {error}; the log goes on here", file.path().display()),
            },
        }
    }

    fn stop(&mut self, why: &str) {
        let patience = self.config.shutdown_timeout;
        let alive = self.engine.alive();
        self.service.notify.stopping(&format!("stopping, {alive} running"));
        self.tell_of_itself(events::What::Stopping, why);
        if self.config.on_stop == OnStop::Leave {
            log::info!("stopping ({why}): {alive} running, which go on; the next start watches them");
            return self.inbox.push_back(Event::Ask(Request::Leave));
        }
        log::info!("stopping ({why}): nothing new starts; {alive} running");
        self.inbox.push_back(Event::Ask(Request::Stop { patience }));
        let (watches, mut around) = self.watching();
        watches.close(&mut around);
    }

    /// Everything ends at once.
    fn stop_now(&mut self) {
        if !self.engine.is_stopping() {
            self.tell_of_itself(events::What::Stopping, "asked to, now");
        }
        self.service.notify.stopping("stopping, running jobs are killed");
        let (watches, mut around) = self.watching();
        watches.close(&mut around);
        watches.kill_children();
        self.inbox.push_back(Event::Ask(Request::StopNow));
    }

    /// Everything that is to be handled at this instant.
    fn turn(&mut self) {
        self.service.notify.wake_due(self.now.elapsed);
        self.children.pump(&mut self.io);
        self.hooks.pump(&mut self.io, &mut self.children);
        self.hooks.kill_overdue(self.now.elapsed);
        self.peers.drop_overdue(self.now.elapsed, &mut self.io);
        let (watches, mut around) = self.watching();
        watches.wake_due(&mut around);
        let mut effects: Vec<Effect> = Vec::new();
        for event in std::mem::take(&mut self.inbox) {
            self.engine.handle(self.now, event, &mut effects);
        }
        let batches = self.take_batches(&mut effects);
        self.engine.handle(self.now, Event::Tick, &mut effects);
        self.apply(effects, batches);
        self.children.bury();
        self.sweep();
        self.ping_if_due();
        self.prune();
        self.reload_if_asked();
        if self.sync_at.is_some_and(|at| at <= self.now.elapsed) {
            self.copy_state();
        }
        self.write_metrics_if_due();
        let (watches, mut around) = self.watching();
        watches.give_room(&mut around);
        #[cfg(feature = "web")]
        self.peers.answer_elsewhere();
        if self.stopped && self.hooks.is_empty() && !self.watches.is_ending() && self.callers_are_done() {
            self.answer_stop();
            self.done = true;
        }
        self.rest();
    }
}
