//! A state in a directory of its own, and runs to put into it.

use std::path::Path;
use std::sync::Arc;

use firelink::engine::{Change, End, Process, Restored, RunRecord, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};
use firelink::store::Durability;
use firelink::store::{JobKey, Opened, Store};

pub const BOOT: &str = "boot-1";

pub fn at(secs: i64) -> WallTime {
    WallTime::from_secs(1_700_000_000 + secs)
}

pub fn now() -> Now {
    Now { wall: at(0), elapsed: Elapsed::from_nanos(1_000_000_000) }
}

pub fn names(names: &[&str]) -> Vec<JobKey> {
    names.iter().map(|name| JobKey { name: Arc::from(*name), timing: 0 }).collect()
}

pub fn opened(dir: &Path) -> Opened {
    Store::open(dir, Durability::Normal, BOOT.into()).expect("the store opens")
}

/// Opens, and restores for these jobs.
pub fn open(dir: &Path, jobs: &[&str]) -> (Store, Restored) {
    let Opened { mut store, warnings } = opened(dir);
    assert!(warnings.is_empty(), "{warnings:?}");
    let (restored, _) = store.restore(now(), &names(jobs), None).unwrap();
    (store, restored)
}

/// A run that was just triggered.
pub fn pending(id: u64, job: u32) -> RunRecord {
    RunRecord {
        id: RunId(id),
        job: JobId(job),
        trigger: TriggerWord::Manual,
        event: None,
        scheduled_at: at(0),
        forced: false,
        attempt: Attempt(0),
        started_at: None,
        state: RunState::Pending(Waiting::Turn),
    }
}

/// The same, with its first process alive.
pub fn running(id: u64, job: u32) -> RunRecord {
    let pid = Some(Pid { pid: 1234, start_ticks: 99 });
    RunRecord {
        attempt: Attempt(1),
        started_at: Some(at(1)),
        state: RunState::Running(Process { pid, since: at(1), begun: Elapsed::default(), stop: None, adopted: false }),
        ..pending(id, job)
    }
}

/// The same, over.
pub fn ended(id: u64, job: u32, outcome: Outcome, ended_at: WallTime) -> RunRecord {
    let exit = match outcome {
        Outcome::Succeeded => Some(Exit::Code(0)),
        Outcome::Failed => Some(Exit::Code(3)),
        Outcome::TimedOut => Some(Exit::Signal(15)),
        _ => None,
    };
    RunRecord {
        state: RunState::Ended(End { outcome, at: ended_at, exit, reason: exit.is_none().then(|| "because".into()) }),
        ..running(id, job)
    }
}

pub fn new(record: RunRecord) -> Change {
    Change::Run { new: true, record: Box::new(record) }
}

pub fn update(record: RunRecord) -> Change {
    Change::Run { new: false, record: Box::new(record) }
}
