//! Databases that are damaged, newer, or on a full disk.

use std::path::{Path, PathBuf};

use firelink::model::{Outcome, RunId, StateWord};
use firelink::store::Durability;
use firelink::store::{DATABASE, Opened, Store, StoreError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::own_process::in_own_process;
use crate::support::{BOOT, at, ended, names, new, now, open, opened, pending, running, update};

fn set_aside(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("state.db.damaged-")).collect()
}

#[test]
fn a_file_that_is_not_a_database_is_renamed_with_a_date_and_replaced() {
    for garbage in [vec![b'x'; 20_000], b"short".to_vec()] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE), &garbage).unwrap();
        let Opened { mut store, warnings } = opened(dir.path());
        let aside = set_aside(dir.path());
        assert_eq!((warnings.len(), aside.len()), (1, 1));
        assert!(warnings[0].contains(&aside[0].display().to_string()), "{warnings:?}");
        let name = aside[0].file_name().unwrap().to_string_lossy().into_owned();
        let stamp = name.strip_prefix("state.db.damaged-").unwrap();
        assert!(chrono::NaiveDateTime::parse_from_str(stamp, "%Y%m%dT%H%M%SZ").is_ok(), "{name}");
        assert_eq!(std::fs::read(&aside[0]).unwrap(), garbage, "what can be saved is kept");
        assert_eq!(store.restore(now(), &names(&["a"]), None).unwrap().0.next_run, 1);
        store.commit(vec![new(pending(1, 0))], Vec::new()).unwrap();
    }
}

#[test]
fn a_database_whose_damage_is_found_by_restore_is_renamed_and_replaced_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit((1..=2000).map(|id| new(pending(id, 0))).collect(), Vec::new()).unwrap();
    drop(store);
    let path = dir.path().join(DATABASE);
    let mut bytes = std::fs::read(&path).unwrap();
    // The header and the schema are intact; everything behind them is not.
    let from = 16 * 1024;
    assert!(bytes.len() > 2 * from);
    bytes[from..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();

    let Opened { mut store, warnings } = opened(dir.path());
    assert!(warnings.is_empty(), "the opening does not read so far");
    let (restored, _) = store.restore(now(), &names(&["a"]), None).unwrap();
    assert_eq!(restored.next_run, 1);
    let warnings = store.take_warnings();
    assert_eq!((warnings.len(), set_aside(dir.path()).len()), (1, 1));
    assert!(warnings[0].contains("was damaged"), "{warnings:?}");
    store.commit(vec![new(pending(1, 0))], Vec::new()).unwrap();
    drop(store);
    assert_eq!(open(dir.path(), &["a"]).1.next_run, 2);
}

#[test]
fn a_database_of_a_newer_firelink_is_an_error_and_stays_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    drop(opened(dir.path()));
    let path = dir.path().join(DATABASE);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let known: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(dir.path(), Durability::Normal, BOOT.into()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 99, .. }));
    let expected = format!(
        "{} was written by a newer firelink (its version is 99, this one knows up to {known}); use that firelink, or another state_dir",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(set_aside(dir.path()).is_empty());
}

#[test]
fn a_missing_directory_is_an_error_with_the_path() {
    let error = Store::open(Path::new("/no/such/dir"), Durability::Normal, BOOT.into()).unwrap_err().to_string();
    assert!(error.starts_with("can't open the state database /no/such/dir/state.db: "), "{error}");
}

/// Limits the size of files that this process may write, which to SQLite is a full disk.
fn room(bytes: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes.min(hard), hard).unwrap();
}

#[test]
fn with_a_full_disk_the_error_is_reported_and_changes_are_written_when_there_is_space_again() {
    if !in_own_process("disk::with_a_full_disk_the_error_is_reported_and_changes_are_written_when_there_is_space_again") {
        return;
    }
    // SAFETY: ignoring installs no handler; the write then fails with EFBIG (setrlimit(2)).
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn).unwrap() };
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.commit(vec![new(pending(1, 0))], Vec::new()).unwrap();

    room(1);
    let error = store.commit(vec![update(running(1, 0)), new(pending(2, 0))], Vec::new()).unwrap_err().to_string();
    assert!(error.contains("state.db"), "{error}");
    assert!(store.trouble().unwrap().ends_with("; 2 changes wait in memory"), "{:?}", store.trouble());
    store.commit(vec![update(ended(1, 0, Outcome::Succeeded, at(3)))], Vec::new()).unwrap_err();
    assert!(
        store.trouble().unwrap().ends_with("; 2 changes wait in memory"),
        "of a run the last word counts: {:?}",
        store.trouble()
    );
    // The database is intact and unchanged.
    assert_eq!(store.run(RunId(1)).unwrap().unwrap().state, StateWord::Pending);
    assert!(store.run(RunId(2)).unwrap().is_none());

    room(u64::MAX);
    // An empty turn is enough.
    store.commit(Vec::new(), Vec::new()).unwrap();
    assert_eq!(store.trouble(), None);
    drop(store);
    let (mut store, restored) = open(dir.path(), &["a"]);
    assert_eq!(store.run(RunId(1)).unwrap().unwrap().state, StateWord::Succeeded);
    assert_eq!(restored.jobs[0].pending.iter().map(|run| run.id.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_run_whose_insertion_was_dropped_from_the_backlog_is_inserted_with_its_end() {
    if !in_own_process("disk::a_run_whose_insertion_was_dropped_from_the_backlog_is_inserted_with_its_end") {
        return;
    }
    // SAFETY: as above.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn).unwrap() };
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    room(1);
    store.commit((1..=20_001).map(|id| new(running(id, 0))).collect(), Vec::new()).unwrap_err();
    assert!(store.trouble().unwrap().ends_with("; the oldest changes had to be dropped from memory"));
    store.commit(vec![update(ended(1, 0, Outcome::Succeeded, at(3)))], Vec::new()).unwrap_err();
    room(u64::MAX);
    store.commit(Vec::new(), Vec::new()).unwrap();
    let row = store.run(RunId(1)).unwrap().expect("it is there");
    assert_eq!((row.state, row.ended_at, row.scheduled_at), (StateWord::Succeeded, Some(at(3)), at(0)));
    assert!(store.run(RunId(2)).unwrap().is_none(), "the oldest that had no other change");
}
