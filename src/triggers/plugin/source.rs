//! The plugin as the reactor drives it: a process, two pipes, and batches of events.
//!
//! Guarantees:
//!
//! * events are read in the order of their lines and emitted in batches, each of which is stored before the next one;
//! * while the job has as many pending runs in memory as it may, the pipe is not read, so that the plugin blocks in write(2)
//!   and nothing is lost; memory holds one line and one read;
//! * output that the plugin wrote before its exit is read before it is restarted, and before the daemon exits.

use std::time::Duration;

use nix::errno::Errno;
use serde_json::Value;

use super::Plugin;
use super::lines::Lines;
use super::supervision::{Admission, BadLines, LogThrottle, NextStart, Restarts, STABLE_AFTER};
use crate::model::{Batch, Elapsed, Exit};
use crate::text::{printable, quoted};
use crate::triggers::{FdId, Readiness, Source, SourceHost};

/// The longest line, in bytes; also the longest payload that fits in a run's environment.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// The longest line of stderr that is logged whole, in bytes.
const MAX_STDERR_LINE: usize = 1024;

/// Events in one batch.
const BATCH_SIZE: usize = 1_000;

/// Bytes read from one pipe in one turn, so that a verbose plugin does not starve others.
const READ_PER_TURN: usize = 64 * 1024;

/// Bytes in one read(2).
const CHUNK: usize = 8 * 1024;

/// The delay before events that could not be stored are emitted again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// How long a plugin may run with a closed stdout, from which no event can come: a shell takes a moment to notice that its
/// pipeline has ended.
const STDOUT_CLOSED_GRACE: Duration = Duration::from_secs(1);

/// What is kept of a line that is too long, in bytes: more than a quotation shows.
const HEAD: usize = 256;

#[derive(Debug)]
struct Pipe {
    fd: FdId,
    /// It may be readable.
    more: bool,
}

#[derive(Debug)]
struct Process {
    /// `None` once it is closed.
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    since: Elapsed,
    /// When it is terminated because its stdout is closed.
    end_at: Option<Elapsed>,
    /// How it exited; its pipes may still hold output.
    exit: Option<Exit>,
    /// It has exited, and all of its output was read.
    is_drained: bool,
}

pub(super) struct PluginSource {
    plugin: Plugin,
    process: Option<Process>,
    /// When it is started.
    start_at: Option<Elapsed>,
    restarts: Restarts,
    warning: Option<String>,
    lines: Lines,
    /// Lines were read and not parsed yet.
    has_unread_lines: bool,
    /// The job had no room for runs at the last check.
    is_full: bool,
    /// The batch in flight.
    in_flight: Option<Vec<Value>>,
    /// Events that could not be stored, and when they are emitted again.
    refused: Option<(Elapsed, Vec<Value>)>,
    bad_lines: BadLines,
    stderr_lines: Lines,
    log: LogThrottle,
    /// The daemon shuts down.
    is_closing: bool,
}

/// The result of a read.
enum Read {
    Bytes(usize),
    WouldBlock,
    End,
}

