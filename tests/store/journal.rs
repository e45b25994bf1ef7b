//! The journal: recovery after a crash, queries before the checkpoint, and what is never appended.

use firelink::engine::{Change, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Outcome, RunId, StateWord};
use firelink::store::Durability;
use firelink::store::{Filter, History, JOURNAL, Opened, Store, inspect};

use crate::support::{BOOT, at, ended, names, new, now, open, opened, pending, running, update};

/// The first append is refused, and the commit that follows stores the sequence number with which the journal starts.
fn begun(dir: &std::path::Path) -> Store {
    let (mut store, _) = open(dir, &["a", "b"]);
    assert!(!store.append(&[new(pending(1, 0))]));
    store.commit(vec![new(pending(1, 0))], Vec::new()).unwrap();
    assert!(!dir.join(JOURNAL).exists(), "a file only when there is something for it");
    store
}

fn states(dir: &std::path::Path, filter: &Filter) -> Vec<(u64, StateWord)> {
    let found = History::open(dir).unwrap().unwrap().query(filter).unwrap();
    found.into_iter().map(|entry| entry.map(|run| (run.id.0, run.state)).unwrap()).collect()
}

fn all() -> Filter {
    Filter { limit: 10, ..Filter::default() }
}

#[test]
fn it_is_replayed_after_a_crash_for_the_same_jobs_under_another_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = begun(dir.path());
    let credit = Change::Credit { job: JobId(1), upstream: JobId(0), outcome: Some(Outcome::Failed) };
    assert!(store.append(&[update(running(1, 0)), new(running(2, 1)), Change::Cursor { job: JobId(1), at: at(60) }]));
    assert!(store.append(&[update(ended(1, 0, Outcome::Failed, at(9))), credit]));
    assert!(store.journal_bytes() > 0);
    drop(store);
    let mut store = opened(dir.path()).store;
    let (restored, _) = store.restore(now(), &names(&["b", "new", "a"]), None).unwrap();
    assert_eq!(restored.next_run, 3);
    assert_eq!((restored.jobs[0].cursor, &*restored.jobs[0].credits), (Some(at(60)), &[(JobId(2), Outcome::Failed)][..]));
    assert_eq!(restored.running.iter().map(|(run, _)| (run.id.0, run.job.0)).collect::<Vec<_>>(), [(2, 0)]);
    let row = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!((row.state, row.attempt_at, row.ended_at), (StateWord::Failed, Some(at(1)), Some(at(9))));
    assert_eq!(inspect(dir.path()).unwrap().unwrap(), Vec::<String>::new());
    // A second crash does not apply it a second time.
    drop(store);
    let (mut store, _) = open(dir.path(), &["a", "b"]);
    store.commit(vec![update(ended(2, 1, Outcome::Succeeded, at(10)))], Vec::new()).unwrap();
    drop(store);
    open(dir.path(), &["a", "b"]);
    assert_eq!(states(dir.path(), &all()), [(2, StateWord::Succeeded), (1, StateWord::Failed)]);
}

#[test]
fn history_includes_its_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = begun(dir.path());
    store.commit((2..=4).map(|id| new(pending(id, 0))).collect(), Vec::new()).unwrap();
    let failed = Change::AttemptFailed {
        run: RunId(3),
        attempt: Attempt(1),
        started_at: Some(at(1)),
        ended_at: at(2),
        exit: Some(Exit::Code(1)),
        reason: "exit code 1".into(),
    };
    let retry = RunState::Pending(Waiting::Retry { not_before: at(30), due: Elapsed::from_nanos(7) });
    let retried = firelink::engine::RunRecord { state: retry, ..running(3, 0) };
    assert!(store.append(&[update(ended(2, 0, Outcome::Succeeded, at(5))), failed, update(retried), new(running(5, 1))]));
    let expected = [
        (5, StateWord::Running),
        (4, StateWord::Pending),
        (3, StateWord::Pending),
        (2, StateWord::Succeeded),
        (1, StateWord::Pending),
    ];
    assert_eq!(states(dir.path(), &all()), expected);
    assert_eq!(states(dir.path(), &Filter { limit: 2, ..all() }), expected[..2]);
    assert_eq!(states(dir.path(), &Filter { limit: 2, before: Some(RunId(4)), ..all() }), expected[2..4]);
    let pending = Filter { state: Some(StateWord::Pending), limit: 2, ..all() };
    assert_eq!(states(dir.path(), &pending), [expected[1], expected[2]], "one that is pending no more takes no place");
    assert_eq!(states(dir.path(), &Filter { job: Some("b".into()), ..all() }), expected[..1]);
    let history = History::open(dir.path()).unwrap().unwrap();
    assert_eq!(history.run(RunId(5)).unwrap().unwrap().state, StateWord::Running);
    assert_eq!(history.attempts(RunId(3)).unwrap().len(), 1);
    let rows = |history: &History| (history.query(&all()).unwrap(), history.attempts(RunId(3)).unwrap());
    let before = rows(&history);
    store.catch_up().unwrap();
    assert_eq!(store.journal_bytes(), 0);
    assert_eq!(rows(&history), before);
}

#[test]
fn queries_of_the_daemon_and_its_orderly_stop_checkpoint_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = begun(dir.path());
    assert!(store.append(&[update(running(1, 0))]));
    assert_eq!(store.last_run(JobId(0)).unwrap().unwrap().state, StateWord::Running);
    assert_eq!(store.journal_bytes(), 0);
    assert!(store.append(&[update(ended(1, 0, Outcome::Succeeded, at(3)))]));
    store.close();
    assert!(!dir.path().join(JOURNAL).exists());
    let database = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    let state: String = database.query_row("SELECT state FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(state, "succeeded");
}

#[test]
fn changes_that_must_not_wait_are_not_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = begun(dir.path());
    assert!(!store.append(&[Change::Paused { job: JobId(0), paused: true }]), "rare");
    assert!(!store.append(&[Change::Missed { job: JobId(0), at: at(1), reason: "why".into() }]), "the history shows it");
    store.set_durability(Durability::Full).unwrap();
    assert!(!store.append(&[update(running(1, 0))]), "a power cut would take it");
    store.set_durability(Durability::Normal).unwrap();
    assert!(store.append(&[update(running(1, 0))]));
    store.set_durability(Durability::Full).unwrap();
    assert_eq!(store.journal_bytes(), 0);
}

#[test]
fn the_journal_of_a_damaged_database_is_renamed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = begun(dir.path());
    assert!(store.append(&[update(running(1, 0))]));
    drop(store);
    std::fs::write(dir.path().join("state.db"), "no database, and long enough to be looked at as one".repeat(100)).unwrap();
    let Opened { mut store, warnings } = Store::open(dir.path(), Durability::Normal, BOOT.into()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    store.restore(now(), &names(&["a", "b"]), None).unwrap();
    assert!(!dir.path().join(JOURNAL).exists());
    assert_eq!(states(dir.path(), &all()), []);
    let kept = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(kept.filter(|name| name.contains(".damaged-")).any(|name| name.ends_with(".turns")));
}
