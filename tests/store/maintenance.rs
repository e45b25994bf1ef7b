//! Checkpoints of SQLite's WAL: in idle time if there is any, else in a commit.

use std::path::Path;
use std::time::Duration;

use firelink::model::Outcome;
use firelink::store::Store;

use crate::support::{at, ended, new, open, pending, running, update};

const SECOND: Duration = Duration::from_secs(1);
const FIFTH: Duration = Duration::from_millis(200);

/// Pages in the log, and how many of them are in the database too.
fn log(dir: &Path) -> (i64, i64) {
    let conn = rusqlite::Connection::open(dir.join("state.db")).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap()
}

/// Runs come and end until the log has so many pages.
fn fill(store: &mut Store, dir: &Path, next: &mut u64, pages: i64) {
    while log(dir).0 < pages {
        for record in [pending(*next, 0), running(*next, 0), ended(*next, 0, Outcome::Succeeded, at(2))] {
            store.commit(vec![if record.started_at.is_none() { new(record) } else { update(record) }], Vec::new()).unwrap();
        }
        *next += 1;
    }
}

#[test]
fn the_longer_the_idle_time_the_fewer_pages_make_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let (path, mut next) = (dir.path(), 1);
    fill(&mut store, path, &mut next, 900);
    let before = log(path);
    store.idle_maintenance(Duration::MAX);
    assert_eq!((log(path), before.1), (before, 0), "it is not worth it");
    fill(&mut store, path, &mut next, 1_000);
    store.idle_maintenance(SECOND - Duration::from_nanos(1));
    assert_eq!(log(path).1, 0, "for a longer idle time");
    store.idle_maintenance(SECOND);
    let (pages, done) = log(path);
    assert!(pages < 5 && done == 0, "the log was restarted by the checkpoint, not by the next commit: {pages} pages");
    fill(&mut store, path, &mut next, 2_000);
    store.idle_maintenance(FIFTH - Duration::from_nanos(1));
    assert_eq!(log(path).1, 0);
    store.idle_maintenance(FIFTH);
    assert!(log(path).0 < 5);
    let left = log(path);
    store.idle_maintenance(Duration::MAX);
    assert_eq!(log(path), left, "nothing is written when nothing was");
}

#[test]
fn without_idle_time_a_commit_makes_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    fill(&mut store, dir.path(), &mut 1, 4_000);
    assert_eq!(log(dir.path()).0, log(dir.path()).1);
}

#[test]
fn a_reader_that_pins_the_log_does_not_cause_repeated_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let mut next = 1;
    fill(&mut store, dir.path(), &mut next, 500);
    let reader = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM runs").unwrap();
    fill(&mut store, dir.path(), &mut next, 2_000);
    store.idle_maintenance(SECOND);
    let (pages, done) = log(dir.path());
    assert!((500..600).contains(&done), "what the reader does not need to be as it was: {done} of {pages}");
    store.idle_maintenance(SECOND);
    assert_eq!(log(dir.path()), (pages, done));
    reader.execute_batch("COMMIT").unwrap();
    store.idle_maintenance(SECOND);
    assert!(log(dir.path()).0 < 5);
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
}
