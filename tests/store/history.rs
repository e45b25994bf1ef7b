//! The history: queries with and without a daemon that writes, and pruning.

use std::time::Duration;

use firelink::cron::Zone;
use firelink::engine::Change;
use firelink::model::{JobId, Outcome, RunId, StateWord, TriggerWord};
use firelink::store::{Filter, Gone, History, Keep, Lock, LockError, Pruned, Store, log_path};

use crate::support::{at, ended, names, new, open, pending, running};

fn ids(history: &History, filter: &Filter) -> Vec<String> {
    let show = |entry: Result<firelink::store::StoredRun, firelink::store::MissedRow>| match entry {
        Ok(run) => run.id.to_string(),
        Err(missed) => format!("m{}", missed.after_run),
    };
    history.query(filter).unwrap().into_iter().map(show).collect()
}

fn all() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

#[test]
fn history_is_newest_first_filtered_and_the_same_with_and_without_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    assert!(History::open(dir.path()).unwrap().is_none(), "there is none yet");
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let missed = Change::Missed { job: JobId(0), at: at(3), reason: "the box was off".into() };
    let changes = vec![
        new(ended(1, 0, Outcome::Succeeded, at(2))),
        new(ended(2, 1, Outcome::Failed, at(3))),
        missed,
        new(running(3, 0)),
        new(pending(4, 0)),
    ];
    store.commit(changes, Vec::new()).unwrap();
    let check = || {
        let history = History::open(dir.path()).unwrap().unwrap();
        let of = |job: Option<&str>, state, limit| {
            ids(&history, &Filter { job: job.map(Into::into), state, limit, ..Filter::default() })
        };
        assert_eq!(of(None, None, 100), ["4", "3", "m2", "2", "1"]);
        assert_eq!(of(None, None, 2), ["4", "3"]);
        assert_eq!(of(Some("a"), None, 100), ["4", "3", "m2", "1"]);
        assert_eq!(of(Some("nobody"), None, 100), [""; 0]);
        assert_eq!(of(None, Some(StateWord::Failed), 100), ["2"]);
        assert_eq!(of(None, Some(StateWord::Missed), 100), ["m2"]);
        assert_eq!(of(Some("b"), Some(StateWord::Missed), 100), [""; 0]);
        let mut jobs: Vec<&str> = history.job_names().collect();
        jobs.sort_unstable();
        assert_eq!(jobs, ["a", "b"]);
    };
    check();
    drop(store);
    check();
}

#[test]
fn an_open_read_transaction_does_not_block_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit(vec![new(pending(1, 0))], Vec::new()).unwrap();
    let reader = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM runs").unwrap();
    for id in 2..300 {
        store.commit(vec![new(pending(id, 0))], Vec::new()).unwrap();
    }
    assert_eq!(store.trouble(), None);
    assert_eq!(ids(&History::open(dir.path()).unwrap().unwrap(), &Filter { limit: 1, ..all() }), ["299"]);
}

#[test]
fn a_run_has_the_stable_json_form() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let record = firelink::engine::RunRecord {
        event: Some(r#"{"key":1}"#.into()),
        trigger: TriggerWord::Watch,
        ..ended(1, 0, Outcome::TimedOut, at(2))
    };
    store.commit(vec![new(record)], Vec::new()).unwrap();
    let row = store.run(RunId(1)).unwrap().unwrap();
    let zone: Zone = Zone::parse("UTC").unwrap();
    let text = serde_json::to_value(row.view("a", zone, dir.path())).unwrap();
    let expected = serde_json::json!({
        "id": 1, "job": "a", "state": "timed_out", "trigger": "watch", "event": {"key": 1},
        "scheduled_at": zone.rfc3339(at(0)), "started_at": zone.rfc3339(at(1)), "ended_at": zone.rfc3339(at(2)),
        "attempt": 1, "exit_code": null, "signal": "SIGTERM", "reason": null, "log": null,
    });
    assert_eq!(text, expected);
    let log = log_path(dir.path(), "a", RunId(1));
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "out").unwrap();
    assert_eq!(row.view("a", zone, dir.path()).log, Some(log.display().to_string()));
}

