//! The epoll loop: readiness in, engine events; engine effects out, syscalls.
//!
//! One thread, one `epoll_wait` without a timeout. What it waits for: two timerfds armed to the engine's earliest wall
//! and elapsed deadlines, a signalfd, a pidfd and a pipe per running process, the control socket and its peers, an
//! eventfd from the thread of S3 and the web UI, the socket of the helper process while there is one, the list of mounts, and
//! the descriptors that sources asked for. While nothing is due there is no wake-up and no system call.
//!
//! The loop reads both clocks once, turns what is ready into events, and has a [turn](Core::turn) handle them. Nothing
//! acts in the middle of a decision. A process starts while the loop goes on; a pipe that is closed when it executes its
//! program wakes the loop.
//!
//! * `core`: the engine, the configuration and the `ledger`, which writes the state;
//! * `turn`, `reload`: one turn, and another configuration, for any host;
//! * `host`: what a turn needs of the world; `kernel`: that of the daemon, which connects its parts:
//! * `processes`: runs and hooks; `sources`: watches; `bridge`: the other thread; `helper`: the process that looks at files;
//!   `mounts`: when what it has said may no longer hold; `front`: requests and replies; `observers`: the log, metrics, webhooks,
//!   the web UI; `lifecycle`: supervisor, log file, replacement.
//!
//! Each part owns its fields and its wake-ups, is handed what it needs, and answers with values.
//!
//! This room imports everything; `main` starts it. Only it and `exec` make syscalls that could block.

mod bridge;
pub mod clocks;
mod core;
mod front;
mod helper;
mod host;
mod io;
mod kernel;
mod ledger;
mod lifecycle;
mod memory;
mod mounts;
mod observers;
mod processes;
mod reload;
mod show;
mod signals;
mod sources;
#[cfg(test)]
mod tests;
mod tokens;
mod turn;
mod view;

use std::fmt;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use mio::{Interest, Poll};
use nix::sys::signalfd::SignalFd;

use crate::config::{self, Config};
use crate::control::Bound;
use crate::engine::{Deadlines, Event};
use crate::store::{Lock, Store};
use crate::triggers::Readiness;
use bridge::Bridge;
use clocks::{Armed, Clocks, WallWake};
use front::Front;
use helper::Helper;
use io::{Io, What};
use kernel::KernelHost;
use lifecycle::Lifecycle;
use observers::Observers;
use processes::Processes;
use sources::Sources;

pub use self::core::{Core, OpenedCore};
pub use host::{EndedRun, FollowUp, FoundBatch, Host};
pub use ledger::{Acts, CommitLimits, Copied, Ledger, StateCopy, TurnChanges, Written};
pub use lifecycle::{LogFile, Notify, Service, exec, passed_socket};

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
    /// The copy of the state in `state.sync_to` did not answer: the next copy must not replace it.
    pub keeps_old_copy: bool,
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
    /// To become another program ([`exec`]), which takes over what runs.
    Replace {
        /// Its path.
        program: PathBuf,
        /// A variable for its environment.
        variable: Option<(&'static str, String)>,
    },
}

fn refused(tried: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |error| RunError::Refused { tried, error }
}

/// The daemon's loop. See the module.
pub struct Reactor<C> {
    poll: Poll,
    signals: SignalFd,
    armed: Option<Deadlines>,
    core: Core,
    host: KernelHost<C>,
    _lock: Lock,
}

impl<C: Clocks> Reactor<C> {
    /// Takes over what is stored, arms every deadline and starts every source. The socket's peers wait until
    /// [`Reactor::run`].
    ///
    /// # Errors
    /// When the machine refuses what the loop can't do without.
    pub fn new(parts: Parts<C>) -> Result<Reactor<C>, RunError> {
        let Parts { config, store, lock, state_dir, surroundings, socket, clocks, seed, mut warnings, keeps_old_copy, service } =
            parts;
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
        let front = Front::new(socket, &mut io).map_err(&watch)?;
        let mut processes = Processes::new(state_dir.clone(), surroundings.start_dir.clone(), socket_file, store.dir());
        processes.open_groups(&config.jobs);
        let now = clocks.now();
        let opened = Core::open(config, store, state_dir, CommitLimits::default(), now, seed)?;
        let OpenedCore { mut core, restored, same_boot, warnings: of_state } = opened;
        warnings.extend(of_state);
        if keeps_old_copy {
            core.ledger.keep_old_copy();
        }
        let lifecycle = Lifecycle::new(service, surroundings, now, warnings);
        let (sources, observers) = (Sources::new(), Observers::new());
        let helper = Helper::default();
        let mut host = KernelHost {
            clocks,
            io,
            bridge,
            processes,
            sources,
            front,
            observers,
            helper,
            lifecycle,
            mounts: None,
            is_closing: false,
        };
        let Ok(()) = core.start(&mut host, restored, same_boot);
        Ok(Reactor { poll, signals, armed: None, core, host, _lock: lock })
    }

