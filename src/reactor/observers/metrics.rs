//! Prometheus metrics: counted where things happen, copied for a scrape, and written into the textfile.
//!
//! The helper process says where the directory of the file is. On a local file system the loop then writes the file itself; on
//! any other, which may hang, the helper does. The timer is armed by what happens, and by nothing else: a daemon
//! with nothing to do writes nothing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Context, Observer, Report};
use crate::config;
use crate::engine::{Notice, Spawn};
use crate::files;
use crate::helper::{AFTER_HANG, Answer, Request, Response, no_answer, open_local, path_of};
use crate::metrics::{Counts, Format, Snapshot, Standing};
use crate::model::{Attempt, Elapsed, JobId, Outcome, StateWord, TriggerWord, format_duration};
use crate::reactor::helper::{AskNumber, Asker, Helper};
use crate::reactor::view::warnings;
use crate::store::StoredRun;

/// The counts, while the configuration asks for any, and the textfile.
#[derive(Default)]
pub(super) struct Metrics {
    counts: Option<Box<Counts>>,
    file: Option<Textfile>,
    /// The daemon ends: what fails is not tried again.
    is_last: bool,
}

/// How long an opened directory is used. Its path may lead to another one by then.
const REOPEN_AFTER: Duration = Duration::from_secs(600);

/// How the textfile's directory is reached.
enum Directory {
    Unknown,
    /// The helper process was asked to open it.
    Asked(AskNumber),
    /// Only local file systems lead to it.
    Local {
        directory: PathBuf,
        opened: Elapsed,
    },
    /// It may hang.
    Remote {
        opened: Elapsed,
    },
}

struct Textfile {
    asked: config::Metrics,
    /// When it is written next: armed by a change, and by nothing else.
    due: Option<Elapsed>,
    /// Why the last write failed.
    trouble: Option<String>,
    directory: Directory,
    /// The helper process was asked to write it.
    writing: Option<AskNumber>,
    /// How often its directory has hung, one time after another.
    hangs: u32,
}

impl Observer for Metrics {
    /// Counts, writes, or stops, as the configuration says.
    fn configure(&mut self, cx: &mut Context<'_>) {
        let asked = cx.core.config.metrics.clone();
        if asked.is_none() && cx.core.config.web.is_none() {
            self.counts = None;
        } else {
            let is_new = self.counts.is_none();
            let counts = self.counts.get_or_insert_default();
            counts.set_jobs(cx.core.config.jobs.iter().map(|job| &job.name));
            if is_new {
                count_last_successes(counts, cx);
            }
        }
        let old = self.file.take();
        self.file = match (old, asked) {
            (Some(old), Some(asked)) if old.asked.textfile == asked.textfile => Some(Textfile { asked, ..old }),
            (old, asked) => {
                // Left behind, it would be read as if it were still written.
                old.iter().for_each(|old| old.remove(cx.helper));
                asked.map(Textfile::new)
            }
        };
        if let Some(file) = &mut self.file {
            file.due = Some(cx.core.now.elapsed);
        }
    }

    fn on_notice(&mut self, report: &Report<'_>, _cx: &mut Context<'_>) {
        let (Some(counts), Some(notice)) = (&mut self.counts, report.notice()) else { return };
        match notice {
            Notice::Ended { run, job, outcome, .. } => {
                let row = report.row_of(*run).map(|ended| &ended.row);
                let span = row.and_then(|row| Some((row.started_at?, row.ended_at?)));
                counts.ended(*job, *outcome, span.map(|(from, to)| to.since(from)));
                if let (Outcome::Succeeded, Some(at)) = (outcome, row.and_then(|row| row.ended_at)) {
                    counts.succeeded(*job, at);
                }
            }
            Notice::WillRetry { job, .. } => counts.retried(*job),
            Notice::Missed { job, count, .. } => counts.missed(*job, *count),
            _ => {}
        }
    }

    fn on_change(&mut self, now: Elapsed) {
        if let Some(file) = &mut self.file {
            file.due.get_or_insert(now + file.asked.every);
        }
    }

    /// Counts how late a process starts, if nothing but its deadline was waited for: neither a dependency nor a person, nor
    /// the end of a time in which deadlines were missed.
    fn on_started(&mut self, spawn: &Spawn, cx: &mut Context<'_>) {
        let Some(counts) = &mut self.counts else { return };
        let engine = &cx.core.engine;
        let rules = engine.rules();
        let is_deadline = matches!(spawn.trigger, TriggerWord::Cron | TriggerWord::Interval)
            && spawn.attempt == Attempt(1)
            && rules.jobs[spawn.job.index()].depends_on.is_empty()
            && engine.run(spawn.run).is_some_and(|record| !record.forced);
        if is_deadline {
            let delay = cx.view.clocks.now().wall.since(spawn.scheduled_at);
            if delay <= rules.grace {
                counts.fired(delay);
            }
        }
    }

