//! The run of a process, by its initial environment.

use super::proc::{Environ, Stat};
use crate::exec::marks::{DAEMON_PID, LEAVE, PLUGIN, RUN_ID};
use crate::model::RunId;

/// The owner that a process names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::exec) struct Mark {
    /// The pid of the daemon that started the run.
    pub daemon: u32,
    /// The run; `None` for the process of a plugin.
    pub run: Option<RunId>,
    /// The job was one with `kill_mode: main`: the word that the daemon gave it.
    pub leave: Option<Vec<u8>>,
    /// Distinguishes the run from one with the same number in another state: its job, and when it was scheduled.
    job: Vec<u8>,
    scheduled_at: Vec<u8>,
}

/// The result of reading a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::exec) enum Marked {
    /// The process has one.
    By(Mark),
    /// It has none, has overwritten it, has exited, or may not be inspected.
    Not,
    /// It is in the middle of execve(2), where it has no environment yet.
    NotYetKnown,
}

impl Marked {
    /// Of a process.
    pub fn of(pid: i32) -> Marked {
        let Some(environ) = Environ::of(pid) else { return Marked::Not };
        match Mark::read(&environ) {
            Some(mark) => Marked::By(mark),
            // Read after the environment: it may have had none, and have one by now.
            None if Stat::of(pid).is_some_and(|stat| environ.is_missing(stat)) => Marked::NotYetKnown,
            None => Marked::Not,
        }
    }
}

impl Mark {
    /// Reads the mark of a process.
    pub fn of(pid: i32) -> Option<Mark> {
        Mark::read(&Environ::of(pid)?)
    }

    /// Reads the mark in an environment.
    pub fn read(environ: &Environ) -> Option<Mark> {
        let value = |name: &str| environ.value(name).map(<[u8]>::to_vec);
        let run = environ.number(RUN_ID).map(RunId);
        if run.is_none() && environ.value(PLUGIN) != Some(b"1") {
            return None;
        }
        Some(Mark {
            daemon: environ.number(DAEMON_PID)?,
            run,
            leave: value(LEAVE),
            job: value("FIRELINK_JOB").unwrap_or_default(),
            scheduled_at: value("FIRELINK_SCHEDULED_AT").unwrap_or_default(),
        })
    }

    /// True if the daemon that started the process `of` is alive: its pid may have been reused, by a younger process.
    pub fn is_of_a_living_daemon(&self, of: Stat) -> bool {
        let daemon = i32::try_from(self.daemon).ok().and_then(Stat::of);
        daemon.is_some_and(|daemon| !daemon.is_zombie() && daemon.start_ticks <= of.start_ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_mark_is_none() {
        let read = |environ: &[u8]| Mark::read(&Environ::from(environ));
        let mark = read(b"A=1\0FIRELINK_RUN_ID=7\0FIRELINK_DAEMON_PID=12\0FIRELINK_JOB=x\0").unwrap();
        assert_eq!((mark.daemon, mark.run, mark.leave), (12, Some(RunId(7)), None));
        let plugin = read(b"FIRELINK_PLUGIN=1\0FIRELINK_DAEMON_PID=12\0").unwrap();
        assert_eq!((plugin.daemon, plugin.run), (12, None));
        for environ in [
            &b""[..],
            b"FIRELINK_RUN_ID=7\0",
            b"FIRELINK_RUN_ID=x\0FIRELINK_DAEMON_PID=1\0",
            b"XFIRELINK_RUN_ID=7\0FIRELINK_DAEMON_PID=1\0",
            b"FIRELINK_PLUGIN=0\0FIRELINK_DAEMON_PID=1\0",
        ] {
            assert_eq!(read(environ), None);
        }
    }
}
