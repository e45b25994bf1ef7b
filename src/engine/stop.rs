//! Ending attempts: by a request, a timeout, `concurrency: replace` or the end of the daemon.

use super::Engine;
use super::event::{Effect, StopSignal};
use super::run::{RunState, StopCause};
use super::timers::Timer;
use crate::model::{Now, Outcome, RunId};
use crate::planted::{self, Bug};

impl Engine {
    pub(super) fn running(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> =
            self.runs.iter().filter(|(_, t)| matches!(t.record.state, RunState::Running(_))).map(|(id, _)| *id).collect();
        runs.sort_unstable();
        runs
    }

    /// Notes why a running run is asked to end; false if it already was, or does not run.
    pub(super) fn mark_stopping(&mut self, run: RunId, cause: StopCause) -> bool {
        match self.runs.get_mut(&run).map(|tracked| &mut tracked.record.state) {
            Some(RunState::Running(process)) => {
                let first = process.stop.is_none();
                process.stop.get_or_insert(cause);
                first
            }
            _ => false,
        }
    }

    /// Asks a running run to end: SIGTERM now, SIGKILL after its grace.
    pub(super) fn ask_to_end(&mut self, now: Now, run: RunId, cause: StopCause) {
        if !self.mark_stopping(run, cause) {
            return;
        }
        let Some(record) = self.runs.get(&run).map(|tracked| &tracked.record) else { return };
        let (job, attempt) = (record.job, record.attempt);
        let grace = self.rules_of(job).policy.kill_grace;
        self.out.push(Effect::Signal { run, signal: StopSignal::Term });
        self.arm(now.elapsed + grace, Timer::Kill(run, attempt));
    }

    pub(super) fn cancel(&mut self, now: Now, run: RunId, cause: StopCause) {
        match self.runs.get(&run).map(|tracked| (&tracked.record.state, tracked.record.job)) {
            Some((RunState::Running(_), _)) => self.ask_to_end(now, run, cause),
            Some((RunState::Pending(_), job)) => {
                self.memory(job).queue_mut().waiting.retain(|waiting| *waiting != run || planted::is(Bug::CancelledStillWaits));
                self.end(now, run, Outcome::Cancelled, None, Some(cause.reason()));
            }
            Some((RunState::Ended(_), _)) | None => {}
        }
    }
}
