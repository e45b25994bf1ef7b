//! Prometheus metrics: counted where things happen, copied for a scrape, and written into the textfile.
//!
//! The file is written by the loop: it is small, and lies on the disk that the logs lie on, too. Its timer is armed by
//! what happens, and by nothing else: a daemon with nothing to do writes nothing.

use super::{Context, Observer, Report};
use crate::config;
use crate::engine::{Notice, Spawn};
use crate::files;
use crate::metrics::{Counts, Format, Snapshot, Standing};
use crate::model::{Attempt, Elapsed, JobId, Outcome, StateWord, TriggerWord, format_duration};
use crate::reactor::view::warnings;
use crate::store::StoredRun;

/// The counts, while the configuration asks for any, and the textfile.
#[derive(Default)]
pub(super) struct Metrics {
    counts: Option<Box<Counts>>,
    file: Option<Textfile>,
}

struct Textfile {
    asked: config::Metrics,
    /// When it is written next: armed by a change, and by nothing else.
    due: Option<Elapsed>,
    /// Why the last write failed.
    trouble: Option<String>,
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
                old.iter().for_each(|old| drop(std::fs::remove_file(&old.asked.textfile)));
                asked.map(|asked| Textfile { asked, due: None, trouble: None })
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

    /// Writes what is not in the file yet.
    fn close(&mut self, cx: &mut Context<'_>) {
        if self.next_wake().is_some() {
            self.write(cx);
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

    fn write(&mut self, cx: &Context<'_>) {
        // node_exporter exports its own process under the names that ours would have.
        let text = self.snapshot(cx).text(Format::Classic, None);
        let Some(file) = &mut self.file else { return };
        file.due = None;
        // The collector reads `*.prom` only, so the temporary file beside it is never scraped.
        match files::write(&file.asked.textfile, text.as_bytes(), Some(0o644), files::Sync::None) {
            Ok(()) => {
                if file.trouble.take().is_some() {
                    log::info!("{} is written again", file.asked.textfile.display());
                }
            }
            Err(error) => {
                let trouble = format!("{} can't be written: {error}", file.asked.textfile.display());
                if file.trouble.as_ref() != Some(&trouble) {
                    log::warn!("{trouble}; it is retried every {}", format_duration(file.asked.every));
                }
                file.trouble = Some(trouble);
                file.due = Some(cx.core.now.elapsed + file.asked.every);
            }
        }
    }
}