    fn on_poll(&mut self, job: JobId, works: bool, now: Elapsed) {
        if let Some(counts) = &mut self.counts {
            counts.polled(job, works);
            self.on_change(now);
        }
    }

    fn on_failed_write(&mut self, now: Elapsed) {
        if let Some(counts) = &mut self.counts {
            counts.store_failed();
            self.on_change(now);
        }
    }

    #[cfg(feature = "web")]
    fn on_message(&mut self, message: Box<dyn std::any::Any + Send>, cx: &mut Context<'_>) -> super::Handled {
        use super::Handled;
        match message.downcast::<crate::web::Scrape>() {
            Ok(scrape) => {
                // The connection may be closed by now.
                drop(scrape.answer.send(Box::new(self.snapshot(cx))));
                Handled::Done
            }
            Err(other) => Handled::Other(other),
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_>) {
        if self.next_wake().is_some_and(|at| at <= cx.core.now.elapsed) {
            self.write(cx);
        }
    }

    fn next_wake(&self) -> Option<Elapsed> {
        self.file.as_ref().and_then(|file| file.due)
    }

    fn trouble(&self) -> Option<&str> {
        self.file.as_ref().and_then(|file| file.trouble.as_deref())
    }

    fn on_files(&mut self, ask: AskNumber, response: &mut Option<Response>, cx: &mut Context<'_>) {
        let (now, is_last) = (cx.core.now.elapsed, self.is_last);
        let Some(file) = &mut self.file else { return };
        if let Some(Response::Recovered) = response {
            if file.trouble.is_some() {
                file.due = Some(now);
            }
            return;
        }
        let is_opened = matches!(file.directory, Directory::Asked(number) if number == ask);
        if !is_opened && file.writing != Some(ask) {
            return;
        }
        match response.take() {
            Some(Response::Answer(Answer::Located { path, is_local }, _)) => {
                file.directory = match is_local {
                    true => Directory::Local { directory: path, opened: now },
                    false => Directory::Remote { opened: now },
                };
                self.write(cx);
            }
            Some(Response::Answer(Answer::Done, _)) if !is_opened => file.written(),
            Some(Response::Answer(Answer::Failed(errno), _)) => {
                file.failed(&io::Error::from_raw_os_error(errno), None, now, is_last);
            }
            Some(Response::Hung) => {
                file.hangs += 1;
                let why = format!("it {}", no_answer());
                file.failed(&why, Some(AFTER_HANG.delay_after(file.hangs, || 0)), now, is_last);
            }
            Some(Response::Unavailable(why)) => file.failed(&why, None, now, is_last),
            Some(Response::Answer(..) | Response::Recovered) | None => {}
        }
    }

    fn follows_mounts(&self) -> bool {
        self.file.is_some()
    }

    fn on_mounts(&mut self) {
        if let Some(file) = &mut self.file
            && matches!(file.directory, Directory::Local { .. } | Directory::Remote { .. })
        {
            file.directory = Directory::Unknown;
        }
    }

    /// Writes what is not in the file yet.
    fn write_last(&mut self, cx: &mut Context<'_>) {
        self.is_last = true;
        if self.next_wake().is_some() || self.file.as_ref().is_some_and(|file| file.writing.is_some()) {
            self.write(cx);
        }
    }
}

impl Textfile {
    fn new(asked: config::Metrics) -> Textfile {
        Textfile { asked, due: None, trouble: None, directory: Directory::Unknown, writing: None, hangs: 0 }
    }

    /// Acts on the file below the descriptor of its directory, so that no other path is looked at.
    fn below<T>(&self, directory: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let open = open_local(directory)?;
        act(&path_of(&open).join(self.asked.textfile.file_name().unwrap_or_default()))
    }

    fn written(&mut self) {
        (self.writing, self.hangs) = (None, 0);
        if self.trouble.take().is_some() {
            log::info!("{} is written again", self.asked.textfile.display());
        }
    }

    /// The directory is opened again before the next try, which is after `delay`, else after `every`.
    fn failed(&mut self, why: &dyn std::fmt::Display, delay: Option<Duration>, now: Elapsed, is_last: bool) {
        (self.writing, self.directory) = (None, Directory::Unknown);
        let trouble = format!("{} can't be written: {why}", self.asked.textfile.display());
        let wait = format_duration(delay.unwrap_or(self.asked.every));
        match delay {
            _ if is_last => log::error!("{trouble}; the daemon ends without having written it"),
            Some(_) => log::warn!("{trouble}; it is retried in {wait}"),
            None if self.trouble.as_ref() != Some(&trouble) => log::warn!("{trouble}; it is retried every {wait}"),
            None => {}
        }
        self.trouble = Some(trouble);
        self.due = Some(now + delay.unwrap_or(self.asked.every));
    }

