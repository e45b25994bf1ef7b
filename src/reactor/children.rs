//! The processes of running runs: their exits, their output, their logs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mio::{Interest, Token};

use super::io::{Io, What};
use crate::config::Job;
use crate::engine::{Spawn, StopSignal};
use crate::exec::{self, Adopted, Child, Drained, EventDelivery, GroupSignal, Launch, OutputSink};
use crate::model::{Attempt, Exit, Pid, RunId};
use crate::store::log_path;

/// A process that the daemon watches.
enum Process {
    /// Its own child.
    Own(Child),
    /// The child of a daemon that died.
    Adopted(Adopted),
}

struct Watched {
    process: Process,
    /// The pidfd's registration; absent where the kernel has none.
    exit: Option<Token>,
    output: Option<(OwnedFd, Token)>,
}

/// What is kept from a run's first attempt to its end.
struct RunFiles {
    sink: OutputSink,
    event_file: Option<PathBuf>,
    /// Whether trouble with the log was told.
    told: bool,
}

/// Tells the runs of one daemon from those of another, which count alike.
const STATE_DIR: &str = "FIRELINK_STATE_DIR";

/// All of them.
pub(super) struct Children {
    state_dir: PathBuf,
    start_dir: PathBuf,
    watched: HashMap<RunId, Watched>,
    files: HashMap<RunId, RunFiles>,
    /// Pipes with more to read.
    readable: HashSet<RunId>,
    buffer: Vec<u8>,
}

/// How a process ended.
pub(super) enum Ended {
    /// With this status.
    Exited(Exit),
    /// It was adopted: nobody knows.
    Vanished,
}

/// One read's worth; larger than a pipe's usual capacity.
const BUFFER: usize = 64 * 1024;

/// What is still read of a pipe after its process has ended: a pipe's largest usual capacity. Whoever holds it open
/// beyond that writes into the void.
const LAST_DRAIN: usize = 1 << 20;

impl Children {
    pub fn new(state_dir: PathBuf, start_dir: PathBuf) -> Children {
        Children {
            state_dir,
            start_dir,
            watched: HashMap::new(),
            files: HashMap::new(),
            readable: HashSet::new(),
            buffer: Vec::new(),
        }
    }

