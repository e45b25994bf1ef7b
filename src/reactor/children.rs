//! The processes of running runs: their exits, their output, their logs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::{Interest, Token};

use super::hooks::How;
use super::io::{Io, What};
use crate::config::Job;
use crate::engine::{Spawn, StopSignal};
use crate::exec::spec::{Action, Limits};
use crate::exec::{
    self, Adopted, Cgroup, Cgroups, Child, Drained, EventDelivery, GroupSignal, Known, Launch, NotDelegated, OutputSink,
    PendingSpawn,
};
use crate::model::{Attempt, Exit, Pid, RunId, TriggerWord, WallTime};
use crate::store::{log_path, split_exit};

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
    /// The control group that it alone is in.
    cgroup: Option<Cgroup>,
}

/// What a process is told about its run.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub run: RunId,
    pub attempt: Attempt,
    pub trigger: TriggerWord,
    pub scheduled_at: WallTime,
    pub event: Option<&'a str>,
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

/// A process that may not have executed its program yet.
struct ComingUp {
    run: RunId,
    begun: PendingSpawn,
    cgroup: Option<Cgroup>,
}

/// All of them.
pub(super) struct Children {
    state_dir: PathBuf,
    start_dir: PathBuf,
    /// By which a job can talk to its daemon.
    socket: PathBuf,
    watched: HashMap<RunId, Watched>,
    /// Processes that may not have executed their programs yet.
    starting: Vec<ComingUp>,
    /// Processes that have ended and are still to be reaped, and pipes that are still to be closed: the kernel takes some
    /// microseconds for each, which what comes next need not wait for.
    dead: Vec<Child>,
    ended: Vec<OwnedFd>,
    files: HashMap<RunId, RunFiles>,
    /// Pipes with more to read.
    readable: HashSet<RunId>,
    buffer: Vec<u8>,
    /// The control group in which runs get theirs, or why there is none.
    cgroups: Result<Cgroups, NotDelegated>,
}

/// How a process ended.
pub(super) enum Ended {
    /// With this status.
    Exited {
        exit: Exit,
        /// The kernel killed of its processes because they reached their limit of memory.
        out_of_memory: bool,
    },
    /// It was adopted: nobody knows.
    ExitUnknown,
}

/// How many processes come up at once: more than any of these machines has processors. Each takes a stack meanwhile.
const STARTING: usize = 32;

/// What is still read of a pipe after its process has ended: a pipe's largest usual capacity. Whoever holds it open
/// beyond that writes into the void.
const LAST_DRAIN: usize = 1 << 20;

impl Children {
    pub fn new(state_dir: PathBuf, start_dir: PathBuf, socket: PathBuf) -> Children {
        Children {
            cgroups: Err(NotDelegated::not_needed()),
            state_dir,
            start_dir,
            socket,
            watched: HashMap::new(),
            starting: Vec::new(),
            dead: Vec::new(),
            ended: Vec::new(),
            files: HashMap::new(),
            readable: HashSet::new(),
            buffer: Vec::new(),
        }
    }

    /// Looks for the control group in which runs get theirs, if one of these jobs has a use for that: it takes the daemon
    /// into a leaf.
    pub fn look_for_groups(&mut self, jobs: &[Job]) {
        if self.cgroups.is_err() && jobs.iter().any(|job| job.exec.limits.are_of_the_whole_run()) {
            self.cgroups = Cgroups::open();
        }
    }

    /// True if so many come up at once that it is time to [settle](Children::settle) them.
    pub fn is_full(&self) -> bool {
        self.starting.len() >= STARTING
    }

    /// True for a run whose process may not have executed its program yet.
    pub fn is_coming_up(&self, run: RunId) -> bool {
        self.starting.iter().any(|other| other.run == run)
    }