fn prune(
    store: &mut Store,
    dir: &std::path::Path,
    runs: u32,
    since: Option<firelink::model::WallTime>,
    limit: usize,
) -> Vec<u64> {
    let removed = store.prune(JobId(0), Keep { runs, since }, limit).unwrap();
    for id in &removed.runs {
        std::fs::remove_file(log_path(dir, "a", RunId(*id))).unwrap();
    }
    removed.runs
}

#[test]
fn old_runs_are_pruned_by_number_and_by_age_with_their_logs_and_active_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let mut changes: Vec<Change> =
        (1..=10).map(|id| new(ended(id, 0, Outcome::Succeeded, at(i64::try_from(id).unwrap())))).collect();
    changes[2] = new(running(3, 0));
    changes[3] = new(pending(4, 0));
    changes.push(new(ended(11, 1, Outcome::Succeeded, at(0))));
    store.commit(changes, Vec::new()).unwrap();
    std::fs::create_dir_all(dir.path().join("logs/a")).unwrap();
    for id in 1..=10 {
        std::fs::write(log_path(dir.path(), "a", RunId(id)), "").unwrap();
    }
    let left = |store: &mut Store| (1..=11).filter(|id| store.run(RunId(*id)).unwrap().is_some()).collect::<Vec<u64>>();
    assert_eq!(prune(&mut store, dir.path(), 100, None, 100), [0; 0]);
    assert_eq!(prune(&mut store, dir.path(), 5, None, 2), [1, 2], "no more at once than asked");
    assert_eq!(prune(&mut store, dir.path(), 5, None, 100), [5]);
    assert_eq!(left(&mut store), [3, 4, 6, 7, 8, 9, 10, 11]);
    assert_eq!(prune(&mut store, dir.path(), 5, Some(at(8)), 100), [6, 7]);
    assert_eq!(left(&mut store), [3, 4, 8, 9, 10, 11]);
    let logs = std::fs::read_dir(dir.path().join("logs/a")).unwrap().count();
    assert_eq!(logs, 5);
}

#[test]
fn missed_deadlines_are_pruned_by_number_and_by_age_and_with_the_runs_around_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let miss = |job, secs| Change::Missed { job: JobId(job), at: at(secs), reason: "the box was off".into() };
    store.commit((1..=10).map(|secs| miss(0, secs)).chain([miss(1, 1), miss(1, 2)]).collect(), Vec::new()).unwrap();
    let mut prune = |runs, since, limit| {
        let pruned = store.prune(JobId(0), Keep { runs, since }, limit).unwrap();
        assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
        (pruned.runs, pruned.missed)
    };
    let left = || {
        let history = History::open(dir.path()).unwrap().unwrap();
        let of = Filter { job: Some("a".into()), ..all() };
        let found = history.query(&of).unwrap().into_iter();
        found.map(|entry| entry.map_or_else(|missed| missed.at, |run| run.scheduled_at)).collect::<Vec<_>>()
    };
    assert_eq!(prune(100, None, 64), (vec![], 0));
    assert_eq!(prune(7, None, 2), (vec![], 2), "no more at once than asked");
    assert_eq!(prune(7, None, 64), (vec![], 1));
    assert_eq!(prune(7, Some(at(6)), 64), (vec![], 2));
    assert_eq!(left(), [10, 9, 8, 7, 6].map(at));
    assert_eq!(prune(0, None, 64), (vec![], 4), "the latest says how the job fared");
    assert_eq!(left(), [at(10)]);
    let runs = (1..=4).map(|id| new(ended(id, 0, Outcome::Succeeded, at(20 + i64::try_from(id).unwrap()))));
    store.commit(runs.collect(), Vec::new()).unwrap();
    store.commit(vec![miss(0, 30)], Vec::new()).unwrap();
    let pruned = store.prune(JobId(0), Keep { runs: 2, since: None }, 64).unwrap();
    assert_eq!((pruned.runs, pruned.missed), (vec![1, 2], 1), "it came before them");
    assert_eq!(left()[0], at(30));
    let of_b = Filter { job: Some("b".into()), ..all() };
    assert_eq!(ids(&History::open(dir.path()).unwrap().unwrap(), &of_b), ["m0", "m0"], "another job's stay");
}

