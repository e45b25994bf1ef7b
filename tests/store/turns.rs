//! Changes written by one turn, and read by the next start.

use firelink::engine::{CaughtUp, Change, RestoredProcess, RunRecord, RunState, Timeline, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Now, Outcome, RunId, StateWord, TriggerWord};
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::store::{History, Store, WatchRecord};

use crate::support::{BOOT, at, ended, names, new, now, open, opened, pending, running, update};

#[test]
fn each_state_of_a_run_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let first = RunRecord { event: Some(r#"{"k":"v"}"#.into()), trigger: TriggerWord::Watch, forced: true, ..pending(1, 0) };
    store.commit(vec![new(first.clone())], Vec::new()).unwrap();
    let row = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!((row.state, row.trigger, row.forced, row.attempt), (StateWord::Pending, TriggerWord::Watch, true, Attempt(0)));
    assert_eq!((row.event.as_deref(), row.started_at, row.pid), (Some(r#"{"k":"v"}"#), None, None));

    let of_first = |record: RunRecord| RunRecord { event: first.event.clone(), trigger: first.trigger, forced: true, ..record };
    store.commit(vec![update(of_first(running(1, 0)))], Vec::new()).unwrap();
    let row = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!((row.state, row.started_at, row.attempt), (StateWord::Running, Some(at(1)), Attempt(1)));
    assert_eq!(row.pid.map(|pid| (pid.pid, pid.start_ticks)), Some((1234, 99)));

    let failed = Change::AttemptFailed {
        run: RunId(1),
        attempt: Attempt(1),
        started_at: Some(at(1)),
        ended_at: at(2),
        exit: Some(Exit::Signal(9)),
        reason: "killed".into(),
    };
    let retry = RunState::Pending(Waiting::Retry { not_before: at(30), due: Elapsed::from_nanos(7) });
    store.commit(vec![failed, update(RunRecord { state: retry, ..of_first(running(1, 0)) })], Vec::new()).unwrap();
    let row = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!((row.state, row.not_before, row.pid), (StateWord::Pending, Some(at(30)), None));

    store.commit(vec![update(of_first(ended(1, 0, Outcome::Failed, at(9))))], Vec::new()).unwrap();
    drop(store);
    let (mut store, restored) = open(dir.path(), &["a"]);
    let row = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!((row.state, row.ended_at, row.exit), (StateWord::Failed, Some(at(9)), Some(Exit::Code(3))));
    assert_eq!((row.event.as_deref(), row.not_before, row.pid), (Some(r#"{"k":"v"}"#), None, None));
    assert_eq!((restored.next_run, restored.running.len(), restored.jobs[0].pending.len()), (2, 0, 0));
    assert_eq!(store.last_run(JobId(0)).unwrap().unwrap().id, RunId(1));
}

#[test]
fn each_outcome_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Skipped, Outcome::Lost];
    for (id, outcome) in (1..).zip(outcomes) {
        let record = ended(id, 0, outcome, at(5));
        let RunState::Ended(end) = record.state.clone() else { unreachable!() };
        store.commit(vec![new(record)], Vec::new()).unwrap();
        let row = store.run(RunId(id)).unwrap().unwrap();
        assert_eq!((row.state, row.exit, row.reason.as_deref()), (outcome.word(), end.exit, end.reason.as_deref()));
    }
}

#[test]
fn committed_changes_survive_a_daemon_that_never_closed_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let anchor = Now { wall: at(-5), elapsed: Elapsed::from_nanos(400_000_000) };
    let changes = vec![
        new(pending(1, 0)),
        new(running(2, 1)),
        Change::Cursor { job: JobId(0), at: at(60) },
        Change::Anchor { job: JobId(1), at: anchor },
        Change::Paused { job: JobId(1), paused: true },
        Change::Credit { job: JobId(1), upstream: JobId(0), outcome: Some(Outcome::Succeeded) },
        Change::Timeline(Timeline::starting(at(-100))),
    ];
    store.commit(changes, Vec::new()).unwrap();
    // A crash: nothing is closed, and no checkpoint made.
    std::mem::forget(store);

    // The jobs are found by their names, whatever their order is now.
    let mut store = opened(dir.path()).store;
    let (restored, same_boot) = store.restore(now(), &names(&["b", "new", "a"]), None).unwrap();
    assert!(same_boot);
    assert_eq!(restored.next_run, 3);
    assert_eq!(restored.timeline, Some(Timeline::starting(at(-100))));
    let [b, fresh, a] = &restored.jobs[..] else { panic!("three jobs") };
    assert_eq!((a.cursor, a.paused, a.pending[0].id), (Some(at(60)), false, RunId(1)));
    // On the monotonic clock it is 1 s now and was 0.4 s then.
    assert_eq!((b.anchor_age, b.paused), (Some(600_000_000), true));
    assert_eq!(b.credits, [(JobId(2), Outcome::Succeeded)]);
    assert_eq!((fresh.cursor, fresh.anchor_age, fresh.paused, fresh.pending.len()), (None, None, false, 0));
    assert_eq!(restored.running.len(), 1);
    let (run, process) = &restored.running[0];
    assert_eq!((run.id, run.job, *process), (RunId(2), JobId(0), RestoredProcess::Gone));

    drop(store);
    let mut store = Store::open(dir.path(), Default::default(), "boot-2".into()).unwrap().store;
    let (restored, same_boot) = store.restore(now(), &names(&["b"]), None).unwrap();
    assert!(!same_boot, "another boot than {BOOT}");
    assert_eq!(restored.jobs[0].anchor_age, Some(5_000_000_000), "by the wall clock, after a boot");
}

#[test]
fn active_runs_of_a_removed_job_end_with_a_time_and_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit(vec![new(pending(1, 0)), new(running(2, 0))], Vec::new()).unwrap();
    drop(store);
    let (mut store, restored) = open(dir.path(), &["b"]);
    assert!(restored.running.is_empty());
    for (id, state) in [(1, StateWord::Cancelled), (2, StateWord::Lost)] {
        let row = store.run(RunId(id)).unwrap().unwrap();
        assert_eq!((row.state, row.ended_at), (state, Some(now().wall)));
        assert_eq!((row.reason.as_deref(), row.pid), (Some("its job is no longer in the configuration"), None));
    }
}

fn seen(keys: &[u128]) -> Vec<SeenObject> {
    keys.iter().map(|key| SeenObject { key: ObjectKey(*key), version: ObjectVersion(u64::MAX - 1) }).collect()
}

#[test]
fn an_object_is_seen_in_the_transaction_of_its_run_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["w"]);
    assert!(!store.load_seen(JobId(0), "s3://b/p").unwrap().baseline_done);
    let record = |keys: &[u128], baseline_done| WatchRecord {
        job: JobId(0),
        batch: Batch { seen: seen(keys), baseline_done, ..Batch::default() },
    };
    // Another connection holds the write lock: the transaction fails as a whole.
    let blocker = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.commit(vec![new(pending(1, 0))], vec![record(&[u128::MAX, 7], true)]).unwrap_err();
    blocker.execute_batch("ROLLBACK").unwrap();
    // A crash at this point: the backlog in memory is lost.
    drop(store);
    let (mut store, restored) = open(dir.path(), &["w"]);
    assert_eq!((restored.next_run, restored.jobs[0].pending.len()), (1, 0), "neither the run");
    assert_eq!(store.load_seen(JobId(0), "s3://b/p").unwrap(), Default::default(), "nor the object");

    store.commit(vec![new(pending(1, 0))], vec![record(&[u128::MAX, 7], true)]).unwrap();
    drop(store);
    let (mut store, restored) = open(dir.path(), &["w"]);
    assert_eq!(restored.jobs[0].pending.len(), 1);
    let snapshot = store.load_seen(JobId(0), "s3://b/p").unwrap();
    assert_eq!((snapshot.baseline_done, snapshot.objects), (true, seen(&[7, u128::MAX])));
    assert_eq!(store.load_seen(JobId(0), "s3://other").unwrap(), Default::default(), "another watch has seen nothing");
}

#[test]
fn other_connections_see_the_changes_of_a_turn_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let count = || {
        History::open(dir.path())
            .unwrap()
            .unwrap()
            .query(&firelink::store::Filter { limit: 9999, ..Default::default() })
            .unwrap()
            .len()
    };
    assert_eq!(count(), 0);
    let watcher = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    watcher.execute_batch("BEGIN; SELECT count(*) FROM runs").unwrap();
    store.commit((1..=500).map(|id| new(pending(id, 0))).collect(), Vec::new()).unwrap();
    let before: i64 = watcher.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!((before, count()), (0, 500));
}

