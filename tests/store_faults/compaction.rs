//! Compaction of the seen log with I/O errors and power cuts between its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use firelink::model::JobId;
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::store::Durability;
use firelink::store::{Store, WatchRecord};

use crate::story::{begin, open};
use crate::vfs::{self, Fault, Op};
use crate::{Disks, Loss, random};

const BATCHES: usize = 45;
const IDLE: Duration = Duration::from_millis(200);

/// Half of the keys stay as they were; the others change and go.
fn batch(step: usize) -> Batch {
    let mut seed = u64::try_from(step).unwrap() + 1;
    let mut key = || ObjectKey(u128::from(random(&mut seed) % 12_000));
    let version = ObjectVersion(u64::try_from(step).unwrap());
    let seen = (0..1_500).map(|_| SeenObject { key: key(), version }).collect();
    let gone = (0..400).map(|_| key()).collect();
    Batch { seen, gone, baseline_done: step == 0, ..Batch::default() }
}

fn commit_step(store: &mut Store, step: usize) -> bool {
    store.commit(Vec::new(), vec![WatchRecord { job: JobId(0), batch: batch(step) }]).is_ok()
}

/// What must be known after so many batches.
fn expected(batches: usize) -> Vec<SeenObject> {
    let mut model = BTreeMap::new();
    for Batch { seen, gone, .. } in (0..batches).map(batch) {
        model.extend(seen.iter().map(|object| (object.key.0, object.version)));
        let gone: BTreeSet<u128> = gone.iter().map(|key| key.0).collect();
        model.retain(|key, _| !gone.contains(key));
    }
    model.into_iter().map(|(key, version)| SeenObject { key: ObjectKey(key), version }).collect()
}

fn found(dir: &Path) -> Vec<SeenObject> {
    open(dir, Durability::Full).load_seen(JobId(0), crate::story::WATCH).expect("it is read").objects
}

fn rows(dir: &Path) -> i64 {
    let conn = rusqlite::Connection::open(dir.join(firelink::store::DATABASE)).unwrap();
    conn.query_row("SELECT sum(length(records)) / 24 FROM seen_log", [], |row| row.get(0)).unwrap()
}

#[test]
fn io_errors_between_steps_lose_and_duplicate_nothing() {
    vfs::install();
    let expected = expected(BATCHES);
    let mut met = 0;
    for place in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let mut store = begin(dir.path(), Durability::Normal);
        for step in 0..BATCHES {
            if step == 10 {
                vfs::fail([Fault::NoSpace, Fault::Io, Fault::Short][place % 3], place * 397, 2);
            }
            commit_step(&mut store, step);
            let before = vfs::refusals();
            (0..3).for_each(|_| store.idle_maintenance(IDLE));
            met += usize::from(vfs::refusals() > before);
        }
        let refusals = vfs::heal();
        store.commit(Vec::new(), Vec::new()).expect("the fault is over");
        drop(store);
        assert!(found(dir.path()) == expected, "a fault after {place} times 397 writes");
        if refusals == 0 {
            assert!(rows(dir.path()) < 40_000, "there were compactions");
            break;
        }
    }
    assert!(met > 3, "{met} compactions failed");
}

#[test]
fn power_cuts_between_steps_lose_and_duplicate_nothing() {
    vfs::install();
    let dir = tempfile::tempdir().unwrap();
    vfs::record();
    let mut store = begin(dir.path(), Durability::Full);
    vfs::acknowledge(0);
    for step in 0..BATCHES {
        assert!(commit_step(&mut store, step));
        vfs::acknowledge(step + 1);
        (0..3).for_each(|_| store.idle_maintenance(IDLE));
    }
    let ops = vfs::recorded();
    drop(store);
    let expected: Vec<Vec<SeenObject>> = (0..=BATCHES + 1).map(expected).collect();
    let (mut disks, mut acknowledged, mut cuts, mut seed) = (Disks::default(), None, 0, 3);
    for (index, op) in ops.iter().enumerate() {
        disks.step(op);
        if let Op::Acknowledged(batches) = op {
            acknowledged = Some(*batches);
        }
        let next_syncs = matches!(ops.get(index + 1), Some(Op::Sync { .. }));
        let rare = if next_syncs { 5 } else { 700 };
        let Some(batches) = acknowledged.filter(|_| random(&mut seed).is_multiple_of(rare)) else { continue };
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(random(&mut seed))] {
            let found = found(disks.after_a_cut(loss).path());
            assert!(expected[batches..=batches + 1].contains(&found), "cut after step {index}, {loss:?}, {batches} acknowledged");
            cuts += 1;
        }
    }
    assert!(cuts > 40, "{cuts}");
}
