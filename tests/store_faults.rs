//! The store with I/O errors and power cuts, injected at SQLite's interface to the file system (its VFS): each write and each
//! fsync can fail, be lost or be torn.
//!
//! `FIRELINK_STRESS_CUTS=1` cuts the power after each single step instead of a choice of them.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]
#![expect(unsafe_code, reason = "a VFS of SQLite is a table of C functions")]

#[path = "store_faults/compaction.rs"]
mod compaction;
#[path = "store_faults/story.rs"]
mod story;
#[path = "store_faults/vfs.rs"]
mod vfs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use firelink::store::Durability;
use firelink::store::{DATABASE, Store};
use story::{Found, begin, tell};
use vfs::{Fault, Op};

/// The smallest unit that a disk writes: a power cut leaves whole sectors of bytes that were not synced.
const SECTOR: usize = 512;

/// What one file is, and what is on its way to it.
#[derive(Clone, Debug, Default)]
struct Disk {
    durable: Option<Vec<u8>>,
    /// Writes and truncations since the last sync, in order.
    pending: Vec<Op>,
}

impl Disk {
    fn apply(content: &mut Vec<u8>, op: &Op) {
        match op {
            Op::Write { at, bytes, .. } => {
                let (at, end) = (usize::try_from(*at).unwrap(), usize::try_from(*at).unwrap() + bytes.len());
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(bytes);
            }
            Op::Truncate { to, .. } => content.resize(usize::try_from(*to).unwrap(), 0),
            Op::Sync { .. } | Op::Delete { .. } | Op::Acknowledged(_) => {}
        }
    }

    fn with(&self, survives: impl FnMut(&Op) -> Option<Op>) -> Option<Vec<u8>> {
        if self.durable.is_none() && self.pending.is_empty() {
            return None;
        }
        let mut content = self.durable.clone().unwrap_or_default();
        self.pending.iter().filter_map(survives).for_each(|op| Disk::apply(&mut content, &op));
        Some(content)
    }
}

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// All of it reaches the disk.
    Nothing,
    /// None of it does.
    Everything,
    /// Any part of it does, the writes in any order, the last sectors of one torn off. The number picks.
    Some(u64),
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn image(disk: &Disk, loss: Loss) -> Option<Vec<u8>> {
    match loss {
        Loss::Nothing => disk.with(|op| Some(op.clone())),
        Loss::Everything => disk.with(|_| None),
        Loss::Some(mut seed) => disk.with(|op| match (random(&mut seed) % 4, op) {
            (0 | 1, _) => None,
            (2, Op::Write { file, at, bytes }) => {
                let sectors = bytes.len().div_ceil(SECTOR);
                let kept = usize::try_from(random(&mut seed)).unwrap() % (sectors + 1) * SECTOR;
                Some(Op::Write { file: file.clone(), at: *at, bytes: bytes[..kept.min(bytes.len())].to_vec() })
            }
            _ => Some(op.clone()),
        }),
    }
}

/// The files of a state as what was written down made them.
#[derive(Default)]
struct Disks(BTreeMap<PathBuf, Disk>);

impl Disks {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Write { file, .. } | Op::Truncate { file, .. } => {
                self.0.entry(file.clone()).or_default().pending.push(op.clone())
            }
            Op::Sync { file } => {
                let disk = self.0.entry(file.clone()).or_default();
                disk.durable = disk.with(|op| Some(op.clone())).or(Some(Vec::new()));
                disk.pending.clear();
            }
            Op::Delete { file } => drop(self.0.remove(file)),
            Op::Acknowledged(_) => {}
        }
    }

    /// The files as they are after a power cut, in a directory of its own.
    fn after_a_cut(&self, loss: Loss) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, disk) in self.0.iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm")) {
            if let Some(content) = image(disk, loss) {
                std::fs::write(dir.path().join(path.file_name().unwrap()), content).unwrap();
            }
        }
        dir
    }
}

/// Whether a story's store is left to itself between two commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    /// As on an idle machine.
    Often,
    /// As under constant load, where checkpoints are made in commits.
    Never,
}