#[test]
fn runs_of_a_removed_job_are_pruned_too_and_its_row_is_deleted_with_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["stays", "gone", "watch"]);
    let credit = |job, upstream| Change::Credit { job: JobId(job), upstream: JobId(upstream), outcome: Some(Outcome::Succeeded) };
    let mut changes: Vec<Change> =
        (1..=8).map(|id| new(ended(id, 1 + u32::from(id > 5), Outcome::Failed, at(i64::try_from(id).unwrap())))).collect();
    changes.extend([new(ended(9, 0, Outcome::Succeeded, at(9))), credit(0, 1), credit(0, 2), credit(1, 0)]);
    changes.push(Change::Missed { job: JobId(1), at: at(1), reason: "the box was off".into() });
    store.load_seen(JobId(2), "s3://b/p").unwrap();
    store.commit(changes, Vec::new()).unwrap();
    assert_eq!(store.gone().unwrap(), []);
    store.set_jobs(&names(&["stays"])).unwrap();
    let gone = store.gone().unwrap();
    let of = |table: &str| {
        let conn = rusqlite::Connection::open(dir.path().join(firelink::store::DATABASE)).unwrap();
        conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((gone.len(), of("credits")), (2, 0));
    let mut prune = |job, runs, since, limit| store.prune_gone(job, Keep { runs, since }, limit).unwrap();
    let removed = |runs: &[u64], missed, forgotten| {
        let pruned = Pruned { runs: runs.to_vec(), missed };
        Gone { name: "gone".into(), pruned, forgotten }
    };
    assert_eq!(prune(gone[0], 3, None, 1), removed(&[1], 0, false), "no more at once than asked");
    assert_eq!(prune(gone[0], 3, None, 64), removed(&[2], 0, false));
    assert_eq!(prune(gone[0], 3, Some(at(100)), 3), removed(&[3, 4, 5], 0, false));
    assert_eq!(prune(gone[0], 3, Some(at(100)), 64), removed(&[], 1, true));
    assert!(!prune(gone[1], 3, Some(at(100)), 64).forgotten, "what a watch has seen stays");
    assert_eq!((of("jobs"), of("runs"), of("missed")), (2, 1, 0));
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
    drop(store);
    let (mut store, _) = open(dir.path(), &["stays", "gone"]);
    assert_eq!(store.gone().unwrap(), [gone[1]], "a restart finds those that are left");
}

#[test]
fn a_run_id_is_never_used_twice_whatever_is_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit((1..=5).map(|id| new(ended(id, 0, Outcome::Failed, at(1)))).collect(), Vec::new()).unwrap();
    store.prune(JobId(0), Keep { runs: 1, since: Some(at(0) + Duration::from_secs(1000)) }, 100).unwrap();
    drop(store);
    assert_eq!(open(dir.path(), &["a"]).1.next_run, 6);
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = Lock::take(dir.path()).unwrap();
    let held = Lock::take(dir.path()).unwrap_err();
    assert!(matches!(held, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()));
    let message = held.to_string();
    assert!(
        message.starts_with(&format!("the daemon with pid {} already runs on the state in ", std::process::id())),
        "{message}"
    );
    drop(first);
    Lock::take(dir.path()).unwrap();
}

#[test]
fn history_is_queried_by_time_and_by_id_and_has_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let due =
        |id: u64, secs| firelink::engine::RunRecord { scheduled_at: at(secs), ..ended(id, 0, Outcome::Succeeded, at(secs + 1)) };
    let failed = Change::AttemptFailed {
        run: RunId(2),
        attempt: firelink::model::Attempt(1),
        started_at: Some(at(20)),
        ended_at: at(21),
        exit: Some(firelink::model::Exit::Code(7)),
        reason: "exit code 7".into(),
    };
    let missed = Change::Missed { job: JobId(0), at: at(25), reason: "the box was off".into() };
    store.commit(vec![new(due(1, 10)), new(due(2, 20)), failed, missed, new(due(3, 30))], Vec::new()).unwrap();
    let history = History::open(dir.path()).unwrap().unwrap();
    let of = |since: Option<i64>, until: Option<i64>, before: Option<u64>| {
        ids(&history, &Filter { since: since.map(at), until: until.map(at), before: before.map(RunId), ..all() })
    };
    assert_eq!(of(Some(20), None, None), ["3", "m2", "2"], "since counts in");
    assert_eq!(of(None, Some(20), None), ["1"], "until does not");
    assert_eq!(of(Some(15), Some(28), None), ["m2", "2"]);
    assert_eq!(of(None, None, Some(3)), ["m2", "2", "1"]);
    assert_eq!(history.run(RunId(2)).unwrap().unwrap().scheduled_at, at(20));
    assert_eq!(history.run(RunId(9)).unwrap(), None);
    let attempts = history.attempts(RunId(2)).unwrap();
    assert_eq!((attempts.len(), attempts[0].attempt.0, &*attempts[0].reason), (1, 1, "exit code 7"));
    assert_eq!(attempts[0].exit, Some(firelink::model::Exit::Code(7)));
}

