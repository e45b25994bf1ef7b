//! The copy of a state that is kept in memory to where `state.sync_to` says.
//!
//! The state is copied into a file of the state directory, and another process, which may hang, copies that to its place.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Ledger;
use crate::config::Config;
use crate::helper::AFTER_HANG;
use crate::model::{Elapsed, format_duration};
use crate::store::{DATABASE, copy_failed};

/// A copy on its way to its place.
#[derive(Debug)]
pub struct StateCopy {
    /// The contents.
    pub file: File,
    /// The file that is replaced, durably.
    pub to: PathBuf,
    /// What is there is renamed to this.
    pub keep_as: Option<PathBuf>,
}

/// What became of a copy.
#[derive(Debug)]
pub enum Copied {
    /// It is on the disk.
    Done,
    /// Why it is not.
    Failed(String),
    /// Its place does not answer.
    Hung(String),
    /// Its place, which did not answer, may do so now.
    Recovered,
}

/// When the state is copied next, and why the last copy failed.
#[derive(Debug, Default)]
pub(super) struct SyncCopy {
    due: Option<Elapsed>,
    trouble: Option<String>,
    /// One is on its way.
    is_copying: bool,
    /// How often its place has hung, one time after another.
    hangs: u32,
    /// The copy that is there could not be restored, and must not be lost: a number for its name, always the same one, so that
    /// nothing else takes that place.
    keep_old: Option<u64>,
    /// The daemon ends: what fails is not tried again.
    is_last: bool,
}

impl SyncCopy {
    /// The state has changed: it is copied at `due` unless a copy is due before.
    pub fn changed(&mut self, due: Elapsed) {
        self.due.get_or_insert(due);
    }

    pub fn due(&self) -> Option<Elapsed> {
        self.due.filter(|_| !self.is_copying)
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The copy that is there could not be restored.
    pub fn keep_old(&mut self) {
        self.keep_old = Some(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    }
}

impl Ledger {
    /// A copy of the state, if one is due.
    pub fn copy_if_due(&mut self, now: Elapsed, config: &Config) -> Option<StateCopy> {
        if self.copy.due().is_some_and(|at| at <= now) { self.copy_now(now, config) } else { None }
    }

    /// The copy at the daemon's end.
    pub fn last_copy(&mut self, now: Elapsed, config: &Config) -> Option<StateCopy> {
        self.copy.is_last = true;
        self.copy_now(now, config)
    }

    fn copy_now(&mut self, now: Elapsed, config: &Config) -> Option<StateCopy> {
        self.copy.due = None;
        let to = config.sync.as_ref()?.to.join(DATABASE);
        match self.store.snapshot(&self.state_dir) {
            Ok(file) => {
                self.copy.is_copying = true;
                let keep_as = self.copy.keep_old.map(|stamp| kept_name(&to, stamp));
                Some(StateCopy { file, to, keep_as })
            }
            Err(error) => {
                self.copied(now, config, Copied::Failed(error.to_string()));
                None
            }
        }
    }

    /// What became of the last [copy](Ledger::copy_if_due).
    pub fn copied(&mut self, now: Elapsed, config: &Config, copied: Copied) {
        let Some(sync) = &config.sync else {
            self.copy = SyncCopy::default();
            return;
        };
        let (why, delay) = match copied {
            Copied::Done => {
                if self.copy.trouble.take().is_some() {
                    log::info!("the state is copied to {} again", sync.to.display());
                }
                (self.copy.is_copying, self.copy.hangs, self.copy.keep_old) = (false, 0, None);
                return;
            }
            Copied::Recovered => {
                if self.copy.trouble.is_some() {
                    self.copy.due = Some(now);
                }
                return;
            }
            Copied::Failed(why) => {
                self.copy.hangs = 0;
                (why, sync.every)
            }
            Copied::Hung(why) => {
                self.copy.hangs += 1;
                (why, AFTER_HANG.delay_after(self.copy.hangs, || 0))
            }
        };
        self.copy.is_copying = false;
        let error = copy_failed(&sync.to, &why);
        if self.copy.is_last {
            log::error!("{error}; the daemon ends without a last copy");
        } else {
            log::error!("{error}; the copy is retried in {}", format_duration(delay));
        }
        self.copy.due = Some(now + delay);
        self.copy.trouble = Some(error.to_string());
    }
}

/// The name by which a copy is kept that could not be restored.
fn kept_name(copy: &Path, stamp: u64) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(format!(".kept-{stamp}"));
    name.into()
}