    /// Removes the file: left behind, it would be read as if it were still written.
    fn remove(&self, helper: &mut Helper) {
        match &self.directory {
            Directory::Local { directory, .. } => drop(self.below(directory, |file| std::fs::remove_file(file))),
            // Whether that works is of no use to anybody.
            _ => drop(helper.ask(Asker::Metrics, &Request::Remove(self.asked.textfile.clone()), None)),
        }
    }
}

/// An alert asks for the last success first, and the next run may be a day away.
fn count_last_successes(counts: &mut Counts, cx: &mut Context<'_>) {
    let store = cx.core.ledger.store();
    for (job, run) in store.last_runs().unwrap_or_default() {
        let succeeded: Option<StoredRun> = match run.state {
            StateWord::Succeeded => Some(run),
            _ => store.last_run_in(job, &[StateWord::Succeeded]).unwrap_or_default(),
        };
        if let Some(at) = succeeded.and_then(|run| run.ended_at) {
            counts.succeeded(job, at);
        }
    }
}

impl Metrics {
    /// All numbers as they are.
    fn snapshot(&self, cx: &Context<'_>) -> Snapshot {
        let core = &*cx.core;
        let (engine, configured) = (&core.engine, core.configured);
        let all = || (0..).take(configured).map(JobId);
        let unended: usize = core.jobs().map(|job| engine.unended(job)).sum();
        let running = usize::try_from(engine.alive()).unwrap_or(usize::MAX);
        let now = cx.view.clocks.now();
        let is_armed = !engine.is_stopping() && !engine.is_waiting_for_clock();
        let is_enabled = |job: &JobId| engine.rules().jobs[job.index()].enabled;
        let next = all().filter(is_enabled).filter_map(|job| engine.next_at(now, job)).min();
        let standing = Standing {
            jobs: configured,
            paused: all().filter(|job| engine.is_paused(*job)).count(),
            pending: unended.saturating_sub(running),
            running,
            next_deadline: next.filter(|_| is_armed),
            warnings: warnings(core, &all().collect::<Vec<_>>(), &cx.view, std::iter::empty()).len() + cx.troubles,
            store_works: core.ledger.trouble().is_none(),
        };
        Snapshot { counts: self.counts.as_deref().cloned().unwrap_or_default(), standing }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        // node_exporter exports its own process under the names that ours would have.
        let text = self.snapshot(cx).text(Format::Classic, None);
        let (now, is_last) = (cx.core.now.elapsed, self.is_last);
        let Some(file) = &mut self.file else { return };
        file.due = None;
        match &file.directory {
            Directory::Local { directory, opened } if is_last || now.since(*opened) < REOPEN_AFTER => {
                // The collector reads `*.prom` only, so the temporary file beside it is never scraped.
                let write = |path: &Path| files::write(path, text.as_bytes(), Some(0o644), files::Sync::None);
                match file.below(directory, write) {
                    Ok(()) => file.written(),
                    Err(error) => file.failed(&error, None, now, is_last),
                }
            }
            // One at a time: an answer is waited for, however many changes come meanwhile.
            _ if file.writing.is_some() && !is_last => file.due = Some(now + file.asked.every),
            Directory::Remote { opened } if is_last || now.since(*opened) < REOPEN_AFTER => match in_memory(&text) {
                Ok(contents) => {
                    let path = file.asked.textfile.clone();
                    let request = Request::Put { path, mode: 0o644, durable: false, keep_as: None };
                    file.writing = Some(cx.helper.ask(Asker::Metrics, &request, Some(contents)));
                }
                Err(error) => file.failed(&error, None, now, is_last),
            },
            // Written when it is open.
            Directory::Asked(_) => {}
            Directory::Unknown | Directory::Local { .. } | Directory::Remote { .. } => {
                let directory = file.asked.textfile.parent().unwrap_or(Path::new("/")).to_owned();
                file.directory = Directory::Asked(cx.helper.ask(Asker::Metrics, &Request::Locate(directory), None));
            }
        }
    }
}

/// A text in a file without a name, for another process to copy.
fn in_memory(text: &str) -> io::Result<OwnedFd> {
    let mut file = File::from(nix::sys::memfd::memfd_create(c"metrics", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file.into())
}
