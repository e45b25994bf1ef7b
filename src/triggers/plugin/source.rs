//! The plugin as the reactor drives it: a process, two pipes, and events on their way to the store.
//!
//! What it promises:
//!
//! * events are taken in the order of their lines and handed over in pieces, each of which is in the store before the
//!   next is taken;
//! * while the job's waiting runs fill their window the pipe is not read, so that the plugin waits in its write and
//!   nothing is lost; memory holds a line and a read;
//! * what the plugin has written before its end is taken before it is started again, and before the daemon ends.

use std::time::Duration;

use nix::errno::Errno;
use serde_json::Value;

use super::Plugin;
use super::lines::Lines;
use super::supervision::{Admission, BadLines, Ends, LIVED_WELL, LogShare, Verdict};
use crate::model::{Batch, Elapsed, Exit};
use crate::text::{printable, quoted};
use crate::triggers::{FdId, Readiness, Source, SourceHost};

/// The longest line, which is also the longest payload that a run gets in its environment.
pub(super) const LONGEST_LINE: usize = 64 * 1024;

/// The longest line of stderr that goes into the log whole.
const LONGEST_COMPLAINT: usize = 1024;

/// Events handed over at once.
const PIECE: usize = 1_000;

/// Bytes read of one pipe in one turn, so that a chatty plugin does not starve the others.
const READ_AT_ONCE: usize = 64 * 1024;

/// One read.
const CHUNK: usize = 8 * 1024;

/// How soon events are handed over again that the store refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a plugin may live without a stdout, from which nothing can come any more: a shell takes a moment to see
/// that its pipeline has ended.
const SILENCE: Duration = Duration::from_secs(1);

/// What is kept of a line that is too long, in bytes: more than a quotation shows.
const HEAD: usize = 256;

#[derive(Debug)]
struct Pipe {
    fd: FdId,
    /// It may hold something.
    more: bool,
}

#[derive(Debug)]
struct Process {
    /// Absent once it is closed.
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    since: Elapsed,
    /// When it is ended because its stdout is closed.
    silent_until: Option<Elapsed>,
    /// How it has ended; its pipes may still hold something.
    exit: Option<Exit>,
    /// It has ended, and every line of it was taken.
    is_read: bool,
}

pub(super) struct PluginSource {
    plugin: Plugin,
    process: Option<Process>,
    /// When it is started again.
    start_at: Option<Elapsed>,
    ends: Ends,
    trouble: Option<String>,
    lines: Lines,
    /// The last look left lines that were read and not taken.
    has_lines: bool,
    /// There was no room for runs at the last look.
    is_full: bool,
    /// What the store has been given and not yet acknowledged.
    under_way: Option<Vec<Value>>,
    /// What the store refused, and when it is handed over again.
    refused: Option<(Elapsed, Vec<Value>)>,
    bad: BadLines,
    complaints: Lines,
    log: LogShare,
    /// The daemon ends.
    is_closing: bool,
}

/// What a read found.
enum Found {
    Bytes(usize),
    NothingYet,
    End,
}

impl PluginSource {
    pub(super) fn new(plugin: Plugin) -> PluginSource {
        PluginSource {
            plugin,
            process: None,
            start_at: None,
            ends: Ends::default(),
            trouble: None,
            lines: Lines::new(LONGEST_LINE),
            has_lines: false,
            is_full: false,
            under_way: None,
            refused: None,
            bad: BadLines::default(),
            complaints: Lines::new(LONGEST_COMPLAINT),
            log: LogShare::default(),
            is_closing: false,
        }
    }

