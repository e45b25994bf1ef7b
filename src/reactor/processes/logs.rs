//! What is kept from a run's first attempt to its end: its log and the file of its event.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Job;
use crate::exec::{self, Drained, OutputSink};
use crate::files::Dir;
use crate::logs::{self, LogPaths};
use crate::model::{Attempt, RunId};
use crate::store::StoreError;

/// How a log is opened.
type Begin = fn(Arc<Dir>, LogPaths, crate::exec::spec::Capture, Option<u64>) -> OutputSink;

/// The logs of all runs that have output or wait for their end.
pub(super) struct Logs {
    state: Arc<Dir>,
    runs: HashMap<RunId, RunFiles>,
    /// Those that have not ended, and whose logs an earlier daemon left in parts.
    left: HashSet<RunId>,
    buffer: Vec<u8>,
}

pub(super) struct RunFiles {
    pub sink: OutputSink,
    pub event_file: Option<PathBuf>,
    /// A failed write of the log was reported.
    reported: bool,
}

impl Logs {
    /// The logs of runs below the state directory.
    pub fn new(state: Arc<Dir>) -> Logs {
        Logs { state, runs: HashMap::new(), left: HashSet::new(), buffer: Vec::new() }
    }

    /// The files of a run whose attempt starts; its log is made with the first output.
    pub fn of_attempt(&mut self, job: &Job, run: RunId, attempt: Attempt) -> &mut RunFiles {
        // The log of a first attempt is new, and a file of that name left by a state that was set aside. Of a later one, an
        // earlier daemon may have begun it.
        let begin = if attempt == Attempt(1) { OutputSink::new } else { OutputSink::resume };
        self.open(job, run, begin)
    }

    /// The files of a run that had an attempt, perhaps under an earlier daemon.
    pub fn of(&mut self, job: &Job, run: RunId) -> &mut RunFiles {
        self.open(job, run, OutputSink::resume)
    }

    fn open(&mut self, job: &Job, run: RunId, begin: Begin) -> &mut RunFiles {
        self.runs.entry(run).or_insert_with(|| {
            let paths = LogPaths::of_run(&job.name, run);
            let sink = begin(Arc::clone(&self.state), paths, job.exec.capture, job.exec.max_size);
            RunFiles { sink, event_file: None, reported: false }
        })
    }

    /// Goes on with the files of a run that an earlier daemon started; `reads_on` if its output can still be read.
    pub fn resume(&mut self, job: &Job, run: RunId, event_file: Option<PathBuf>, reads_on: bool) {
        let paths = LogPaths::of_run(&job.name, run);
        let mut sink = OutputSink::resume(Arc::clone(&self.state), paths, job.exec.capture, job.exec.max_size);
        if reads_on {
            sink.begin("the daemon was restarted");
        }
        self.runs.insert(run, RunFiles { sink, event_file, reported: false });
    }

    /// Joins the logs that an earlier daemon left in parts, but for those of runs that have not ended. `job_of` has the name of the
    /// job of a run, and whether the run has ended, if the state has the run.
    pub fn join_leftovers(&mut self, mut job_of: impl FnMut(RunId) -> Result<Option<(Box<str>, bool)>, StoreError>) {
        let found = logs::leftovers(&self.state).unwrap_or_else(|error| {
            log::warn!("the logs of runs that an earlier daemon did not finish can't be looked for: {error}");
            Vec::new()
        });
        for run in found.into_iter().filter(|run| !self.runs.contains_key(run)) {
            match job_of(run) {
                Ok(Some((job, true))) => self.recover(&job, run),
                Ok(Some((_, false))) => {
                    self.left.insert(run);
                }
                // It was pruned, and its log with it.
                Ok(None) => {
                    if let Err(error) = logs::remove_segments(&self.state, &LogPaths::of_run("", run)) {
                        log::warn!("run {run}: what is left of its log can't be deleted: {error}");
                    }
                }
                Err(error) => log::warn!("run {run}: its log stays in parts: {error}"),
            }
        }
    }

    fn recover(&self, job: &str, run: RunId) {
        if let Err(error) = logs::recover(&self.state, &LogPaths::of_run(job, run)) {
            log::warn!("run {run}: its log stays in parts: {error}");
        }
    }

    /// A run has ended: joins its log if an earlier daemon left it in parts and nothing was written since.
    pub fn finish_left(&mut self, job: &Job, run: RunId) {
        if self.left.remove(&run) && !self.runs.contains_key(&run) {
            self.recover(&job.name, run);
        }
    }

    pub fn event_file(&self, run: RunId) -> Option<&Path> {
        self.runs.get(&run)?.event_file.as_deref()
    }

    /// Reads from a pipe into the run's log, a bounded amount.
    pub fn drain(&mut self, run: RunId, fd: BorrowedFd<'_>) -> Option<Drained> {
        let files = self.runs.get_mut(&run)?;
        let drained = exec::drain(fd, &mut self.buffer, &mut files.sink);
        if let Some(trouble) = files.sink.trouble()
            && !files.reported
        {
            files.reported = true;
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

    /// Nothing is read for now: releases the buffer.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
    }

    /// The run has ended for good: its log is finished, its event's file deleted.
    pub fn finish(&mut self, run: RunId, success: bool) {
        let Some(mut files) = self.runs.remove(&run) else { return };
        if let Err(error) = files.sink.finish(success)
            && !files.reported
        {
            log::error!("run {run}: its output could not be kept: {error}");
        }
        if let Some(path) = files.event_file
            && let Err(error) = std::fs::remove_file(&path)
        {
            log::warn!("{} could not be deleted: {error}", path.display());
        }
    }
}
