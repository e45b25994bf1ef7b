//! One process on its way to its program, as the loop watches it: a run's, a hook's or a plugin's.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::{Interest, Token};

use crate::exec::{self, Child, GroupSignal, Known, PendingSpawn, Progress};
use crate::model::{Elapsed, Pid};
use crate::reactor::io::{Io, What};

/// How long a start may take. It includes the look-up of the program by a busy machine, and a network file system that comes
/// back.
const START_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub(in crate::reactor) struct Start {
    begun: PendingSpawn,
    token: Token,
    until: Elapsed,
}

impl Start {
    /// Watches a process that has begun to start; `what` tells of progress.
    ///
    /// # Errors
    /// A sentence for a person; the process is killed.
    pub fn watch(io: &mut Io, begun: PendingSpawn, what: What, now: Elapsed) -> Result<Start, String> {
        let wake = begun.wake().map_or(-1, |wake| wake.as_raw_fd());
        match io.watch(wake, what, Interest::READABLE) {
            Ok(token) => Ok(Start { begun, token, until: now + START_LIMIT }),
            Err(error) => Err(format!("its process can't be watched: {error}")),
        }
    }

    /// There is progress: the child, or a sentence why it could not be started. The start itself, if it goes on.
    pub fn finish(self, io: &mut Io) -> Result<Result<Child, String>, Start> {
        match self.begun.poll() {
            Progress::Pending(begun) => Err(Start { begun, ..self }),
            Progress::Done(result) => {
                io.release(self.token);
                Ok(result.map_err(|error| error.to_string()))
            }
        }
    }

    /// Kills the process and does not wait for its death; returns a sentence that says where it was.
    pub fn give_up(self, io: &mut Io, abandoned: &mut AbandonedStarts) -> String {
        io.release(self.token);
        let (process, error) = self.begun.abandon();
        abandoned.0.extend(process);
        error.to_string()
    }

    pub fn signal(&self, signal: GroupSignal) {
        self.begun.signal(signal);
    }

    /// When it is to be given up.
    pub fn until(&self) -> Elapsed {
        self.until
    }

    /// It is to be given up at `at`, unless that is due before.
    pub fn hurry(&mut self, at: Elapsed) {
        self.until = self.until.min(at);
    }

    pub fn pid(&self) -> Pid {
        self.begun.identity()
    }
}

/// Processes that were killed before they executed their programs, and may not be dead.
#[derive(Default)]
pub(in crate::reactor) struct AbandonedStarts(Vec<exec::Abandoned>);

impl AbandonedStarts {
    /// Those that are not dead; releases what the others used.
    pub fn known(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.0.retain_mut(|abandoned| !abandoned.is_over());
        self.0.iter().map(|abandoned| Known::childless(abandoned.pid()))
    }
}