#[test]
fn inspect_reports_each_violated_invariant() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), None);
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit((1..=50).map(|id| new(ended(id, 0, Outcome::Succeeded, at(1)))).collect(), Vec::new()).unwrap();
    store.commit(vec![new(running(51, 0)), new(pending(52, 0))], Vec::new()).unwrap();
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()), "also while a daemon has it open");
    drop(store);
    let path = dir.path().join(firelink::store::DATABASE);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let faults = |change: &str, undo: &str| {
        conn.execute_batch(change).unwrap();
        let found = firelink::store::inspect(dir.path()).unwrap().unwrap();
        conn.execute_batch(undo).unwrap();
        found
    };
    assert_eq!(
        faults("UPDATE runs SET job = 77 WHERE id = 50", "UPDATE runs SET job = 1 WHERE id = 50"),
        ["run 50 belongs to a job that is not known", "job a has a wrong count of ended runs"]
    );
    assert_eq!(
        faults("UPDATE jobs SET missed = 2", "UPDATE jobs SET missed = 0"),
        ["job a has a wrong count of missed deadlines"]
    );
    assert_eq!(
        faults("UPDATE runs SET state = 'odd' WHERE id = 3", "UPDATE runs SET state = 'failed' WHERE id = 3"),
        ["run 3, state `odd` has an unknown state"]
    );
    assert_eq!(
        faults("UPDATE runs SET ended_at = 1 WHERE id = 51", "UPDATE runs SET ended_at = NULL WHERE id = 51"),
        ["run 51 has ended without a time, or has an end time and has not ended"]
    );
    assert_eq!(
        faults("INSERT INTO seen_log VALUES (1, 1, x'00')", "DELETE FROM seen_log"),
        ["the seen log of job 1, row 1 has a length that is not a multiple of a record"]
    );
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 1024].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
}

#[test]
fn with_pruning_a_month_of_runs_takes_no_more_space_than_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    let size = || {
        let of = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |meta| meta.len());
        of("state.db") + of("state.db-wal")
    };
    let mut after_a_day = 0;
    // Two jobs with a run each ten minutes, three turns each, pruned as the daemon does.
    for id in 1..=30 * 144 {
        let job = u32::from(id % 3 == 0);
        store.commit(vec![new(pending(id, job))], Vec::new()).unwrap();
        store.commit(vec![firelink::engine::Change::Run { new: false, record: Box::new(running(id, job)) }], Vec::new()).unwrap();
        let over = ended(id, job, Outcome::Succeeded, at(i64::try_from(id).unwrap()));
        store.commit(vec![firelink::engine::Change::Run { new: false, record: Box::new(over) }], Vec::new()).unwrap();
        if id % 10 == 0 {
            for job in [JobId(0), JobId(1)] {
                store.prune(job, Keep { runs: 20, since: None }, 200).unwrap();
            }
            store.idle_maintenance(Duration::from_secs(600));
        }
        if id == 2 * 144 {
            after_a_day = size();
        }
    }
    // SQLite's WAL is checkpointed at a thousand pages.
    assert!(size() <= after_a_day.max(1_200 * 1_024) + 64 * 1_024, "{after_a_day} bytes, then {}", size());
    let history = History::open(dir.path()).unwrap().unwrap();
    let kept = history.query(&Filter { limit: usize::MAX, ..all() }).unwrap().len();
    assert!((40..=60).contains(&kept), "{kept} runs are kept");
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
}
