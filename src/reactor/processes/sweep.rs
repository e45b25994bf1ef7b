//! Looking for processes that outlived their runs, and for orphans that have ended.

use std::time::Duration;

use crate::exec::spec::KillMode;
use crate::exec::{Cgroups, Known, Orphans, Swept};
use crate::model::Elapsed;

/// How soon orphans are looked for again: there may be one of which nobody could tell whose it is.
const RESCAN_DELAY: Duration = Duration::from_millis(10);

/// The longest that the daemon's end waits for orphans to be gone: one on a disk that is gone may never be.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The most processes of one look that the log names.
const NAMED: usize = 8;

/// When the next look is due, when the last one was, and what is known of orphans.
#[derive(Debug)]
pub(super) struct Sweep {
    due: Option<Elapsed>,
    last: Option<Elapsed>,
    /// `None` without `/proc`: nothing is looked for.
    orphans: Option<Orphans>,
}

impl Sweep {
    /// To be called before anything is started.
    pub fn at_start() -> Sweep {
        let orphans = Orphans::at_start();
        let orphans = orphans.inspect_err(|error| log::warn!("orphans of runs will not be looked for: {error}")).ok();
        Sweep { due: None, last: None, orphans }
    }

    /// The value of [`crate::exec::LEAVE`] for runs with [`KillMode::Main`].
    pub fn leave_word(&self) -> Option<&str> {
        self.orphans.as_ref().map(Orphans::leave_word)
    }

    /// The variable for the program that this daemon becomes.
    pub fn handed_on(&self) -> Option<(&'static str, String)> {
        self.orphans.as_ref().map(Orphans::handed_on)
    }

    /// A process of the daemon's has ended.
    pub fn ended(&mut self, known: Known, mode: KillMode) {
        if let Some(orphans) = &mut self.orphans {
            orphans.ended(known, mode);
        }
    }

    /// A look is due at `at`, or earlier if one was due before.
    pub fn by(&mut self, at: Elapsed) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub fn due(&self) -> Option<Elapsed> {
        self.due
    }

    /// True if a look is due now, which counts. Looks do not follow each other closely: what is due does not wait for them.
    pub fn begin(&mut self, now: Elapsed) -> bool {
        if self.due.take_if(|at| *at <= now).is_none() {
            return false;
        }
        let next = self.last.map_or(now, |at| at + RESCAN_DELAY);
        if now < next {
            self.due = Some(next);
            return false;
        }
        self.last = Some(now);
        true
    }

    /// Kills what has outlived runs that are over; `known` are the processes that are not orphans.
    pub fn kill_escaped(&mut self, now: Elapsed, known: &[Known], groups: Option<&Cgroups>) {
        let Some(orphans) = &mut self.orphans else { return };
        match orphans.sweep(known, groups) {
            Ok(swept) => {
                report(&swept);
                if swept.again {
                    self.by(now + RESCAN_DELAY);
                }
            }
            Err(error) => log::warn!("orphans of runs can't be looked for: {error}"),
        }
    }

    /// Kills what has outlived its run, and waits until it is gone: the daemon ends. `known` are the processes that are not orphans.
    pub fn end_all(&mut self, known: &[Known], groups: Option<&Cgroups>) {
        let Some(orphans) = &mut self.orphans else { return };
        match orphans.end_all(known, groups, END_TIMEOUT) {
            Ok(swept) => {
                report(&swept);
                if swept.again {
                    log::warn!("processes of runs that are over were killed, and are not gone after {} s", END_TIMEOUT.as_secs());
                }
            }
            Err(error) => log::warn!("orphans of runs can't be looked for: {error}"),
        }
    }
}

fn report(swept: &Swept) {
    for stray in swept.killed.iter().take(NAMED) {
        match stray.run {
            Some(run) => log::info!("run {run}: its process {} had left its group and outlived it, and was killed", stray.pid),
            None => log::info!("the process {}, an orphan of a run that is over, was killed", stray.pid),
        }
    }
    let more = swept.killed.len().saturating_sub(NAMED);
    if more > 0 {
        log::info!("{more} more processes of runs that are over were killed");
    }
}
