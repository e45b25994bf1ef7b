//! What is kept from a run's first attempt to its end: its log and the file of its event.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::config::Job;
use crate::exec::{self, Drained, OutputSink};
use crate::model::RunId;
use crate::store::log_path;

/// The logs of all runs that have output or wait for their end.
#[derive(Default)]
pub(super) struct Logs {
    runs: HashMap<RunId, RunFiles>,
    buffer: Vec<u8>,
}

pub(super) struct RunFiles {
    pub sink: OutputSink,
    pub event_file: Option<PathBuf>,
    /// A failed write of the log was reported.
    reported: bool,
}

impl Logs {
    /// The files of a run; its log is made with the first output.
    pub fn of(&mut self, state_dir: &Path, job: &Job, run: RunId) -> &mut RunFiles {
        self.runs.entry(run).or_insert_with(|| {
            let sink = OutputSink::new(log_path(state_dir, &job.name, run), job.exec.capture, job.exec.max_size);
            RunFiles { sink, event_file: None, reported: false }
        })
    }

    /// Goes on with the files of a run that an earlier daemon started; `reads_on` if its output can still be read.
    pub fn resume(&mut self, state_dir: &Path, job: &Job, run: RunId, event_file: Option<PathBuf>, reads_on: bool) {
        let path = log_path(state_dir, &job.name, run);
        let mut sink = OutputSink::resume(path, job.exec.capture, job.exec.max_size);
        if reads_on {
            sink.begin("the daemon was restarted");
        }
        self.runs.insert(run, RunFiles { sink, event_file, reported: false });
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
