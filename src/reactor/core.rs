//! What a turn works on: the engine, the state and the configuration of one daemon.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use super::RunError;
use super::ledger::{CommitLimits, Ledger};
use crate::config::Config;
use crate::engine::{Engine, Event, Request, Restored};
use crate::model::{JobId, Now};
use crate::store::{JobKey, Store};

/// The engine and the state of one daemon, with its configuration: what a turn works on.
#[derive(Debug)]
pub struct Core {
    /// Both clocks, as read at the start of this turn.
    pub now: Now,
    /// Decides.
    pub engine: Engine,
    /// Writes.
    pub ledger: Ledger,
    /// The configuration; its rules are in the engine.
    pub config: Config,
    /// Engine events for the next turn.
    inbox: VecDeque<Event>,
    /// The jobs of the configuration; those behind them were removed while they ran.
    pub(super) configured: usize,
    /// As the configuration had it at the start.
    pub(super) wait_for_clock: Option<Duration>,
    /// A configuration that is taken over at the end of the turn.
    pub(super) next_config: Option<Box<Config>>,
    pub(super) stopped: bool,
}

/// A core that has read the state and has not [started](Core::start).
#[derive(Debug)]
pub struct OpenedCore {
    /// The core.
    pub core: Core,
    /// What an earlier daemon left, for [`Core::start`].
    pub restored: Restored,
    /// The machine has not been booted since.
    pub same_boot: bool,
    /// What a person should hear of the state, already logged.
    pub warnings: Vec<String>,
}

impl Core {
    /// Reads what an earlier daemon left in the state.
    ///
    /// # Errors
    /// When the state can't be read, or the dependencies have a cycle, which `config` refuses.
    pub fn open(
        mut config: Config,
        mut store: Store,
        state_dir: PathBuf,
        limits: CommitLimits,
        now: Now,
        seed: u64,
    ) -> Result<OpenedCore, RunError> {
        let (configured, wait_for_clock) = (config.jobs.len(), config.rules.wait_for_clock);
        let fresh_cursor = wait_for_clock.is_none().then_some(now.wall);
        let keys: Vec<JobKey> = config.rules.jobs.iter().map(JobKey::from).collect();
        let (restored, same_boot) = store.restore(now, &keys, fresh_cursor).map_err(RunError::Store)?;
        let warnings = store.take_warnings();
        warnings.iter().for_each(|warning| log::error!("{warning}"));
        let engine = Engine::new(std::mem::take(&mut config.rules), seed).map_err(|_| RunError::Cycle)?;
        let core = Core {
            now,
            engine,
            ledger: Ledger::new(store, state_dir, limits),
            config,
            inbox: VecDeque::new(),
            configured,
            wait_for_clock,
            next_config: None,
            stopped: false,
        };
        Ok(OpenedCore { core, restored, same_boot, warnings })
    }

    /// Releases the memory that the start needed.
    pub(super) fn trim(&mut self) {
        self.engine.trim();
        self.ledger.trim();
    }

    /// An event for the engine's next turn.
    pub fn push(&mut self, event: Event) {
        self.inbox.push_back(event);
    }

    /// A request for the engine's next turn.
    pub fn ask(&mut self, request: Request) {
        self.push(Event::Ask(request));
    }

    /// This configuration is taken over at the end of the turn, instead of one that was to be.
    pub fn replace_config(&mut self, next: Config) {
        self.next_config = Some(Box::new(next));
    }

    /// True if there is an event for the engine.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// True if the engine stops, or will in this turn: two signals may come at once.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.engine.is_stopping() || self.inbox.iter().any(|event| matches!(event, Event::Ask(Request::Stop { .. })))
    }

    /// The engine has stopped; the host may have something left to end.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// True for a job that a reload removed while it ran.
    #[must_use]
    pub fn is_retired(&self, job: JobId) -> bool {
        job.index() >= self.configured
    }

    /// Every job, those that were removed while they ran included.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + use<> {
        (0..).take(self.config.jobs.len()).map(JobId)
    }

    /// The events for the engine.
    pub(super) fn take_events(&mut self) -> VecDeque<Event> {
        std::mem::take(&mut self.inbox)
    }
}
