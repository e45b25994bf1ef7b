//! The loop's side of the numbers: what is counted where it happens, the answer to a scrape, and the textfile.
//!
//! The file is written by the loop: it is small, and lies on the disk that the logs lie on, too. Its timer is armed by
//! what happens, and by nothing else: a daemon with nothing to do writes nothing.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Reactor;
use super::clocks::Clocks;
use crate::config;
use crate::engine::{Spawn, Story};
use crate::metrics::{Counts, Format, Snapshot, Standing};
use crate::model::{Attempt, Elapsed, JobId, Outcome, StateWord, TriggerWord, format_duration};
use crate::store::StoredRun;

/// The counts, while somebody may want them, and the file.
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

impl Metrics {
    /// Something happened that numbers tell of.
    pub fn changed(&mut self, now: Elapsed) {
        if let Some(file) = &mut self.file {
            file.due.get_or_insert(now + file.asked.every);
        }
    }

    /// A watch has looked at what it watches.
    pub fn polled(&mut self, job: JobId, works: bool, now: Elapsed) {
        if let Some(counts) = &mut self.counts {
            counts.polled(job, works);
            self.changed(now);
        }
    }

    /// The disk refused a write of the state.
    pub fn store_failed(&mut self, now: Elapsed) {
        if let Some(counts) = &mut self.counts {
            counts.store_failed();
            self.changed(now);
        }
    }

    /// When the file is to be written.
    pub fn next_write(&self) -> Option<Elapsed> {
        self.file.as_ref().and_then(|file| file.due)
    }

    /// Why the file is not as it should be.
    pub fn trouble(&self) -> Option<String> {
        self.file.as_ref().and_then(|file| file.trouble.clone())
    }
}

impl<C: Clocks> Reactor<C> {
    /// Counts, writes, or lets it be, as the configuration has it now; jobs may have other numbers than before.
    pub(super) fn set_up_metrics(&mut self) {
        let asked = self.config.metrics.clone();
        if asked.is_none() && self.config.web.is_none() {
            self.metrics.counts = None;
        } else {
            let is_new = self.metrics.counts.is_none();
            let counts = self.metrics.counts.get_or_insert_default();
            counts.set_jobs(self.config.jobs.iter().map(|job| &job.name));
            if is_new {
                // What an alert asks for first must not wait for the next run, which may be a day away.
                for (job, run) in self.store.last_runs().unwrap_or_default() {
                    let succeeded = match run.state {
                        StateWord::Succeeded => Some(run),
                        _ => self.store.last_run_in(job, &[StateWord::Succeeded]).unwrap_or_default(),
                    };
                    if let Some(at) = succeeded.and_then(|run| run.ended_at) {
                        counts.succeeded(job, at);
                    }
                }
            }
        }
        let old = self.metrics.file.take();
        self.metrics.file = match (old, asked) {
            (Some(old), Some(asked)) if old.asked.textfile == asked.textfile => Some(Textfile { asked, ..old }),
            (old, asked) => {
                // Nobody would see that it is not written any more.
                old.iter().for_each(|old| drop(std::fs::remove_file(&old.asked.textfile)));
                asked.map(|asked| Textfile { asked, due: None, trouble: None })
            }
        };
        if let Some(file) = &mut self.metrics.file {
            file.due = Some(self.now.elapsed);
        }
    }

    /// A process was started. Counts how late, if nothing but its deadline was waited for: neither a dependency nor a
    /// person, nor the end of a time in which deadlines were missed.
    pub(super) fn count_start(&mut self, spawn: &Spawn) {
        let Some(counts) = &mut self.metrics.counts else { return };
        let rules = self.engine.rules();
        let is_deadline = matches!(spawn.trigger, TriggerWord::Cron | TriggerWord::Interval)
            && spawn.attempt == Attempt(1)
            && rules.jobs[spawn.job.index()].depends_on.is_empty()
            && self.engine.run(spawn.run).is_some_and(|record| !record.forced);
        if is_deadline {
            let delay = self.clocks.now().wall.since(spawn.scheduled_at);
            if delay <= rules.grace {
                counts.fired(delay);
            }
        }
    }