#[test]
fn pending_runs_beyond_the_in_memory_limit_stay_in_the_store_and_are_loaded_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    store.commit((1..=2500).map(|id| new(pending(id, u32::from(id % 5 == 0)))).collect(), Vec::new()).unwrap();
    drop(store);
    let (mut store, restored) = open(dir.path(), &["a", "b"]);
    assert_eq!((restored.jobs[0].pending.len(), restored.jobs[0].stored), (1000, 1000));
    assert_eq!((restored.jobs[1].pending.len(), restored.jobs[1].stored), (500, 0));
    let next = restored.jobs[0].pending.last().unwrap().id.0 + 1;
    let loaded = store.load_pending(JobId(0), RunId(next), 3).unwrap();
    assert_eq!(loaded.iter().map(|run| run.id.0).collect::<Vec<_>>(), [1251, 1252, 1253]);
    let skip = Change::SkipStored { job: JobId(0), from: RunId(next), at: at(4), reason: "upstream a failed".into() };
    store.commit(vec![skip], Vec::new()).unwrap();
    assert!(store.load_pending(JobId(0), RunId(next), 3).unwrap().is_empty());
    let row = store.run(RunId(2499)).unwrap().unwrap();
    assert_eq!((row.state, row.ended_at, row.reason.as_deref()), (StateWord::Skipped, Some(at(4)), Some("upstream a failed")));
}

