//! A state with a million past runs: the time of `history`, of a start, and of a step of pruning, which delays the loop.
//! `cargo bench --bench history`; with `-- --write` the figures go into `docs/figures.md`.
//!
//! Fails when the median of twenty is over its limit: 50 ms for `history --limit 20`, 200 ms for a start, 5 ms for a step
//! of pruning. The slowest one shows the noise of the machine.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

#[path = "support/figures.rs"]
mod figures;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firelink::model::{Elapsed, JobId, Now, WallTime};
use firelink::store::Durability;
use firelink::store::{DATABASE, JobKey, Keep, PRUNE_AT_ONCE, Store};

const RUNS: u32 = 1_000_000;
const JOBS: u32 = 20;
const ROUNDS: usize = 20;

fn open(dir: &Path) -> Store {
    let mut store = Store::open(dir, Durability::Normal, "boot".into()).expect("the state").store;
    let keys: Vec<JobKey> = (0..JOBS).map(|job| JobKey { name: format!("job{job}").into(), timing: 0 }).collect();
    let now = Now { wall: WallTime::from_secs(1_800_000_000), elapsed: Elapsed::default() };
    store.restore(now, &keys, None).expect("restore");
    store
}

/// One run in a thousand failed; each minute one run.
fn fill(dir: &Path) {
    drop(open(dir));
    let conn = rusqlite::Connection::open(dir.join(DATABASE)).expect("the database");
    conn.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {RUNS})
         INSERT INTO runs SELECT id, id % {JOBS} + 1, CASE WHEN id % 1000 = 1 THEN 'failed' ELSE 'succeeded' END, 'cron', 0,
             (1700000000 + id * 60) * 1000000000, 1, (1700000000 + id * 60) * 1000000000, (1700000000 + id * 60) * 1000000000,
             (1700000001 + id * 60) * 1000000000, NULL, NULL, NULL, id % 1000 = 1, NULL, NULL, NULL FROM n;
         INSERT INTO blocks SELECT id - id % 1024, min(scheduled_at) FROM runs GROUP BY 1;
         UPDATE jobs SET ended = (SELECT count(*) FROM runs WHERE job = jobs.id), last_run = (SELECT max(id) FROM runs WHERE job = jobs.id);
         INSERT OR REPLACE INTO meta VALUES ('active_from', {RUNS});
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    ))
    .expect("a million runs");
    assert_eq!(firelink::store::inspect(dir).expect("a look"), Some(Vec::new()));
}

fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = what();
    (begun.elapsed(), done)
}

/// What was measured so far, as the rows of a table, and what was over its limit.
#[derive(Default)]
struct Report {
    table: String,
    over: Vec<String>,
}

impl Report {
    /// The median, the 99th percentile, and the slowest.
    fn row(&mut self, name: &str, limit_ms: u32, mut times: Vec<Duration>) {
        times.sort_unstable();
        let at = |index: usize| times[index.min(times.len() - 1)].as_secs_f64() * 1e3;
        let (middle, late, most) = (at(times.len() / 2), at(times.len() * 99 / 100), at(usize::MAX));
        let count = times.len();
        let _ = writeln!(self.table, "| {name} | {count} | {middle:.1} ms | {late:.1} ms | {most:.1} ms | {limit_ms} ms |");
        if middle > f64::from(limit_ms) {
            self.over.push(format!("{name}: {middle:.1} ms"));
        }
    }
}

fn history(dir: &Path, more: &[&str]) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelink"));
    command.args(["history", "--limit", "20", "--state-dir"]).arg(dir).args(more);
    let (time, output) = timed(|| command.output().expect("firelink runs"));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 21, "a header and twenty runs");
    time
}

/// From the start of the process until it says that it is armed.
fn start(dir: &Path, config: &Path) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firelink"));
    command.arg("run").arg(config).arg("--state-dir").arg(dir).arg("--socket").arg(dir.join("socket"));
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("firelink starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let armed = lines.any(|line| line.is_ok_and(|line| line.contains("ask it from another terminal")));
    let time = begun.elapsed();
    assert!(armed, "it started");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    time
}

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    fill(dir.path());
    let config = dir.path().join("firelink.yaml");
    let jobs: String = (0..JOBS)
        .map(|job| format!("  - {{ name: job{job}, trigger: cron, schedule: '0 0 1 1 *', output: {{ keep_runs: 50000 }} }}\n"))
        .collect();
    std::fs::write(&config, format!("jobs:\n{jobs}")).expect("a file");

    let mut report = Report::default();
    let _ = writeln!(report.table, "| {RUNS} past runs of {JOBS} jobs | times | median | 99 % | slowest | limit |");
    let _ = writeln!(report.table, "| --- | ---: | ---: | ---: | ---: | ---: |");
    let rounds = |more: &[&str]| (0..ROUNDS).map(|_| history(dir.path(), more)).collect();
    report.row("`history --limit 20`", 50, rounds(&[]));
    report.row("`history --limit 20 --job job7`", 50, rounds(&["--job", "job7"]));
    report.row("`history --limit 20 --state failed`", 50, rounds(&["--state", "failed"]));
    report.row("`history --limit 20 --until` a year before the newest", 50, rounds(&["--until", "2024-11-01T00:00:00Z"]));
    report.row("start to armed", 200, (0..ROUNDS).map(|_| start(dir.path(), &config)).collect());

    // Each job keeps fewer than it has, so each step deletes as many as it may. It comes at the end of a turn, before idle
    // time.
    let mut store = open(dir.path());
    let mut prune = |runs, times: u32| {
        let keep = Keep { runs, since: None };
        let mut one = |time| {
            let (took, _) = timed(|| store.prune(JobId(time % JOBS), keep, PRUNE_AT_ONCE).expect("a pruning"));
            store.idle_maintenance(Duration::from_secs(1));
            took
        };
        (0..times).map(&mut one).collect()
    };
    report.row(&format!("a pruning that removes {PRUNE_AT_ONCE} runs"), 5, prune(10_000, 2_000));
    report.row("a pruning that finds nothing to remove", 5, prune(50_000, 2_000));
    figures::publish("history", &report.table);
    assert!(report.over.is_empty(), "over the limit: {:?}", report.over);
}
