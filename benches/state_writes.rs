//! What an uneventful run costs a flash card: the bytes that the state writes for a run that is triggered, started and
//! ends well, each in a turn of its own as on an idle box. `cargo bench --bench state_writes`.
//!
//! `write_bytes` of `/proc/self/io` (proc(5)) is what was to be written to the block device, in pages, and 0 on a memory
//! file system; `wchar` is what was handed to write(2), checkpoints included. The directory is below `target/tmp`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

use firelink::config::Durability;
use firelink::engine::{Change, End, Process, RunRecord, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, Exit, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};
use firelink::store::{JobKey, Store};

const RUNS: u64 = 2000;

/// Ended runs between two prunings, as the daemon does it.
const PRUNE_EVERY: u64 = 10;

fn io(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("/proc/self/io");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    line.and_then(|value| value.parse().ok()).expect("a number")
}

fn put(store: &mut Store, new: bool, record: &RunRecord, more: Option<Change>) {
    let change = Change::Run { new, record: Box::new(record.clone()) };
    store.commit([change].into_iter().chain(more).collect(), Vec::new()).expect("commit");
}

fn one_run(store: &mut Store, id: u64) {
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
    put(store, true, &record, Some(Change::Cursor { job: JobId(0), at }));
    process.pid = Some(pid);
    record.state = RunState::Running(process);
    put(store, false, &record, None);
    record.state = RunState::Ended(End { outcome: Outcome::Succeeded, at, exit: Some(Exit::Code(0)), reason: None });
    put(store, false, &record, None);
}

fn main() {
    println!("| durability | write_bytes a run | wchar a run |");
    println!("| --- | ---: | ---: |");
    for (name, durability) in [("normal", Durability::Normal), ("full", Durability::Full)] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut store = Store::open(dir.path(), durability, "boot".into()).expect("the state").store;
        let now = Now { wall: WallTime::from_secs(1_700_000_000), elapsed: Elapsed::default() };
        store.restore(now, &[JobKey { name: "job".into(), timing: 0 }], None).expect("restore");
        // The first runs, and the first round of the log, are no everyday.
        (1..=200).for_each(|id| one_run(&mut store, id));
        let before = (io("write_bytes"), io("wchar"));
        for id in 201..=200 + RUNS {
            one_run(&mut store, id);
            if id % PRUNE_EVERY == 0 {
                store.prune(JobId(0), 100, None, 200).expect("prune");
            }
        }
        println!("| {name} | {} | {} |", (io("write_bytes") - before.0) / RUNS, (io("wchar") - before.1) / RUNS);
    }
}