    /// True if that is so of any.
    pub fn are_coming_up(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Begins to start an attempt. [`Children::settle`] tells whether that works.
    ///
    /// # Errors
    /// A sentence for a person: the run's reason.
    pub fn begin(&mut self, job: &Job, spawn: &Spawn) -> Result<(), String> {
        let mut event_file = None;
        if let Some(event) = spawn.event.as_deref() {
            let delivery = exec::deliver_event(event, &self.state_dir.join("events"), spawn.run);
            if let EventDelivery::File(path) = delivery.map_err(|error| error.to_string())? {
                event_file = Some(path);
            }
        }
        let about = About {
            run: spawn.run,
            attempt: spawn.attempt,
            trigger: spawn.trigger,
            scheduled_at: spawn.scheduled_at,
            event: spawn.event.as_deref(),
        };
        let vars = self.vars(job, &about, event_file.as_deref());
        let vars = borrowed(&vars);
        let rest;
        let cgroup = match &self.cgroups {
            Ok(cgroups) if job.exec.limits.are_of_the_whole_run() => {
                rest = cgroups.rest(&job.exec.limits);
                let made = cgroups.make(spawn.run, spawn.attempt, &job.exec.limits);
                Some(made.map_err(|error| format!("its control group can't be made: {error}"))?)
            }
            _ => {
                rest = Limits::default();
                None
            }
        };
        let launch = Launch {
            action: &job.action,
            exec: &job.exec,
            start_dir: &self.start_dir,
            vars: &vars,
            cgroup: cgroup.as_ref().map(|cgroup| (cgroup.door(), &rest)),
        };
        let begun = exec::begin(&launch);
        let files = self.files_of(job, spawn.run);
        if event_file.is_some() {
            files.event_file = event_file;
        }
        if spawn.attempt > Attempt(1) {
            files.sink.begin_attempt(spawn.attempt);
        }
        match begun {
            Ok(begun) => {
                self.starting.push(ComingUp { run: spawn.run, begun, cgroup });
                Ok(())
            }
            Err(error) => {
                cgroup.map(|cgroup| self.end_group(cgroup));
                Err(error.to_string())
            }
        }
    }

    /// Watches those that have come up since this was called last, and tells of each its process or, as a sentence for a
    /// person, why it has none. Waits for the others if that is asked for.
    pub fn settle(&mut self, io: &mut Io, wait: bool) -> Vec<(RunId, Result<Pid, String>)> {
        let up: Vec<ComingUp> = self.starting.extract_if(.., |one| wait || one.begun.has_execed()).collect();
        up.into_iter().map(|one| (one.run, self.settle_one(io, one))).collect()
    }

    fn settle_one(&mut self, io: &mut Io, ComingUp { run, begun, cgroup }: ComingUp) -> Result<Pid, String> {
        let started = begun.wait_for_exec().map_err(|error| error.to_string()).and_then(|mut child| {
            let watched = watch(io, What::Exit(run), What::Output(run), &mut child);
            Ok((watched.map_err(|error| format!("its process can't be watched: {error}"))?, child))
        });
        match started {
            Ok(((exit, output), child)) => {
                let pid = child.pid();
                self.watched.insert(run, Watched { process: Process::Own(child), exit, output, cgroup });
                Ok(pid)
            }
            Err(reason) => {
                cgroup.map(|cgroup| self.end_group(cgroup));
                Err(reason)
            }
        }
    }

    /// The variables by which a process knows its run.
    fn vars(&self, job: &Job, about: &About<'_>, event_file: Option<&Path>) -> Vec<(String, OsString)> {
        let mut vars = vec![
            (STATE_DIR.to_owned(), self.state_dir.clone().into()),
            ("FIRELINK_SOCKET".to_owned(), self.socket.clone().into()),
            ("FIRELINK_JOB".to_owned(), job.name.to_string().into()),
            ("FIRELINK_RUN_ID".to_owned(), about.run.to_string().into()),
            ("FIRELINK_ATTEMPT".to_owned(), about.attempt.to_string().into()),
            ("FIRELINK_TRIGGER".to_owned(), about.trigger.to_string().into()),
            ("FIRELINK_SCHEDULED_AT".to_owned(), job.zone.rfc3339(about.scheduled_at).into()),
        ];
        match event_file {
            Some(path) => vars.push(("FIRELINK_EVENT_FILE".to_owned(), path.into())),
            None => vars.push(("FIRELINK_EVENT".to_owned(), about.event.unwrap_or("null").into())),
        }
        if let Some(value) = about.event.and_then(|event| serde_json::from_str(event).ok()) {
            vars.extend(job.trigger.event_env(&value));
        }
        vars
    }

    /// The variables by which a plugin knows whose it is, and by which it is found.
    pub fn source_vars(&self, job: &str, trigger: TriggerWord) -> Vec<(String, String)> {
        vec![
            (STATE_DIR.to_owned(), self.state_dir.display().to_string()),
            ("FIRELINK_SOCKET".to_owned(), self.socket.display().to_string()),
            ("FIRELINK_JOB".to_owned(), job.to_owned()),
            ("FIRELINK_TRIGGER".to_owned(), trigger.to_string()),
            (exec::PLUGIN.to_owned(), "1".to_owned()),
        ]
    }

    /// Entries of a plugin's environment: of one job, or of all of this state.
    pub fn source_marks(&self, job: Option<&str>) -> Vec<String> {
        let state_dir = format!("{STATE_DIR}={}", self.state_dir.display());
        [state_dir].into_iter().chain(job.map(|job| format!("FIRELINK_JOB={job}"))).collect()
    }

    /// Where the daemon was started.
    pub fn start_dir(&self) -> &Path {
        &self.start_dir
    }

    /// Starts a command that follows a run, in the surroundings of the run, and marks its beginning in the log.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn start_hook(&mut self, job: &Job, action: &Action, about: &About<'_>, how: &How<'_>) -> Result<Child, String> {
        let event_file = self.files.get(&about.run).and_then(|files| files.event_file.clone());
        let mut vars = self.vars(job, about, event_file.as_deref());
        let (code, signal) = split_exit(how.exit);
        vars.push(("FIRELINK_STATE".to_owned(), how.state.as_str().into()));
        vars.push(("FIRELINK_EXIT_CODE".to_owned(), code.map(|code| code.to_string()).unwrap_or_default().into()));
        vars.push(("FIRELINK_SIGNAL".to_owned(), signal.unwrap_or_default().into()));
        vars.push(("FIRELINK_REASON".to_owned(), how.reason.into()));
        let vars = borrowed(&vars);
        let launch = Launch { action, exec: &job.exec, start_dir: &self.start_dir, vars: &vars, cgroup: None };
        let child = exec::spawn(&launch).map_err(|error| error.to_string())?;
        self.files_of(job, about.run).sink.begin(how.hook.word());
        Ok(child)
    }