impl Idle {
    fn after_a_commit(self, store: &mut Store) {
        if self == Idle::Often {
            store.idle_maintenance(Duration::MAX);
        }
    }
}

/// Writes all commits of a story; returns the operations on the files.
fn operations(durability: Durability, commits: usize, idle: Idle) -> Vec<Op> {
    let dir = tempfile::tempdir().unwrap();
    vfs::record();
    let mut store = begin(dir.path(), durability);
    vfs::acknowledge(0);
    for step in 0..commits {
        let (changes, watches) = tell(step);
        store.commit(changes, watches).unwrap();
        vfs::acknowledge(step + 1);
        idle.after_a_commit(&mut store);
    }
    // Closing it would make another checkpoint.
    let ops = vfs::recorded();
    drop(store);
    assert!(
        ops.iter().any(|op| matches!(op, Op::Sync { file } if file.ends_with(DATABASE))),
        "it was long enough for checkpoints"
    );
    ops
}

/// Cuts the power at many places of a story and looks at what is left.
fn cut(durability: Durability, idle: Idle, check: impl Fn(usize, Option<usize>, &str)) -> usize {
    let ops = operations(durability, if idle == Idle::Often { 420 } else { 900 }, idle);
    let each = std::env::var_os("FIRELINK_STRESS_CUTS").is_some();
    let mut seed = 1;
    let (mut disks, mut acknowledged, mut cuts) = (Disks::default(), None, 0);
    for (index, op) in ops.iter().enumerate() {
        disks.step(op);
        if let Op::Acknowledged(commits) = op {
            acknowledged = Some(*commits);
        }
        // Before a commit is acknowledged there is nothing to lose; the operations around a sync matter most.
        let next_syncs = matches!(ops.get(index + 1), Some(Op::Sync { .. }));
        let rare = if idle == Idle::Often { 12 } else { 48 } * if next_syncs { 1 } else { 5 };
        let Some(acknowledged) = acknowledged.filter(|_| each || random(&mut seed).is_multiple_of(rare)) else { continue };
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(random(&mut seed)), Loss::Some(random(&mut seed))] {
            let dir = disks.after_a_cut(loss);
            let context = format!("cut after step {index} ({op:.60?}), loss {loss:?}, {acknowledged} acknowledged");
            let found = std::panic::catch_unwind(|| Found::of(dir.path())).unwrap_or_else(|_| panic!("{context}"));
            check(acknowledged, found.commits(), &context);
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn with_durability_full_a_power_cut_loses_no_acknowledged_commit_and_leaves_no_partial_one() {
    vfs::install();
    for idle in [Idle::Often, Idle::Never] {
        let cuts = cut(Durability::Full, idle, |acknowledged, found, context| {
            // The commit that was in progress may be complete.
            assert!(found.is_some_and(|found| found == acknowledged || found == acknowledged + 1), "{found:?} found: {context}");
        });
        assert!(cuts > 100, "{cuts}");
    }
}

#[test]
fn with_durability_normal_a_power_cut_loses_the_last_commits_at_most_and_leaves_no_partial_one() {
    vfs::install();
    for idle in [Idle::Often, Idle::Never] {
        let cuts = cut(Durability::Normal, idle, |acknowledged, found, context| {
            assert!(found.is_some_and(|found| found <= acknowledged + 1), "{found:?} found: {context}");
        });
        assert!(cuts > 100, "{cuts}");
    }
}

/// Writes a story on a disk that fails for a while, at many places in turn.
fn with_fault(fault: Fault, durability: Durability) {
    /// Commits before the first fault, so that idle maintenance has something to do soon.
    const WELL: usize = 180;
    const COMMITS: usize = 250;
    vfs::install();
    let mut places = 0;
    let mut hit_idle = false;
    let mut seed = 7;
    // A commit has many writes and one fsync.
    let stride = if fault == Fault::Sync { 2 } else { 23 };
    for skip in (0..).map(|place| place * stride) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = begin(dir.path(), durability);
        for step in 0..WELL {
            let (changes, watches) = tell(step);
            store.commit(changes, watches).unwrap();
        }
        let count = usize::try_from(random(&mut seed)).unwrap() % 6 + 1;
        vfs::fail(fault, skip, count);
        let mut troubled = 0;
        for step in WELL..COMMITS {
            let (changes, watches) = tell(step);
            let failed = store.commit(changes, watches).is_err();
            assert_eq!(failed, store.trouble().is_some(), "a failed commit is reported");
            troubled += usize::from(failed);
            let before = vfs::refusals();
            store.idle_maintenance(Duration::MAX);
            hit_idle |= vfs::refusals() > before;
        }
        let refusals = vfs::heal();
        catch_up(&mut store);
        drop(store);
        assert_eq!(Found::of(dir.path()), Found::expected(COMMITS), "{fault:?} after {} calls, {count} of them", skip);
        if refusals == 0 {
            break;
        }
        places += 1;
        // A failed checkpoint or compaction is harmless; a failed commit is reported.
        assert!(troubled <= refusals + 1, "{troubled} troubled commits of {refusals} refusals");
    }
    assert!(places > 0, "{fault:?} was never met");
    assert!(hit_idle, "{fault:?} never hit idle maintenance");
}

fn catch_up(store: &mut Store) {
    store.commit(Vec::new(), Vec::new()).expect("the fault is over");
    assert_eq!(store.trouble(), None);
}

#[test]
fn nothing_is_lost_by_a_full_disk_once_there_is_space_again() {
    with_fault(Fault::NoSpace, Durability::Normal);
}

#[test]
fn nothing_is_lost_by_io_errors_once_they_are_over() {
    with_fault(Fault::Io, Durability::Full);
}

#[test]
fn nothing_is_lost_by_a_short_write() {
    with_fault(Fault::Short, Durability::Normal);
}

#[test]
fn nothing_is_lost_by_failing_fsyncs_once_they_are_over() {
    with_fault(Fault::Sync, Durability::Full);
}

#[test]
fn acknowledged_commits_survive_io_errors_followed_by_a_power_cut() {
    vfs::install();
    let mut met = BTreeSet::new();
    for round in 0..60_u64 {
        let mut seed = round;
        let fault = [Fault::NoSpace, Fault::Io, Fault::Short, Fault::Sync][usize::try_from(random(&mut seed) % 4).unwrap()];
        let dir = tempfile::tempdir().unwrap();
        vfs::record();
        let mut store = begin(dir.path(), Durability::Full);
        vfs::fail(fault, usize::try_from(random(&mut seed)).unwrap() % 600, 3);
        let mut acknowledged = 0;
        for step in 0..120 {
            let (changes, watches) = tell(step);
            if store.commit(changes, watches).is_ok() {
                acknowledged = step + 1;
            } else {
                met.insert(format!("{fault:?}"));
            }
            store.idle_maintenance(Duration::MAX);
        }
        vfs::heal();
        drop_without_closing(store);
        let mut disks = Disks::default();
        vfs::recorded().iter().for_each(|op| disks.step(op));
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(random(&mut seed))] {
            let cut = disks.after_a_cut(loss);
            let found = Found::of(cut.path());
            let commits =
                found.commits().unwrap_or_else(|| panic!("{fault:?} in round {round}, {loss:?}: half of something: {found:?}"));
            assert!(commits >= acknowledged, "{fault:?} in round {round}, {loss:?}: {commits} of {acknowledged}");
        }
    }
    assert!(met.len() >= 3, "{met:?}");
}

/// As a power cut does it: without the checkpoint that closing makes.
fn drop_without_closing(store: Store) {
    std::mem::forget(store);
}

#[test]
fn io_errors_during_creation_are_reported_and_leave_no_partial_database() {
    vfs::install();
    for (fault, durability) in
        [(Fault::NoSpace, Durability::Normal), (Fault::Io, Durability::Full), (Fault::Sync, Durability::Full)]
    {
        for skip in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            vfs::fail(fault, skip, usize::MAX);
            let opened = Store::open(dir.path(), durability, "boot".into());
            if let Err(error) = &opened {
                assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
            }
            drop(opened);
            vfs::heal();
            assert_eq!(Found::of(Path::new(dir.path())), Found::default());
        }
    }
}