    /// Runs until it is asked to stop and nothing runs any more.
    ///
    /// # Errors
    /// When epoll_wait(2) or a timer fails, which no job and no peer can cause.
    pub fn run(mut self) -> Result<After, RunError> {
        let mut events = mio::Events::with_capacity(EVENTS);
        let mut is_trimmed = false;
        self.host.lifecycle.ready(&self.core);
        while !self.host.lifecycle.done {
            let backlog = self.host.front.take_unread_backlog();
            let mut busy = self.core.has_events() || self.host.is_busy() || !backlog.is_empty();
            if !busy {
                busy = self.arm()? == Armed::ClockSet;
                if !std::mem::replace(&mut is_trimmed, true) {
                    self.core.trim();
                    memory::trim();
                }
            }
            match self.poll.poll(&mut events, busy.then_some(std::time::Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RunError::Refused { tried: "wait for events", error }),
            }
            self.core.now = self.host.clocks.now();
            backlog.into_iter().for_each(|peer| self.host.serve(&mut self.core, peer));
            for event in &events {
                match self.host.io.what(event.token()) {
                    // Closed, and nothing to be read: there is nothing to look at.
                    Some(What::Output(run)) if event.is_read_closed() && !event.is_readable() => {
                        self.host.processes.output_ended(&mut self.host.io, run);
                    }
                    Some(what) => self.ready(what)?,
                    None => {}
                }
            }
            let Ok(()) = self.host.collect_started(&mut self.core);
            let Ok(()) = self.core.turn(&mut self.host);
        }
        self.host.close(&mut self.core);
        let variable = self.host.processes.handed_on();
        Ok(self.host.lifecycle.into_successor().map_or(After::Exit, |program| After::Replace { program, variable }))
    }

    /// Arms both timers, if a deadline has changed. If the clock was set meanwhile, that is the next turn's event.
    fn arm(&mut self) -> Result<Armed, RunError> {
        let mut deadlines = self.core.next_deadlines(&self.host);
        // Pruning can wait, but not for ever.
        deadlines.elapsed = self.core.ledger.next_prune().into_iter().chain(deadlines.elapsed).min();
        if self.armed == Some(deadlines) {
            return Ok(Armed::AsBefore);
        }
        let armed = self.host.clocks.arm(deadlines).map_err(refused("arm a timer"))?;
        self.armed = Some(deadlines);
        if armed == Armed::ClockSet {
            self.core.push(Event::ClockSet);
        }
        Ok(armed)
    }

    /// A descriptor is ready.
    fn ready(&mut self, what: What) -> Result<(), RunError> {
        let (core, host) = (&mut self.core, &mut self.host);
        match what {
            What::WallTimer => {
                self.armed = None;
                if host.clocks.take_wall().map_err(refused("read a timer"))? == WallWake::ClockSet {
                    // It may have been set since this turn began.
                    core.now = host.clocks.now();
                    core.push(Event::ClockSet);
                }
            }
            What::ElapsedTimer => {
                self.armed = None;
                host.clocks.take_elapsed().map_err(refused("read a timer"))?;
            }
            What::Signals => {
                let taken = signals::take(&self.signals).map_err(refused("read a signal"))?;
                taken.into_iter().for_each(|signal| host.signalled(core, signal));
            }
            What::Bridge => host.take_messages(core),
            What::Helper => host.helper.ready(),
            What::Mounts => host.mounts_changed(core),
            What::Listener => host.front.accept(core.now.elapsed, &mut host.io),
            What::Peer(peer) => host.serve(core, peer),
            What::Start(run) => host.processes.start_ready(&mut host.io, run),
            What::Exit(run) => host.reap(core, run),
            What::Output(run) => host.processes.output_ready(run),
            What::HookStart(hook) => host.processes.hook_start_ready(&mut host.io, hook),
            What::HookExit(hook) => host.processes.reap_hook(&mut host.io, hook),
            What::HookOutput(hook) => host.processes.hook_output_ready(hook),
            What::Source(source, fd) => host.call_source(core, source, Readiness::Fd(fd)),
            What::SourceStart(source) => host.source_start_ready(core, source),
            What::SourceExit(source) => host.reap_source(core, source),
        }
        Ok(())
    }
}
