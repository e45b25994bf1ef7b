//! The seen log: compaction keeps the last record of each key, wherever it is interrupted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use firelink::model::JobId;
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::store::{DATABASE, Store, WatchRecord};

use crate::support::open;

const WATCH: &str = "s3://bucket/prefix";

fn object(key: u128, version: u64) -> SeenObject {
    SeenObject { key: ObjectKey(key), version: ObjectVersion(version) }
}

fn write(store: &mut Store, batch: Batch) {
    store.commit(Vec::new(), vec![WatchRecord { job: JobId(0), batch }]).unwrap();
}

/// Each row of the log: its place and its length in records.
fn rows(dir: &Path) -> Vec<(i64, i64)> {
    let conn = rusqlite::Connection::open(dir.join(DATABASE)).unwrap();
    let mut query = conn.prepare("SELECT seq, length(records) / 24 FROM seen_log ORDER BY seq").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_log_is_compacted_before_it_outgrows_its_objects() {
    for (rests, most) in [(true, 10_000), (false, 18_000)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), &["a"]);
        store.load_seen(JobId(0), WATCH).unwrap();
        // A hundred keys are added, changed and deleted, again and again.
        for round in 0..400 {
            let seen = (0..100).map(|key| object(key, round)).collect();
            let gone = if round % 3 == 0 { (0..50).map(ObjectKey).collect() } else { Vec::new() };
            write(&mut store, Batch { seen, baseline_done: round == 0, ..Batch::default() });
            write(&mut store, Batch { gone, ..Batch::default() });
            if rests {
                store.idle_maintenance(Duration::from_secs(1));
            }
            let records: i64 = rows(dir.path()).iter().map(|(_, length)| length).sum();
            assert!(records < most, "{records} records of a hundred objects in round {round}");
        }
        let expected: Vec<SeenObject> = (50..100).map(|key| object(key, 399)).collect();
        assert_eq!(store.load_seen(JobId(0), WATCH).unwrap().objects, expected);
    }
}

#[test]
fn a_first_scan_of_new_keys_rewrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.load_seen(JobId(0), WATCH).unwrap();
    for page in 0..150 {
        let seen = (page * 1_000..(page + 1) * 1_000).map(|key| object(key, 1)).collect();
        write(&mut store, Batch { seen, baseline_done: page == 149, ..Batch::default() });
        store.idle_maintenance(Duration::from_secs(1));
    }
    assert_eq!(rows(dir.path()), (1..=150).map(|seq| (seq, 1_000)).collect::<Vec<_>>());
}

#[test]
fn short_rows_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.load_seen(JobId(0), WATCH).unwrap();
    write(&mut store, Batch { baseline_done: true, ..Batch::default() });
    for some in 0..900 {
        write(&mut store, Batch { seen: (some * 10..(some + 1) * 10).map(|key| object(key, 1)).collect(), ..Batch::default() });
        store.idle_maintenance(Duration::from_secs(1));
    }
    assert!(rows(dir.path()).len() < 100, "{:?}", rows(dir.path()));
    assert_eq!(store.load_seen(JobId(0), WATCH).unwrap().objects, (0..9_000).map(|key| object(key, 1)).collect::<Vec<_>>());
}

#[test]
fn the_last_record_of_each_key_survives_compactions_that_are_interrupted_anywhere() {
    let mut state = 5_u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    store.load_seen(JobId(0), WATCH).unwrap();
    let mut model = BTreeMap::<u128, u64>::new();
    let mut least = f64::MAX;
    for round in 0..160 {
        // Most of them in the first rounds; then more of them are changed and deleted.
        let mut batch = Batch { baseline_done: round == 30, ..Batch::default() };
        for _ in 0..below(4_000) {
            let (key, version) = (u128::from(below(60_000)), below(1_000));
            model.insert(key, version);
            batch.seen.push(object(key, version));
        }
        for _ in 0..below(1_000) {
            let key = u128::from(below(60_000));
            model.remove(&key);
            batch.gone.push(ObjectKey(key));
        }
        write(&mut store, batch);
        (0..below(4)).for_each(|_| store.idle_maintenance(Duration::from_millis(200)));
        if below(12) == 0 {
            drop(store);
            store = open(dir.path(), &["a"]).0;
            let expected: Vec<SeenObject> = model.iter().map(|(key, version)| object(*key, *version)).collect();
            assert!(store.load_seen(JobId(0), WATCH).unwrap().objects == expected, "in round {round}");
        }
        if round > 100 {
            let records: i64 = rows(dir.path()).iter().map(|(_, length)| length).sum();
            least = least.min(records as f64 / model.len() as f64);
        }
    }
    let expected: Vec<SeenObject> = model.iter().map(|(key, version)| object(*key, *version)).collect();
    assert!(store.load_seen(JobId(0), WATCH).unwrap().objects == expected);
    assert!(least < 1.6, "compactions are completed: {least}");
    assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
}
