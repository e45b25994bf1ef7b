//! Ending attempts: by a request, a timeout, `concurrency: replace` or the end of the daemon.

use super::Engine;
use super::event::{Effect, StopSignal};
use super::run::{RunState, StopCause};
use super::timers::Timer;
use crate::model::{Now, Outcome, RunId};

impl Engine {
    /// Notes why an attempt is to end; false if that was noted before, or none is alive.
    pub(super) fn set_stop_cause(&mut self, run: RunId, cause: StopCause) -> bool {
        let Some(process) = self.queues.process_mut(run) else { return false };
        let first = process.stop.is_none();
        process.stop.get_or_insert(cause);
        first
    }

    /// Terminates an attempt: SIGTERM now, SIGKILL after its grace.
    pub(super) fn terminate(&mut self, now: Now, run: RunId, cause: StopCause) {
        if !self.set_stop_cause(run, cause) {
            return;
        }
        let Some(record) = self.queues.get(run) else { return };
        let (job, attempt) = (record.job, record.attempt);
        let grace = self.rules_of(job).policy.kill_grace;
        self.out.push(Effect::Signal { run, signal: StopSignal::Term });
        self.arm(now.elapsed + grace, Timer::Kill(run, attempt));
    }

    /// Ends a run that has not ended: at once while it is pending, by terminating its attempt else.
    pub(super) fn cancel(&mut self, now: Now, run: RunId, cause: StopCause) {
        match self.queues.get(run).map(|record| &record.state) {
            Some(RunState::Running(_)) => self.terminate(now, run, cause),
            Some(RunState::Pending(_)) => self.end(now, run, Outcome::Cancelled, None, Some(cause.reason())),
            Some(RunState::Ended(_)) | None => {}
        }
    }
}