#[test]
fn a_database_of_version_1_is_migrated_with_all_its_content() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path(), &["a"]);
        store
            .commit(vec![Change::Run { new: true, record: Box::new(ended(1, 0, Outcome::Succeeded, at(2))) }], Vec::new())
            .unwrap();
        let missed = Change::Missed { job: JobId(0), at: at(4), reason: "the box was off".into() };
        store.commit(vec![Change::Cursor { job: JobId(0), at: at(5) }, missed], Vec::new()).unwrap();
    }
    let conn = rusqlite::Connection::open(dir.path().join(firelink::store::DATABASE)).unwrap();
    conn.execute_batch(
        "ALTER TABLE jobs DROP COLUMN timing; ALTER TABLE jobs DROP COLUMN ended; ALTER TABLE jobs DROP COLUMN made_up; ALTER TABLE jobs DROP COLUMN missed; DROP INDEX missed_by_job; DROP TABLE blocks;
         DROP INDEX runs_troubled; DROP TABLE seen_log;
         CREATE TABLE seen (job INTEGER NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (job, key)) WITHOUT ROWID;
         INSERT INTO seen VALUES (1, x'00000000000000000000000000000007', 70), (1, x'00000000000000000000000000000003', 30);
         UPDATE jobs SET watch = 'w', baseline = 1; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(conn);
    let (mut store, restored) = open(dir.path(), &["a"]);
    let known = store.load_seen(JobId(0), "w").unwrap();
    let object = |key, version| SeenObject { key: ObjectKey(key), version: ObjectVersion(version) };
    assert_eq!((known.baseline_done, known.objects), (true, vec![object(3, 30), object(7, 70)]));
    assert_eq!((restored.next_run, restored.jobs[0].cursor), (2, Some(at(5))));
    let conn = rusqlite::Connection::open(dir.path().join(firelink::store::DATABASE)).unwrap();
    assert_eq!(conn.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 8);
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
    assert_eq!(conn.query_row("SELECT timing FROM jobs", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn caught_up_ranges_are_read_back_also_from_a_version_with_one_range() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let caught_up = CaughtUp::from_ranges(vec![(at(1), at(2)), (at(50), at(50))]);
    store.commit(vec![Change::CaughtUp { job: JobId(0), caught_up: caught_up.clone() }], Vec::new()).unwrap();
    drop(store);
    let (_, restored) = open(dir.path(), &["a", "b"]);
    assert_eq!((&restored.jobs[0].caught_up, restored.jobs[1].caught_up.is_empty()), (&caught_up, true));
    let conn = rusqlite::Connection::open(dir.path().join(firelink::store::DATABASE)).unwrap();
    conn.execute_batch(&format!(
        "ALTER TABLE jobs DROP COLUMN made_up; ALTER TABLE jobs ADD COLUMN made_up_from INTEGER;
         ALTER TABLE jobs ADD COLUMN made_up_to INTEGER; UPDATE jobs SET made_up_from = {}, made_up_to = {} WHERE name = 'a';
         PRAGMA user_version = 7",
        at(3).as_nanos(),
        at(4).as_nanos()
    ))
    .unwrap();
    drop(conn);
    let (_, restored) = open(dir.path(), &["a", "b"]);
    assert_eq!(restored.jobs[0].caught_up, CaughtUp::from_ranges(vec![(at(3), at(4))]));
    assert!(restored.jobs[1].caught_up.is_empty());
}

#[test]
fn missed_deadlines_of_a_changed_schedule_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let key = |timing| [firelink::store::JobKey { name: "a".into(), timing }];
    let open = |timing| {
        let mut store = opened(dir.path()).store;
        let (restored, _) = store.restore(now(), &key(timing), Some(now().wall)).unwrap();
        (store, restored.jobs[0].cursor)
    };
    let (mut store, _) = open(1);
    store.commit(vec![Change::Cursor { job: JobId(0), at: at(-500) }], Vec::new()).unwrap();
    drop(store);
    assert_eq!(open(1).1, Some(at(-500)));
    assert_eq!(open(2).1, Some(at(0)), "the new schedule begins now");
    assert_eq!(open(2).1, Some(at(0)));
}

#[test]
fn a_new_list_of_jobs_keeps_shared_rows_and_resets_those_of_earlier_jobs_with_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b", "c"]);
    let credit = |job, upstream| Change::Credit { job: JobId(job), upstream: JobId(upstream), outcome: Some(Outcome::Succeeded) };
    let paused = |job| Change::Paused { job: JobId(job), paused: true };
    store.commit(vec![credit(2, 0), credit(2, 1), paused(0), paused(1)], Vec::new()).unwrap();
    store.set_jobs(&names(&["c", "b"])).unwrap();
    store.set_jobs(&names(&["new", "a", "b", "c"])).unwrap();
    store.commit(vec![Change::Run { new: true, record: Box::new(ended(1, 3, Outcome::Succeeded, at(2))) }], Vec::new()).unwrap();
    drop(store);
    let (_, restored) = open(dir.path(), &["a", "b", "c"]);
    assert_eq!(restored.jobs.iter().map(|job| job.paused).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(restored.jobs[2].credits, [(JobId(1), Outcome::Succeeded)]);
    let history = History::open(dir.path()).unwrap().unwrap();
    let runs = history.query(&firelink::store::Filter { limit: 9, ..Default::default() }).unwrap();
    assert_eq!(history.job_name(runs[0].as_ref().unwrap().job_row), "c");
}