    /// Starts an attempt.
    ///
    /// # Errors
    /// A sentence for a person: the run's reason.
    pub fn start(&mut self, io: &mut Io, job: &Job, spawn: &Spawn) -> Result<Pid, String> {
        let mut vars = vec![
            (STATE_DIR.to_owned(), self.state_dir.display().to_string()),
            ("FIRELINK_JOB".to_owned(), job.name.to_string()),
            ("FIRELINK_RUN_ID".to_owned(), spawn.run.to_string()),
            ("FIRELINK_ATTEMPT".to_owned(), spawn.attempt.to_string()),
            ("FIRELINK_TRIGGER".to_owned(), spawn.trigger.to_string()),
            ("FIRELINK_SCHEDULED_AT".to_owned(), job.zone.rfc3339(spawn.scheduled_at)),
        ];
        let mut event_file = None;
        match spawn.event.as_deref() {
            Some(event) => {
                match exec::deliver_event(event, &self.state_dir.join("events"), spawn.run).map_err(|error| error.to_string())? {
                    EventDelivery::Inline => vars.push(("FIRELINK_EVENT".to_owned(), event.to_owned())),
                    EventDelivery::File(path) => {
                        vars.push(("FIRELINK_EVENT_FILE".to_owned(), path.display().to_string()));
                        event_file = Some(path);
                    }
                }
                if let Ok(value) = serde_json::from_str(event) {
                    vars.extend(job.trigger.event_env(&value));
                }
            }
            None => vars.push(("FIRELINK_EVENT".to_owned(), "null".to_owned())),
        }
        let vars: Vec<(&str, Cow<'_, str>)> =
            vars.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_str()))).collect();
        let launch = Launch { action: &job.action, exec: &job.exec, start_dir: &self.start_dir, vars: &vars };
        let spawned = exec::spawn(&launch);
        let files = self.files.entry(spawn.run).or_insert_with(|| RunFiles {
            sink: OutputSink::new(log_path(&self.state_dir, &job.name, spawn.run), job.exec.capture, job.exec.max_size),
            event_file: None,
            told: false,
        });
        if event_file.is_some() {
            files.event_file = event_file;
        }
        if spawn.attempt > Attempt(1) {
            files.sink.begin_attempt(spawn.attempt);
        }
        let mut child = spawned.map_err(|error| error.to_string())?;
        let pid = child.pid();
        let watched = watch(io, spawn.run, &mut child);
        let (exit, output) = watched.map_err(|error| format!("its process can't be watched: {error}"))?;
        self.watched.insert(spawn.run, Watched { process: Process::Own(child), exit, output });
        Ok(pid)
    }

    /// The process of an attempt that an earlier daemon had no time to write down.
    pub fn find(&self, run: RunId, attempt: Attempt) -> Option<Pid> {
        let state_dir = format!("{STATE_DIR}={}", self.state_dir.display());
        exec::find_leader(&[state_dir, format!("FIRELINK_RUN_ID={run}"), format!("FIRELINK_ATTEMPT={attempt}")])
    }

    /// Watches a process that a daemon before this one started.
    pub fn adopt(&mut self, io: &mut Io, run: RunId, adopted: Adopted) -> io::Result<()> {
        let exit = io.watch(adopted.as_fd().as_raw_fd(), What::Exit(run), Interest::READABLE)?;
        self.watched.insert(run, Watched { process: Process::Adopted(adopted), exit: Some(exit), output: None });
        Ok(())
    }

    pub fn signal(&self, run: RunId, signal: StopSignal) {
        let signal = match signal {
            StopSignal::Term => GroupSignal::Term,
            StopSignal::Kill => GroupSignal::Kill,
        };
        let sent = match self.watched.get(&run).map(|watched| &watched.process) {
            Some(Process::Own(child)) => child.signal_group(signal),
            Some(Process::Adopted(adopted)) => adopted.signal_group(signal),
            None => Ok(()),
        };
        if let Err(error) = sent {
            log::warn!("run {run} could not be signalled: {error}");
        }
    }

    /// The pipe of a run has something.
    pub fn output_ready(&mut self, run: RunId) {
        self.readable.insert(run);
    }

    pub fn has_output(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Reads from each pipe that has something, a bounded amount each, so that no run starves another.
    pub fn pump(&mut self, io: &mut Io) {
        for run in std::mem::take(&mut self.readable) {
            match self.drain(run) {
                Some(Drained::More) => {
                    self.readable.insert(run);
                }
                Some(Drained::Closed) => self.close_output(io, run),
                Some(Drained::Empty) | None => {}
            }
        }
        self.rest();
    }

    fn drain(&mut self, run: RunId) -> Option<Drained> {
        let (fd, _) = self.watched.get(&run)?.output.as_ref()?;
        let files = self.files.get_mut(&run)?;
        self.buffer.resize(BUFFER, 0);
        let drained = exec::drain(fd.as_fd(), &mut self.buffer, &mut files.sink);
        if let Some(trouble) = files.sink.trouble()
            && !files.told
        {
            files.told = true;
            log::error!("run {run}: its output can't be kept: {trouble}");
        }
        match drained {
            Ok(drained) => Some(drained),
            Err(error) => {
                log::warn!("run {run}: its output can't be read: {error}");
                Some(Drained::Closed)
            }
        }
    }

    /// The buffer is only needed while something is read.
    fn rest(&mut self) {
        if self.readable.is_empty() && self.watched.is_empty() {
            self.buffer = Vec::new();
        }
    }

    fn close_output(&mut self, io: &mut Io, run: RunId) {
        if let Some((fd, token)) = self.watched.get_mut(&run).and_then(|watched| watched.output.take()) {
            io.forget(fd.as_raw_fd(), token);
        }
    }

    /// The process of a run may have ended: if so, what is left in its pipe is read and everything of it released.
    pub fn reap(&mut self, io: &mut Io, run: RunId) -> Option<Ended> {
        let ended = match &mut self.watched.get_mut(&run)?.process {
            Process::Own(child) => match child.try_reap() {
                Ok(exit) => Ended::Exited(exit?),
                Err(error) => {
                    log::error!("run {run}: its exit can't be read: {error}");
                    Ended::Vanished
                }
            },
            Process::Adopted(adopted) => {
                if adopted.is_alive() {
                    return None;
                }
                Ended::Vanished
            }
        };
        let mut read = 0;
        while read < LAST_DRAIN && matches!(self.drain(run), Some(Drained::More)) {
            read += exec::DRAIN_AT_ONCE;
        }
        self.close_output(io, run);
        self.readable.remove(&run);
        if let Some(watched) = self.watched.remove(&run)
            && let Some(token) = watched.exit
        {
            let fd = match &watched.process {
                Process::Own(child) => child.pidfd().map(|fd| fd.as_raw_fd()),
                Process::Adopted(adopted) => Some(adopted.as_fd().as_raw_fd()),
            };
            if let Some(fd) = fd {
                io.forget(fd, token);
            }
        }
        self.rest();
        Some(ended)
    }

    /// Runs whose exits only SIGCHLD tells.
    pub fn without_pidfd(&self) -> Vec<RunId> {
        self.watched.iter().filter(|(_, watched)| watched.exit.is_none()).map(|(run, _)| *run).collect()
    }

    /// The run has ended for good: its log is finished, its event's file removed.
    pub fn finish(&mut self, run: RunId, success: bool) {
        let Some(mut files) = self.files.remove(&run) else { return };
        if let Err(error) = files.sink.finish(success)
            && !files.told
        {
            log::error!("run {run}: its output could not be kept: {error}");
        }
        if let Some(path) = files.event_file
            && let Err(error) = std::fs::remove_file(&path)
        {
            log::warn!("{} could not be removed: {error}", path.display());
        }
    }
}

type Registrations = (Option<Token>, Option<(OwnedFd, Token)>);

fn watch(io: &mut Io, run: RunId, child: &mut Child) -> io::Result<Registrations> {
    let exit = match child.pidfd() {
        Some(fd) => Some(io.watch(fd.as_raw_fd(), What::Exit(run), Interest::READABLE)?),
        None => None,
    };
    let output = match child.take_output() {
        Some(fd) => {
            let token = io.watch(fd.as_raw_fd(), What::Output(run), Interest::READABLE)?;
            Some((fd, token))
        }
        None => None,
    };
    Ok((exit, output))
}

/// The directory of a job's logs.
pub(super) fn remove_logs(state_dir: &Path, job: &str, runs: &[u64]) {
    for run in runs {
        // Most runs have no output and so no file.
        let _ = std::fs::remove_file(log_path(state_dir, job, RunId(*run)));
    }
}