    /// What happened, in numbers; `row` is that of a run that ended.
    pub(super) fn count_story(&mut self, story: &Story, row: Option<&StoredRun>) {
        let Some(counts) = &mut self.metrics.counts else { return };
        match story {
            Story::Ended { job, outcome, .. } => {
                let span = row.and_then(|row| Some((row.started_at?, row.ended_at?)));
                counts.ended(*job, *outcome, span.map(|(from, to)| to.since(from)));
                if let (Outcome::Succeeded, Some(at)) = (outcome, row.and_then(|row| row.ended_at)) {
                    counts.succeeded(*job, at);
                }
            }
            Story::WillRetry { job, .. } => counts.retried(*job),
            Story::Missed { job, count, .. } => counts.missed(*job, *count),
            _ => {}
        }
    }

    /// All numbers as they are.
    pub(super) fn snapshot(&self) -> Snapshot {
        let all = || (0..).take(self.configured).map(JobId);
        let unended: usize = (0..).take(self.config.jobs.len()).map(|job| self.engine.unended(JobId(job))).sum();
        let running = usize::try_from(self.engine.alive()).unwrap_or(usize::MAX);
        let now = self.clocks.now();
        let is_armed = !self.engine.is_stopping() && !self.engine.is_waiting_for_clock();
        let is_enabled = |job: &JobId| self.engine.rules().jobs[job.index()].enabled;
        let next = all().filter(is_enabled).filter_map(|job| self.engine.next_at(now, job)).min();
        let standing = Standing {
            jobs: self.configured,
            paused: all().filter(|job| self.engine.is_paused(*job)).count(),
            pending: unended.saturating_sub(running),
            running,
            next_deadline: next.filter(|_| is_armed),
            warnings: self.all_warnings(&all().collect::<Vec<_>>()).len(),
            store_works: self.store.trouble().is_none(),
        };
        Snapshot { counts: self.metrics.counts.as_deref().cloned().unwrap_or_default(), standing }
    }

    /// Writes the file if that is due.
    pub(super) fn write_metrics_if_due(&mut self) {
        if self.metrics.next_write().is_some_and(|at| at <= self.now.elapsed) {
            self.write_metrics();
        }
    }

    /// Writes what is not in the file yet.
    pub(super) fn write_last_metrics(&mut self) {
        if self.metrics.next_write().is_some() {
            self.write_metrics();
        }
    }

    fn write_metrics(&mut self) {
        // node_exporter tells of its own process by the names that ours would have.
        let text = self.snapshot().text(Format::Classic, None);
        let Some(file) = &mut self.metrics.file else { return };
        file.due = None;
        match replace(&file.asked.textfile, &text) {
            Ok(()) => {
                if file.trouble.take().is_some() {
                    log::info!("{} is written again", file.asked.textfile.display());
                }
            }
            Err(error) => {
                let trouble = format!("{} can't be written: {error}", file.asked.textfile.display());
                if file.trouble.as_ref() != Some(&trouble) {
                    log::warn!("{trouble}; it is tried again every {}", format_duration(file.asked.every));
                }
                file.trouble = Some(trouble);
                file.due = Some(self.now.elapsed + file.asked.every);
            }
        }
    }
}

/// Puts a whole new file in the place of the old one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = {
        let mut name = path.as_os_str().to_owned();
        // The collector reads `*.prom` only.
        name.push(".new");
        PathBuf::from(name)
    };
    // One may be left from a daemon that was killed. Others may be able to write in the folder: what is opened must be
    // new, and not what somebody has linked there.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&beside)?;
    let written = file
        .set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What can't be removed is found at the next try.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_link_beside_it_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("x.prom"), dir.path().join("victim"));
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("x.prom.new")).unwrap();
        replace(&path, "one\n").unwrap();
        let reader = File::open(&path).unwrap();
        replace(&path, "two\n").unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.prom");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, "one\n").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("nowhere/x.prom"), "one\n").is_err());
    }
}
