//! A query by time finds the same runs as a scan of all of them, whatever the clock did.

use firelink::engine::RunRecord;
use firelink::model::{JobId, Outcome, RunId, StateWord, WallTime};
use firelink::store::{DATABASE, Filter, History, Keep};
use proptest::prelude::*;

use crate::support::{at, ended, new, open, pending};

/// A run's number, its job, when it was due, whether it failed.
type Run = (u64, u32, i64, bool);

/// Numbers leave gaps, as those of pruned runs do; the clock goes on with each run, and is set now and then.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    let step = (1..400_u64, 0..2_u32, prop_oneof![8 => 0..30_i64, 1 => -40_000..40_000_i64], prop::bool::weighted(0.2));
    prop::collection::vec(step, 1..150).prop_map(|steps| {
        let (mut id, mut clock) = (0, 0);
        let run = |(gap, job, by, failed)| {
            id += gap;
            clock += by;
            (id, job, clock, failed)
        };
        steps.into_iter().map(run).collect()
    })
}

/// Instants of the runs, mostly, because at those an end that counts in and one that does not differ.
fn asked() -> impl Strategy<Value = (prop::sample::Index, i64, Option<i64>, Option<u32>, bool, Option<u64>, usize)> {
    (
        any::<prop::sample::Index>(),
        -1..2_i64,
        prop::option::of(1..5_000_i64),
        prop::option::of(0..2_u32),
        any::<bool>(),
        prop::option::of(1..20_000_u64),
        1..40_usize,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_by_time_is_what_a_look_at_each_run_finds(
        runs in runs(),
        asked in prop::collection::vec(asked(), 1..12),
        keep in 1..100_u32,
        old in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), &["a", "b"]);
        let record = |&(id, job, due, failed): &Run| {
            let outcome = if failed { Outcome::Failed } else { Outcome::Succeeded };
            RunRecord { scheduled_at: at(due), ..ended(id, job, outcome, at(due + 1)) }
        };
        for some in runs.chunks(40) {
            store.commit(some.iter().map(|run| new(record(run))).collect(), Vec::new()).unwrap();
            store.prune(JobId(0), Keep { runs: keep, since: None }, 30).unwrap();
        }
        drop(store);
        if old {
            // As a version without blocks left it: read like that, and then migrated.
            let conn = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
            conn.execute_batch(
                "DROP TABLE blocks; ALTER TABLE jobs DROP COLUMN made_up;
                 ALTER TABLE jobs ADD COLUMN made_up_from INTEGER; ALTER TABLE jobs ADD COLUMN made_up_to INTEGER;
                 PRAGMA user_version = 6",
            )
            .unwrap();
        }
        for round in 0..2 {
            let history = History::open(dir.path()).unwrap().unwrap();
            let query = |filter: &Filter| -> Vec<(RunId, u32, WallTime, StateWord)> {
                let found = history.query(filter).unwrap().into_iter().map(Result::unwrap);
                found.map(|run| (run.id, u32::from(history.job_name(run.job_row) == "b"), run.scheduled_at, run.state)).collect()
            };
            let all = query(&Filter { limit: usize::MAX, ..Filter::default() });
            for (of, by, span, job, failed, before, limit) in &asked {
                let until = at(of.get(&runs).2 + by);
                let since = span.map(|span| until - std::time::Duration::from_secs(span.unsigned_abs()));
                let filter = Filter {
                    job: job.map(|job| ["a", "b"][job as usize].into()),
                    state: failed.then_some(StateWord::Failed),
                    since,
                    until: Some(until),
                    before: before.map(RunId),
                    limit: *limit,
                };
                let fits = |(id, of, due, state): &(RunId, u32, WallTime, StateWord)| {
                    *due < until
                        && since.is_none_or(|since| *due >= since)
                        && job.is_none_or(|job| job == *of)
                        && (!failed || *state == StateWord::Failed)
                        && before.is_none_or(|before| id.0 < before)
                };
                let expected: Vec<_> = all.iter().filter(|run| fits(run)).take(*limit).copied().collect();
                prop_assert_eq!(query(&filter), expected, "{:?}", filter);
            }
            if round == 0 {
                drop(open(dir.path(), &["a", "b"]));
                prop_assert_eq!(firelink::store::inspect(dir.path()).unwrap(), Some(Vec::new()));
            }
        }
    }
}

#[test]
fn a_query_far_back_skips_newer_blocks_and_a_block_is_deleted_with_its_last_run() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path(), &["a"]);
    let due = |id: u64| at(i64::try_from(id).unwrap() * 60);
    let run = |id: u64| RunRecord { scheduled_at: due(id), ..ended(id, 0, Outcome::Succeeded, due(id)) };
    store.commit((1..=20_000).map(|id| new(run(id))).collect(), Vec::new()).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
    let blocks = || conn.query_row("SELECT count(*), min(first) FROM blocks", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(blocks(), (20, 0));
    // The result is in order without a sort, which would read all matching rows before it returns the first.
    let mut plan = conn
        .prepare("EXPLAIN QUERY PLAN SELECT id FROM blocks CROSS JOIN runs ON id BETWEEN first AND first + 1023 WHERE earliest < 1 AND scheduled_at < 1 ORDER BY first DESC, id DESC LIMIT 1")
        .unwrap();
    let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
    while !store.prune(JobId(0), Keep { runs: 1_000, since: None }, 1_024).unwrap().runs.is_empty() {}
    assert_eq!(blocks(), (2, 18 * 1_024));
    store.commit(vec![new(pending(20_001, 0))], Vec::new()).unwrap();
    let history = History::open(dir.path()).unwrap().unwrap();
    let found = history.query(&Filter { until: Some(due(1)), limit: 5, ..Filter::default() }).unwrap();
    assert_eq!(found.into_iter().map(|run| run.unwrap().id.0).collect::<Vec<_>>(), [20_001], "the clock was set back");
}