    fn files_of(&mut self, job: &Job, run: RunId) -> &mut RunFiles {
        self.files.entry(run).or_insert_with(|| RunFiles {
            sink: OutputSink::new(log_path(&self.state_dir, &job.name, run), job.exec.capture, job.exec.max_size),
            event_file: None,
            told: false,
        })
    }

    /// The process of an attempt that an earlier daemon had no time to write down.
    pub fn find(&self, run: RunId, attempt: Attempt) -> Option<Pid> {
        let state_dir = format!("{STATE_DIR}={}", self.state_dir.display());
        exec::find_leader(&[state_dir, format!("FIRELINK_RUN_ID={run}"), format!("FIRELINK_ATTEMPT={attempt}")])
    }

    /// Watches a process that a daemon before this one started, and reads on where that one left off.
    ///
    /// # Errors
    /// When its end can't be watched.
    pub fn adopt(&mut self, io: &mut Io, job: &Job, (run, attempt): (RunId, Attempt), adopted: Adopted) -> io::Result<()> {
        let exit = io.watch(adopted.as_fd().as_raw_fd(), What::Exit(run), Interest::READABLE)?;
        let output = adopted.open_output().and_then(|fd| {
            let token = io.watch(fd.as_raw_fd(), What::Output(run), Interest::READABLE).ok()?;
            Some((fd, token))
        });
        let path = log_path(&self.state_dir, &job.name, run);
        let mut sink = OutputSink::resume(path, job.exec.capture, job.exec.max_size);
        if output.is_some() {
            sink.begin("the daemon was restarted");
        }
        let event_file = Some(exec::event_path(&self.state_dir.join("events"), run)).filter(|path| path.exists());
        self.files.insert(run, RunFiles { sink, event_file, told: false });
        let cgroup = self.cgroups.as_ref().ok().and_then(|cgroups| cgroups.find(run, attempt));
        self.watched.insert(run, Watched { process: Process::Adopted(adopted), exit: Some(exit), output, cgroup });
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

    /// The pipe of a run is empty, and everybody has closed the other end.
    pub fn output_ended(&mut self, io: &mut Io, run: RunId) {
        self.readable.remove(&run);
        self.close_output(io, run);
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
        drain_into(&mut self.files, &mut self.buffer, run, fd.as_fd())
    }

    /// Reads from the pipe of a run's hook into the run's log.
    pub fn drain_hook(&mut self, run: RunId, fd: BorrowedFd<'_>) -> Option<Drained> {
        let drained = drain_into(&mut self.files, &mut self.buffer, run, fd);
        self.rest();
        drained
    }

    /// The buffer is only needed while something is read.
    fn rest(&mut self) {
        if self.readable.is_empty() && self.watched.is_empty() {
            self.buffer = Vec::new();
        }
    }

    fn close_output(&mut self, io: &mut Io, run: RunId) {
        if let Some((fd, token)) = self.watched.get_mut(&run).and_then(|watched| watched.output.take()) {
            io.let_go(token);
            self.ended.push(fd);
        }
    }

    /// The process of a run may have ended: if so, what is left in its pipe is read and everything of it released.
    pub fn reap(&mut self, io: &mut Io, run: RunId) -> Option<Ended> {
        let exit = match &mut self.watched.get_mut(&run)?.process {
            Process::Own(child) => match child.ended() {
                Ok(exit) => Some(exit?),
                Err(error) => {
                    log::error!("run {run}: its exit can't be read: {error}");
                    None
                }
            },
            Process::Adopted(adopted) => {
                if adopted.is_alive() {
                    return None;
                }
                // Asked first: its parent may be about to reap it.
                let exit = adopted.exit();
                end_rest(run, adopted);
                exit
            }
        };
        // Before the last look at the pipe, which whoever is left may hold open.
        let cgroup = self.watched.get_mut(&run).and_then(|watched| watched.cgroup.take());
        let out_of_memory = cgroup.is_some_and(|cgroup| self.end_group(cgroup));
        let mut read = 0;
        while read < LAST_DRAIN && matches!(self.drain(run), Some(Drained::More)) {
            read += exec::DRAIN_AT_ONCE;
        }
        self.close_output(io, run);
        self.readable.remove(&run);
        if let Some(watched) = self.watched.remove(&run)
            && let Some(token) = watched.exit
        {
            // Its pidfd is closed with it, before the loop waits again.
            io.let_go(token);
            if let Process::Own(child) = watched.process {
                self.dead.push(child);
            }
        }
        self.rest();
        Some(exit.map_or(Ended::ExitUnknown, |exit| Ended::Exited { exit, out_of_memory }))
    }

    /// Reaps those that have ended, and closes their pipes.
    pub fn bury(&mut self) {
        self.dead.clear();
        self.ended.clear();
    }

    /// What is left in the control group of a run that is over is ended; true if its memory had run out.
    fn end_group(&mut self, cgroup: Cgroup) -> bool {
        self.cgroups.as_mut().is_ok_and(|cgroups| cgroups.end(cgroup))
    }

    /// Removes the control groups of which everything has died by now; if there are others, when to look again.
    pub fn bury_groups(&mut self) -> Option<Duration> {
        let cgroups = self.cgroups.as_mut().ok()?;
        cgroups.remove_empty();
        cgroups.look_again_after()
    }

    /// Ends what daemons before this one left in control groups of runs that are not watched.
    pub fn end_groups_of_others(&mut self) {
        if let Ok(cgroups) = &mut self.cgroups {
            cgroups.end_leftovers(self.watched.values().filter_map(|watched| watched.cgroup.as_ref()));
        }
    }

    /// Why these limits are not kept by a control group; `None` if they are, or need none.
    pub fn why_no_group(&self, limits: &Limits) -> Option<String> {
        match &self.cgroups {
            _ if !limits.are_of_the_whole_run() => None,
            Ok(cgroups) if cgroups.keeps(limits) => None,
            Ok(_) => Some("the daemon's cgroup has no controller for them".into()),
            Err(why) => Some(why.to_string()),
        }
    }

    /// Lets go of every process: they go on, and the next daemon finds them.
    pub fn leave(&mut self) {
        for watched in std::mem::take(&mut self.watched).into_values() {
            if let Process::Own(child) = watched.process {
                child.leave();
            }
        }
    }

    /// The processes of runs that are not reaped yet.
    pub fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.watched.iter().map(|(run, watched)| {
            let pid = match &watched.process {
                Process::Own(child) => child.pid(),
                Process::Adopted(adopted) => adopted.pid(),
            };
            Known { pid, run: Some(*run) }
        })
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

/// Ends what an adopted process leaves behind. One that is signalled may just have started another, so it is looked for
/// again; what is still there after that comes to init, as all orphans of a dead daemon do.
fn end_rest(run: RunId, adopted: &Adopted) {
    const LOOKS: usize = 3;
    for _ in 0..LOOKS {
        match adopted.kill_remaining() {
            Ok(0) => return,
            Ok(count) => log::warn!("run {run}: {count} of its processes had outlived it and were killed"),
            Err(error) => return log::warn!("run {run}: what it left behind can't be found: {error}"),
        }
    }
}

fn drain_into(files: &mut HashMap<RunId, RunFiles>, buffer: &mut Vec<u8>, run: RunId, fd: BorrowedFd<'_>) -> Option<Drained> {
    let files = files.get_mut(&run)?;
    let drained = exec::drain(fd, buffer, &mut files.sink);
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

pub(super) fn borrowed<V: AsRef<OsStr>>(vars: &[(String, V)]) -> Vec<(&str, Cow<'_, OsStr>)> {
    vars.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_ref()))).collect()
}

/// The pidfd's token, and the output with its own.
pub(super) type Registrations = (Option<Token>, Option<(OwnedFd, Token)>);

/// Watches a child's exit and its output.
pub(super) fn watch(io: &mut Io, exit: What, output: What, child: &mut Child) -> io::Result<Registrations> {
    let exit = match child.pidfd() {
        Some(fd) => Some(io.watch(fd.as_raw_fd(), exit, Interest::READABLE)?),
        None => None,
    };
    let output = match child.take_output() {
        Some(fd) => {
            let token = io.watch(fd.as_raw_fd(), output, Interest::READABLE)?;
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
