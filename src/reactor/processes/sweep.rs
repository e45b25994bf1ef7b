//! Finding processes that left the process groups of runs that are over, and orphans that have ended.

use std::time::Duration;

use crate::exec::{self, Known};
use crate::model::Elapsed;

/// How soon orphans are looked for again: there may be one of which nobody could tell whose it is.
const RESCAN_DELAY: Duration = Duration::from_millis(10);

/// When the next look is due, and when the last one was.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    due: Option<Elapsed>,
    last: Option<Elapsed>,
}

impl Sweep {
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

    /// Kills what has escaped from the groups of runs that are over; `known` are the processes that are not orphans.
    pub fn kill_escaped(&mut self, now: Elapsed, known: &[Known]) {
        match exec::sweep(known) {
            Ok(swept) => {
                for stray in &swept.killed {
                    log::info!("run {}: its process {} had left its group and outlived it, and was killed", stray.run, stray.pid);
                }
                if swept.again {
                    self.by(now + RESCAN_DELAY);
                }
            }
            Err(error) => log::warn!("orphans of runs can't be looked for: {error}"),
        }
    }
}