impl PluginSource {
    pub(super) fn new(plugin: Plugin) -> PluginSource {
        PluginSource {
            plugin,
            process: None,
            start_at: None,
            restarts: Restarts::default(),
            warning: None,
            lines: Lines::new(MAX_LINE),
            has_unread_lines: false,
            is_full: false,
            in_flight: None,
            refused: None,
            bad_lines: BadLines::default(),
            stderr_lines: Lines::new(MAX_STDERR_LINE),
            log: LogThrottle::default(),
            is_closing: false,
        }
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        self.bad_lines.expire(now);
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_process(host);
        }
        self.log_stderr(host);
        self.take_events(host);
        self.check_process(host);
        let next = self.next_wake(now);
        host.wake_at(next);
        let warnings = [self.warning.as_deref(), self.bad_lines.shown()];
        let warnings: Vec<&str> = warnings.into_iter().flatten().collect();
        host.warn((!warnings.is_empty()).then(|| warnings.join("; ")));
    }

    fn next_wake(&self, now: Elapsed) -> Option<Elapsed> {
        let has_more = |pipe: &Option<Pipe>| pipe.as_ref().is_some_and(|pipe| pipe.more);
        let is_blocked = self.in_flight.is_some() || self.refused.is_some() || self.is_full;
        let process = self.process.as_ref();
        let reads = process.is_some_and(|p| has_more(&p.stderr) || (has_more(&p.stdout) || self.has_unread_lines) && !is_blocked);
        let stabilizes = process.filter(|process| process.exit.is_none() && self.restarts.restart_warning().is_some());
        let instants = [
            reads.then_some(now),
            self.start_at,
            self.refused.as_ref().map(|(at, _)| *at),
            process.and_then(|process| process.end_at),
            stabilizes.map(|process| process.since + STABLE_AFTER),
            self.bad_lines.until(),
        ];
        instants.into_iter().flatten().min()
    }

    fn start_process(&mut self, host: &mut dyn SourceHost) {
        self.start_at = None;
        match host.start_child(&self.plugin.action) {
            Ok(pipes) => {
                let pipe = |fd| Some(Pipe { fd, more: false });
                self.process = Some(Process {
                    stdout: pipe(pipes.stdout),
                    stderr: pipe(pipes.stderr),
                    since: host.now().elapsed,
                    end_at: None,
                    exit: None,
                    is_drained: false,
                });
                self.warning = self.restarts.restart_warning();
            }
            Err(reason) => {
                let next = self.restarts.failed_to_start(&self.plugin, &reason);
                self.schedule_start(host, next);
            }
        }
    }

    fn schedule_start(&mut self, host: &mut dyn SourceHost, next: NextStart) {
        if self.is_closing {
            return;
        }
        if next.delay.is_none() && next.warning.is_none() {
            let restart = self.plugin.restart.word();
            log::info!("{}: the plugin has exited and is not restarted (restart: {restart})", self.plugin.job);
        }
        self.start_at = next.delay.map(|delay| host.now().elapsed + delay);
        self.warning = next.warning;
    }

    /// Reads as many events as the job has room for.
    fn take_events(&mut self, host: &mut dyn SourceHost) {
        if self.in_flight.is_some() {
            return;
        }
        if let Some((_, events)) = self.refused.take_if(|(at, _)| self.is_closing || *at <= host.now().elapsed) {
            return self.emit(host, events);
        }
        let Some(process) = &self.process else { return };
        let is_due = self.has_unread_lines || process.exit.is_some() || process.stdout.as_ref().is_some_and(|pipe| pipe.more);
        if self.refused.is_some() || !is_due {
            return;
        }
        // At shutdown everything is read: the store has room.
        let room = if self.is_closing { usize::MAX } else { host.room() };
        self.is_full = room == 0;
        let events = self.read_events(host, room.min(if self.is_closing { usize::MAX } else { BATCH_SIZE }));
        if !events.is_empty() {
            self.emit(host, events);
        }
    }

    fn emit(&mut self, host: &mut dyn SourceHost, events: Vec<Value>) {
        self.in_flight = Some(events.clone());
        host.emit(Batch { events, ..Batch::default() });
    }

    /// Reads up to `room` events.
    fn read_events(&mut self, host: &mut dyn SourceHost, room: usize) -> Vec<Value> {
        let mut events = Vec::new();
        let mut read = 0;
        loop {
            self.has_unread_lines = !self.cut_lines(host, &mut events, room);
            let Some(Process { stdout, exit, .. }) = &mut self.process else { return events };
            if self.has_unread_lines {
                return events;
            }
            let Some(pipe) = stdout else { break };
            let mut chunk = [0; CHUNK];
            match read_from(host, pipe.fd, &mut chunk) {
                Read::Bytes(count) => {
                    self.lines.push(&chunk[..count]);
                    read += count;
                    // After the exit there is no more than a pipe holds, which is read at once at shutdown.
                    if read >= READ_PER_TURN && !(self.is_closing && exit.is_some()) {
                        self.has_unread_lines = true;
                        return events;
                    }
                }
                // After the exit, the pipe is held open by a process that is not part of the plugin.
                Read::WouldBlock if exit.is_none() => {
                    pipe.more = false;
                    return events;
                }
                Read::WouldBlock | Read::End => {
                    host.drop_fd(pipe.fd);
                    *stdout = None;
                }
            }
        }
        if let Some(process) = self.process.as_mut().filter(|process| process.exit.is_some()) {
            process.is_drained = true;
            if let Some((number, rest)) = self.lines.finish() {
                match parse(&rest) {
                    Ok(event) => events.extend(event),
                    Err(_) => self.report(host, number, "the plugin exited in the middle of it", &rest),
                }
            }
        }
        events
    }

    /// Parses the lines that were read; false if there was no room for all of their events.
    fn cut_lines(&mut self, host: &mut dyn SourceHost, events: &mut Vec<Value>, room: usize) -> bool {
        loop {
            if events.len() >= room {
                return false;
            }
            let Some(line) = self.lines.next() else { return true };
            if line.is_too_long {
                let (number, head) = (line.number, line.bytes[..HEAD].to_vec());
                self.report(host, number, "it is longer than 64 KiB", &head);
                continue;
            }
            match parse(line.bytes) {
                Ok(event) => events.extend(event),
                Err(reason) => {
                    let (number, bytes) = (line.number, line.bytes.to_vec());
                    self.report(host, number, &reason, &bytes);
                }
            }
        }
    }

    fn report(&mut self, host: &mut dyn SourceHost, number: u64, reason: &str, line: &[u8]) {
        let now = host.now().elapsed;
        let admitted = self.log.admit(now);
        self.log_suppressed(admitted);
        let reason = format!("{reason}: {}", quoted(String::from_utf8_lossy(line).trim_end()));
        self.bad_lines.add(now, number, &reason, matches!(admitted, Admission::Yes(_)));
    }

    /// Logs what the plugin writes to its stderr.
    fn log_stderr(&mut self, host: &mut dyn SourceHost) {
        let mut read = 0;
        while read < READ_PER_TURN {
            let Some(Process { stderr: stderr @ Some(_), exit, .. }) = &mut self.process else { return };
            let Some(pipe) = stderr.as_mut().filter(|pipe| pipe.more) else { return };
            let mut chunk = [0; CHUNK];
            match read_from(host, pipe.fd, &mut chunk) {
                Read::Bytes(count) => {
                    self.stderr_lines.push(&chunk[..count]);
                    read += count;
                }
                Read::WouldBlock if exit.is_none() => pipe.more = false,
                Read::WouldBlock | Read::End => {
                    host.drop_fd(pipe.fd);
                    *stderr = None;
                    self.log_lines(host);
                    if let Some((_, rest)) = self.stderr_lines.finish() {
                        self.log_one(host.now().elapsed, &rest, "");
                    }
                }
            }
            self.log_lines(host);
        }
    }

    fn log_lines(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        while let Some(line) = self.stderr_lines.next() {
            let (bytes, mark) = (line.bytes.to_vec(), if line.is_too_long { "…" } else { "" });
            self.log_one(now, &bytes, mark);
        }
    }

    fn log_one(&mut self, now: Elapsed, line: &[u8], mark: &str) {
        let admitted = self.log.admit(now);
        self.log_suppressed(admitted);
        if let Admission::Yes(_) = admitted {
            log::info!("{}: plugin: {}{mark}", self.plugin.job, printable(String::from_utf8_lossy(line).trim_end()));
        }
    }

    fn log_suppressed(&self, admitted: Admission) {
        let job = &self.plugin.job;
        match admitted {
            Admission::Yes(0) | Admission::No => {}
            Admission::Yes(count) => log::warn!("{job}: suppressed {count} log lines about the plugin"),
            Admission::FirstSuppressed => {
                log::warn!("{job}: too many log lines about the plugin; suppressing further lines for up to 10 s")
            }
        }
    }

    /// Checks whether the plugin has exited, has closed its stdout, or is stable.
    fn check_process(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        let Some(process) = &mut self.process else { return };
        match process.exit {
            None if process.stdout.is_none() => {
                let until = *process.end_at.get_or_insert(now + STDOUT_CLOSED_GRACE);
                if until <= now {
                    log::warn!(
                        "{}: the plugin has closed its stdout and can send no more events; terminating it",
                        self.plugin.job
                    );
                    process.end_at = Some(now + STABLE_AFTER);
                    host.end_child();
                }
            }
            None if process.since + STABLE_AFTER <= now && self.restarts.restart_warning().is_some() => {
                self.restarts.reset();
                self.warning = None;
            }
            Some(exit) if process.is_drained && process.stderr.is_none() => {
                let uptime = now.since(process.since);
                self.process = None;
                match self.log.take_suppressed() {
                    0 => {}
                    count => self.log_suppressed(Admission::Yes(count)),
                }
                let next = self.restarts.exited(&self.plugin, exit, uptime);
                self.schedule_start(host, next);
            }
            None | Some(_) => {}
        }
    }

    fn pipe_is_ready(&mut self, fd: FdId) {
        let Some(process) = &mut self.process else { return };
        for pipe in [&mut process.stdout, &mut process.stderr].into_iter().flatten() {
            pipe.more |= pipe.fd == fd;
        }
    }
}

