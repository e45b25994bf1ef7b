//! A sequence of commits, and the state that a prefix of it must leave.
//!
//! Each commit is a turn of the loop with several changes that belong together: a run and the object that made it, an end
//! and the credit that it gives. So a commit that is applied in part shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firelink::engine::{Change, End, Process, RunRecord, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, StateWord, TriggerWord, WallTime};
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::store::Durability;
use firelink::store::{Filter, History, JobKey, Opened, Store, WatchRecord};

/// The job whose runs objects make, and the one behind it.
const MADE: JobId = JobId(0);
const BEHIND: JobId = JobId(1);
pub const WATCH: &str = "bucket";

pub fn at(secs: usize) -> WallTime {
    WallTime::from_secs(1_700_000_000 + i64::try_from(secs).unwrap_or(0))
}

fn keys() -> Vec<JobKey> {
    ["made", "behind"].iter().map(|name| JobKey { name: (*name).into(), timing: 0 }).collect()
}

/// Opens a state; nothing of it may be damaged.
pub fn open(dir: &Path, durability: Durability) -> Store {
    let Opened { mut store, warnings } = Store::open(dir, durability, "boot".into()).expect("it opens");
    let now = Now { wall: at(0), elapsed: Elapsed::from_nanos(1) };
    store.restore(now, &keys(), None).expect("it is read");
    let late = store.take_warnings();
    assert!(warnings.is_empty() && late.is_empty(), "{warnings:?} {late:?}");
    store
}

/// One commit of the story: three of them carry a run from its object to its end.
pub fn tell(step: usize) -> (Vec<Change>, Vec<WatchRecord>) {
    let id = RunId(u64::try_from(step / 3 + 1).expect("a number"));
    let since = at(step / 3 * 3 + 1);
    let mut record = RunRecord {
        id,
        job: MADE,
        trigger: TriggerWord::Watch,
        event: Some(format!("{{\"key\":\"{id}\",\"filler\":\"{}\"}}", "x".repeat(step % 7 * 300)).into()),
        scheduled_at: at(step / 3 * 3),
        forced: false,
        attempt: Attempt(0),
        started_at: None,
        state: RunState::Pending(Waiting::Turn),
    };
    if step.is_multiple_of(3) {
        let seen = vec![SeenObject { key: ObjectKey(id.0.into()), version: ObjectVersion(id.0) }];
        let batch = Batch { seen, baseline_done: step == 0, ..Batch::default() };
        return (vec![Change::Run { new: true, record: Box::new(record) }], vec![WatchRecord { job: MADE, batch }]);
    }
    (record.attempt, record.started_at) = (Attempt(1), Some(since));
    if step % 3 == 1 {
        let pid = Some(Pid { pid: 1, start_ticks: 1 });
        record.state = RunState::Running(Process { pid, since, begun: Elapsed::default(), stop: None, adopted: false });
        return (vec![Change::Run { new: false, record: Box::new(record) }], Vec::new());
    }
    let outcome = if id.0.is_multiple_of(4) { Outcome::Failed } else { Outcome::Succeeded };
    record.state = RunState::Ended(End { outcome, at: at(step), exit: Some(Exit::Code(0)), reason: None });
    let credit = Change::Credit { job: BEHIND, upstream: MADE, outcome: Some(outcome) };
    (vec![Change::Run { new: false, record: Box::new(record) }, credit], Vec::new())
}

/// What a state holds: each run's state, the objects seen, the credit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    runs: BTreeMap<u64, StateWord>,
    seen: BTreeSet<u128>,
    credit: Option<Outcome>,
}

impl Found {
    /// The expected state after the first `commits`.
    pub fn expected(commits: usize) -> Found {
        let mut expected = Found::default();
        for step in 0..commits {
            let id = u64::try_from(step / 3 + 1).expect("a number");
            let failed = id.is_multiple_of(4);
            let state = match step % 3 {
                0 => StateWord::Pending,
                1 => StateWord::Running,
                _ if failed => StateWord::Failed,
                _ => StateWord::Succeeded,
            };
            expected.runs.insert(id, state);
            expected.seen.insert(id.into());
            if step % 3 == 2 {
                expected.credit = Some(if failed { Outcome::Failed } else { Outcome::Succeeded });
            }
        }
        expected
    }

    /// The state in a directory. Panics if the database is damaged.
    pub fn of(dir: &Path) -> Found {
        let mut store = open(dir, Durability::Full);
        let now = Now { wall: at(0), elapsed: Elapsed::from_nanos(1) };
        let (restored, _) = store.restore(now, &keys(), None).expect("it is read");
        let seen = store.load_seen(MADE, WATCH).expect("it is read");
        let seen = seen.objects.iter().map(|object| { object.key }.0).collect();
        drop(store);
        let conn = rusqlite::Connection::open(dir.join(firelink::store::DATABASE)).expect("it opens");
        let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
        assert_eq!(sound, "ok");
        let filter = Filter { limit: usize::MAX, ..Filter::default() };
        let history = History::open(dir).expect("it opens").expect("it is there").query(&filter).expect("it is read");
        let runs = history.into_iter().map(|run| run.expect("no deadline")).map(|run| (run.id.0, run.state)).collect();
        Found { runs, seen, credit: restored.jobs[BEHIND.index()].credits.first().map(|(_, outcome)| *outcome) }
    }

    /// The number of commits that leave this state; `None` if no number does.
    pub fn commits(&self) -> Option<usize> {
        let last = self.runs.len().saturating_sub(1) * 3;
        (last..=last + 3).find(|commits| Found::expected(*commits) == *self)
    }
}

/// Begins a story: the watch is known from the start.
pub fn begin(dir: &Path, durability: Durability) -> Store {
    let mut store = open(dir, durability);
    store.load_seen(MADE, WATCH).expect("it is read");
    store
}