    /// Everything that can be done now.
    fn work(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        self.bad.forget_old(now);
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_process(host);
        }
        self.log_complaints(host);
        self.take_events(host);
        self.see_life(host);
        let next = self.next_look(now);
        host.wake_at(next);
        let told = [self.trouble.as_deref(), self.bad.shown()];
        let told: Vec<&str> = told.into_iter().flatten().collect();
        host.warn((!told.is_empty()).then(|| told.join("; ")));
    }

    fn next_look(&self, now: Elapsed) -> Option<Elapsed> {
        let has_more = |pipe: &Option<Pipe>| pipe.as_ref().is_some_and(|pipe| pipe.more);
        let held_up = self.under_way.is_some() || self.refused.is_some() || self.is_full;
        let process = self.process.as_ref();
        let reads = process.is_some_and(|p| has_more(&p.stderr) || (has_more(&p.stdout) || self.has_lines) && !held_up);
        let settles = process.filter(|process| process.exit.is_none() && self.ends.probation().is_some());
        let instants = [
            reads.then_some(now),
            self.start_at,
            self.refused.as_ref().map(|(at, _)| *at),
            process.and_then(|process| process.silent_until),
            settles.map(|process| process.since + LIVED_WELL),
            self.bad.until(),
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
                    silent_until: None,
                    exit: None,
                    is_read: false,
                });
                self.trouble = self.ends.probation();
            }
            Err(reason) => {
                let verdict = self.ends.not_started(&self.plugin, &reason);
                self.judge(host, verdict);
            }
        }
    }

    fn judge(&mut self, host: &mut dyn SourceHost, verdict: Verdict) {
        if self.is_closing {
            return;
        }
        if verdict.again.is_none() && verdict.warning.is_none() {
            let restart = self.plugin.restart.word();
            log::info!("{}: the plugin has ended and is not started again (restart: {restart})", self.plugin.job);
        }
        self.start_at = verdict.again.map(|wait| host.now().elapsed + wait);
        self.trouble = verdict.warning;
    }

    /// Takes what there is room for.
    fn take_events(&mut self, host: &mut dyn SourceHost) {
        if self.under_way.is_some() {
            return;
        }
        if let Some((_, events)) = self.refused.take_if(|(at, _)| self.is_closing || *at <= host.now().elapsed) {
            return self.hand_over(host, events);
        }
        let Some(process) = &self.process else { return };
        let is_due = self.has_lines || process.exit.is_some() || process.stdout.as_ref().is_some_and(|pipe| pipe.more);
        if self.refused.is_some() || !is_due {
            return;
        }
        // At the end of the daemon what was written is kept, wherever there is room: the store has it.
        let room = if self.is_closing { usize::MAX } else { host.room() };
        self.is_full = room == 0;
        let events = self.read_events(host, room.min(if self.is_closing { usize::MAX } else { PIECE }));
        if !events.is_empty() {
            self.hand_over(host, events);
        }
    }

    fn hand_over(&mut self, host: &mut dyn SourceHost, events: Vec<Value>) {
        self.under_way = Some(events.clone());
        host.emit(Batch { events, ..Batch::default() });
    }

    /// At most so many events.
    fn read_events(&mut self, host: &mut dyn SourceHost, room: usize) -> Vec<Value> {
        let mut events = Vec::new();
        let mut read = 0;
        loop {
            self.has_lines = !self.cut_lines(host, &mut events, room);
            let Some(Process { stdout, exit, .. }) = &mut self.process else { return events };
            if self.has_lines {
                return events;
            }
            let Some(pipe) = stdout else { break };
            let mut chunk = [0; CHUNK];
            match read_from(host, pipe.fd, &mut chunk) {
                Found::Bytes(count) => {
                    self.lines.push(&chunk[..count]);
                    read += count;
                    // Of one that has ended no more can come than a pipe holds; at the daemon's end it is all taken
                    // at once.
                    if read >= READ_AT_ONCE && !(self.is_closing && exit.is_some()) {
                        self.has_lines = true;
                        return events;
                    }
                }
                // Whoever still holds the pipe open was no part of the plugin.
                Found::NothingYet if exit.is_none() => {
                    pipe.more = false;
                    return events;
                }
                Found::NothingYet | Found::End => {
                    host.drop_fd(pipe.fd);
                    *stdout = None;
                }
            }
        }
        if let Some(process) = self.process.as_mut().filter(|process| process.exit.is_some()) {
            process.is_read = true;
            if let Some((number, rest)) = self.lines.finish() {
                match parse(&rest) {
                    Ok(event) => events.extend(event),
                    Err(_) => self.report(host, number, "the plugin ended in the middle of it", &rest),
                }
            }
        }
        events
    }

    /// Turns the lines that were read into events; false if there was no room for all of them.
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
        self.tell_dropped(admitted);
        let reason = format!("{reason}: {}", quoted(String::from_utf8_lossy(line).trim_end()));
        self.bad.add(now, number, &reason, matches!(admitted, Admission::Yes(_)));
    }

    /// What the plugin writes to its stderr goes into the daemon's log.
    fn log_complaints(&mut self, host: &mut dyn SourceHost) {
        let mut read = 0;
        while read < READ_AT_ONCE {
            let Some(Process { stderr: stderr @ Some(_), exit, .. }) = &mut self.process else { return };
            let Some(pipe) = stderr.as_mut().filter(|pipe| pipe.more) else { return };
            let mut chunk = [0; CHUNK];
            match read_from(host, pipe.fd, &mut chunk) {
                Found::Bytes(count) => {
                    self.complaints.push(&chunk[..count]);
                    read += count;
                }
                Found::NothingYet if exit.is_none() => pipe.more = false,
                Found::NothingYet | Found::End => {
                    host.drop_fd(pipe.fd);
                    *stderr = None;
                    self.log_lines(host);
                    if let Some((_, rest)) = self.complaints.finish() {
                        self.log_one(host.now().elapsed, &rest, "");
                    }
                }
            }
            self.log_lines(host);
        }
    }

    fn log_lines(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        while let Some(line) = self.complaints.next() {
            let (bytes, mark) = (line.bytes.to_vec(), if line.is_too_long { "…" } else { "" });
            self.log_one(now, &bytes, mark);
        }
    }

    fn log_one(&mut self, now: Elapsed, line: &[u8], mark: &str) {
        let admitted = self.log.admit(now);
        self.tell_dropped(admitted);
        if let Admission::Yes(_) = admitted {
            log::info!("{}: plugin: {}{mark}", self.plugin.job, printable(String::from_utf8_lossy(line).trim_end()));
        }
    }

    fn tell_dropped(&self, admitted: Admission) {
        let job = &self.plugin.job;
        match admitted {
            Admission::Yes(0) | Admission::No => {}
            Admission::Yes(count) => log::warn!("{job}: {count} lines about the plugin were left out of the log"),
            Admission::FirstRefused => log::warn!("{job}: the plugin fills the log; the rest of these 10s is left out"),
        }
    }

    /// Sees whether the plugin has ended, has fallen silent, or has lived well.
    fn see_life(&mut self, host: &mut dyn SourceHost) {
        let now = host.now().elapsed;
        let Some(process) = &mut self.process else { return };
        match process.exit {
            None if process.stdout.is_none() => {
                let until = *process.silent_until.get_or_insert(now + SILENCE);
                if until <= now {
                    log::warn!("{}: the plugin has closed its stdout, so nothing can come from it; it is ended", self.plugin.job);
                    process.silent_until = Some(now + LIVED_WELL);
                    host.end_child();
                }
            }
            None if process.since + LIVED_WELL <= now && self.ends.probation().is_some() => {
                self.ends.forget();
                self.trouble = None;
            }
            Some(exit) if process.is_read && process.stderr.is_none() => {
                let lived = now.since(process.since);
                self.process = None;
                match self.log.take_dropped() {
                    0 => {}
                    count => self.tell_dropped(Admission::Yes(count)),
                }
                let verdict = self.ends.ended(&self.plugin, exit, lived);
                self.judge(host, verdict);
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
            Readiness::Recorded => self.under_way = None,
            Readiness::NotRecorded => match self.under_way.take() {
                Some(events) if self.is_closing => {
                    log::error!("{}: {} events of the plugin could not be stored and are lost", self.plugin.job, events.len());
                }
                Some(events) => self.refused = Some((host.now().elapsed + PATIENCE, events)),
                None => {}
            },
            Readiness::Exited(exit) => {
                if let Some(process) = &mut self.process {
                    process.exit = Some(exit);
                    process.silent_until = None;
                    [&mut process.stdout, &mut process.stderr].into_iter().flatten().for_each(|pipe| pipe.more = true);
                }
            }
            Readiness::Message(_) | Readiness::RunEnded { .. } => {
                debug_assert!(false, "no other thread knows this source, and it follows no runs");
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

fn read_from(host: &dyn SourceHost, fd: FdId, chunk: &mut [u8]) -> Found {
    let Some(fd) = host.fd(fd) else { return Found::End };
    loop {
        match nix::unistd::read(fd, chunk) {
            Ok(0) => return Found::End,
            Ok(count) => return Found::Bytes(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Found::NothingYet,
            // A pipe has no other error; whatever it is, nothing more will come.
            Err(_) => return Found::End,
        }
    }
}

/// The event of a line; a blank one has none.
fn parse(line: &[u8]) -> Result<Option<Value>, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8 after byte {}", error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| {
        let said = error.to_string();
        // Each text is one line, so only the column says something.
        let said = said.split(" at line ").next().unwrap_or(&said);
        format!("it is not JSON ({said} at column {})", error.column())
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
