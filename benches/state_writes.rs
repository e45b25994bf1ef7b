//! Bytes written to a flash card for an uneventful run, which is triggered, started and succeeds: each in a turn of its own as on
//! an idle machine, and as under load, where turns are appended to the journal first.
//! `cargo bench --bench state_writes`; with `-- --write` the figures go into `docs/figures.md`.
//!
//! `write_bytes` of `/proc/self/io` (proc(5)) counts pages to be written to the block device, and is 0 on a memory file system;
//! `wchar` counts bytes passed to write(2), checkpoints included; the device's own counter includes other processes, from one
//! syncfs(2) to the next. The directory is below `target/tmp`. Fails when an uneventful run writes more than 8 KiB at the
//! default durability.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

#[path = "support/figures.rs"]
mod figures;

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use firelink::engine::{Change, End, Process, RunRecord, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};
use firelink::store::Durability;
use firelink::store::{JobKey, Keep, Store};

const RUNS: u64 = 2000;

/// Ended runs between two prunings, as the daemon does it.
const PRUNE_EVERY: u64 = 10;

fn io(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("/proc/self/io");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    line.and_then(|value| value.parse().ok()).expect("a number")
}

/// What an uneventful run may cost at the default durability.
const MOST: u64 = 8 * 1024;

/// Bytes that the device of a directory was given so far, by its own count (`Documentation/block/stat.rst`: the seventh
/// field, in sectors of 512 bytes); `None` where there is no such device.
fn device(dir: &Path) -> Option<u64> {
    let file = File::open(dir).expect("the directory");
    // SAFETY: the descriptor is open; the call takes nothing else.
    assert_eq!(unsafe { nix::libc::syncfs(file.as_raw_fd()) }, 0, "syncfs");
    let number = file.metadata().expect("its metadata").dev();
    let (major, minor) = (nix::libc::major(number), nix::libc::minor(number));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    stat.split_whitespace().nth(6)?.parse::<u64>().ok().map(|sectors| sectors * 512)
}

/// What the daemon brings from the journal into the database at once, in bytes.
const MUCH: u64 = 64 << 10;

fn put(store: &mut Store, busy: bool, new: bool, record: &RunRecord, more: Option<Change>) {
    let changes: Vec<Change> = [Change::Run { new, record: Box::new(record.clone()) }].into_iter().chain(more).collect();
    if !(busy && store.append(&changes)) {
        store.commit(changes, Vec::new()).expect("commit");
    }
}

fn one_run(store: &mut Store, busy: bool, id: u64) {
    let at = WallTime::from_secs(1_700_000_000 + i64::try_from(id).unwrap_or(0) * 60);
    let pid = Pid { pid: 4321, start_ticks: 1_000_000 + id };
    let mut process = Process { pid: None, since: at, begun: Elapsed::default(), stop: None, adopted: false };
    let mut record = RunRecord {
        id: RunId(id),
        job: JobId(0),
        trigger: TriggerWord::Cron,
        event: None,
        scheduled_at: at,
        forced: false,
        attempt: Attempt(0),
        started_at: None,
        state: RunState::Pending(Waiting::Turn),
    };
    (record.attempt, record.started_at, record.state) = (Attempt(1), Some(at), RunState::Running(process));
    put(store, busy, true, &record, Some(Change::Cursor { job: JobId(0), at }));
    process.pid = Some(pid);
    record.state = RunState::Running(process);
    put(store, busy, false, &record, None);
    record.state = RunState::Ended(End { outcome: Outcome::Succeeded, at, exit: Some(Exit::Code(0)), reason: None });
    put(store, busy, false, &record, None);
    if busy && store.journal_bytes() < MUCH {
        return;
    }
    store.catch_up().expect("the journal goes into the database");
    store.idle_maintenance(Duration::from_secs(59));
}

fn main() {
    let mut table = String::from("| durability, box | write_bytes a run | wchar a run | the device, a run |\n");
    table.push_str("| --- | ---: | ---: | ---: |\n");
    let mut usual = 0;
    let boxes = [
        ("normal, idle", Durability::Normal, false),
        ("normal, busy", Durability::Normal, true),
        ("full", Durability::Full, false),
    ];
    for (name, durability, busy) in boxes {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut store = Store::open(dir.path(), durability, "boot".into()).expect("the state").store;
        let now = Now { wall: WallTime::from_secs(1_700_000_000), elapsed: Elapsed::default() };
        store.restore(now, &[JobKey { name: "job".into(), timing: 0 }], None).expect("restore");
        // The first runs and the first cycle of the WAL are not typical.
        (1..=200).for_each(|id| one_run(&mut store, busy, id));
        let device_before = device(dir.path());
        let before = (io("write_bytes"), io("wchar"));
        for id in 201..=200 + RUNS {
            one_run(&mut store, busy, id);
            if id % PRUNE_EVERY == 0 && store.journal_bytes() == 0 {
                store.prune(JobId(0), Keep { runs: 100, since: None }, 200).expect("prune");
            }
        }
        let (pages, bytes) = ((io("write_bytes") - before.0) / RUNS, (io("wchar") - before.1) / RUNS);
        let given = device_before.zip(device(dir.path())).map(|(before, after)| (after - before) / RUNS);
        let given = given.map_or_else(|| "unknown".into(), |given| given.to_string());
        let _ = writeln!(table, "| {name} | {pages} | {bytes} | {given} |");
        if durability == Durability::Normal && !busy {
            usual = pages;
        }
    }
    figures::publish("state_writes", &table);
    assert!(usual <= MOST, "an uneventful run costs {usual} bytes, more than {MOST}");
}