impl Source for PluginSource {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        self.start_at = Some(host.now().elapsed);
        self.work(host);
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        match what {
            Readiness::Fd(fd) => self.pipe_is_ready(fd),
            Readiness::Timer => {}
            Readiness::Room => self.is_full = false,
            Readiness::Recorded => self.in_flight = None,
            Readiness::NotRecorded => match self.in_flight.take() {
                Some(events) if self.is_closing => {
                    log::error!("{}: {} events of the plugin could not be stored and are lost", self.plugin.job, events.len());
                }
                Some(events) => self.refused = Some((host.now().elapsed + RETRY_DELAY, events)),
                None => {}
            },
            Readiness::Exited(exit) => {
                if let Some(process) = &mut self.process {
                    process.exit = Some(exit);
                    process.end_at = None;
                    [&mut process.stdout, &mut process.stderr].into_iter().flatten().for_each(|pipe| pipe.more = true);
                }
            }
            Readiness::NotStarted(reason) => {
                if let Some(process) = self.process.take() {
                    [process.stdout, process.stderr].into_iter().flatten().for_each(|pipe| host.drop_fd(pipe.fd));
                }
                let next = self.restarts.failed_to_start(&self.plugin, &reason);
                self.schedule_start(host, next);
            }
            Readiness::Message(_) | Readiness::Files { .. } | Readiness::MountsChanged | Readiness::RunEnded { .. } => {
                debug_assert!(false, "this source has no mailbox, and follows no runs");
            }
        }
        self.work(host);
    }

    fn close(&mut self, host: &mut dyn SourceHost) {
        self.is_closing = true;
        self.is_full = false;
        self.start_at = None;
        host.end_child();
        self.work(host);
    }

    fn stop(&mut self, host: &mut dyn SourceHost) {
        host.wake_at(None);
    }
}

fn read_from(host: &dyn SourceHost, fd: FdId, chunk: &mut [u8]) -> Read {
    let Some(fd) = host.fd(fd) else { return Read::End };
    loop {
        match nix::unistd::read(fd, chunk) {
            Ok(0) => return Read::End,
            Ok(count) => return Read::Bytes(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Read::WouldBlock,
            // Pipes have no other errors; nothing more can be read.
            Err(_) => return Read::End,
        }
    }
}

/// Parses a line; a blank one is no event.
fn parse(line: &[u8]) -> Result<Option<Value>, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8 after byte {}", error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| {
        let said = error.to_string();
        // The text is one line, so only the column is of interest.
        let said = said.split(" at line ").next().unwrap_or(&said);
        format!("it is not JSON ({said} at column {})", error.column())
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
