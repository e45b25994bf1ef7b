//! Model test: any sequence of changes is read back as a simple model says, across any number of restarts.

use std::collections::BTreeMap;

use firelink::engine::{Change, RunRecord, RunState, Waiting};
use firelink::model::{Attempt, Elapsed, JobId, Outcome, RunId, StateWord, WallTime};
use firelink::model::{Batch, ObjectKey, ObjectVersion, SeenObject};
use firelink::store::{Filter, History, WatchRecord, inspect};
use proptest::prelude::*;

use crate::support::{at, ended, new, open, pending, running, update};

const JOBS: [&str; 3] = ["a", "b", "c"];
const WATCH: &str = "s3://bucket/prefix";

#[derive(Clone, Debug)]
enum Step {
    Trigger { job: u32, forced: bool },
    Run { pick: usize, to: u8, secs: i64 },
    Cursor { job: u32, secs: i64 },
    Paused { job: u32, paused: bool },
    Credit { job: u32, upstream: u32, outcome: Option<bool> },
    Seen { job: u32, key: u8, version: u64 },
    Gone { job: u32, key: u8 },
    Skip { job: u32, from: u64 },
    EndOfTurn { append: bool },
    Restart { append: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let job = || 0..3_u32;
    prop_oneof![
        4 => (job(), any::<bool>()).prop_map(|(job, forced)| Step::Trigger { job, forced }),
        6 => (any::<usize>(), 0..4_u8, 0..1000_i64).prop_map(|(pick, to, secs)| Step::Run { pick, to, secs }),
        1 => (job(), 0..1000_i64).prop_map(|(job, secs)| Step::Cursor { job, secs }),
        1 => (job(), any::<bool>()).prop_map(|(job, paused)| Step::Paused { job, paused }),
        2 => (job(), job(), any::<Option<bool>>()).prop_map(|(job, upstream, outcome)| Step::Credit { job, upstream, outcome }),
        2 => (job(), 0..6_u8, any::<u64>()).prop_map(|(job, key, version)| Step::Seen { job, key, version }),
        1 => (job(), 0..6_u8).prop_map(|(job, key)| Step::Gone { job, key }),
        1 => (job(), 1..20_u64).prop_map(|(job, from)| Step::Skip { job, from }),
        3 => any::<bool>().prop_map(|append| Step::EndOfTurn { append }),
        1 => any::<bool>().prop_map(|append| Step::Restart { append }),
    ]
}

/// What the store should know; a job's part by its index.
#[derive(Default)]
struct Model {
    runs: BTreeMap<u64, RunRecord>,
    cursors: [Option<WallTime>; 3],
    paused: [bool; 3],
    credits: BTreeMap<(u32, u32), Outcome>,
    seen: BTreeMap<(u32, u128), u64>,
}

impl Model {
    fn apply(&mut self, step: &Step, changes: &mut Vec<Change>, watches: &mut Vec<WatchRecord>) {
        let mut watch = |job: u32, batch: Batch| watches.push(WatchRecord { job: JobId(job), batch });
        match *step {
            Step::Trigger { job, forced } => {
                let id = self.runs.len() as u64 + 1;
                let record = RunRecord { forced, ..pending(id, job) };
                self.runs.insert(id, record.clone());
                changes.push(new(record));
            }
            Step::Run { pick, to, secs } => {
                let active: Vec<u64> = self.runs.iter().filter(|(_, run)| !run.word().is_end()).map(|(id, _)| *id).collect();
                let Some(id) = active.get(pick % active.len().max(1)) else { return };
                let old = self.runs[id].clone();
                let made = match to {
                    0 => running(*id, old.job.0),
                    1 => ended(*id, old.job.0, Outcome::Succeeded, at(secs)),
                    2 => ended(*id, old.job.0, Outcome::Cancelled, at(secs)),
                    _ => RunRecord {
                        state: RunState::Pending(Waiting::Retry { not_before: at(secs), due: Elapsed::default() }),
                        ..running(*id, old.job.0)
                    },
                };
                let record = RunRecord { forced: old.forced, attempt: Attempt(old.attempt.0 + 1), ..made };
                self.runs.insert(*id, record.clone());
                changes.push(update(record));
            }
            Step::Cursor { job, secs } => {
                self.cursors[job as usize] = Some(at(secs));
                changes.push(Change::Cursor { job: JobId(job), at: at(secs) });
            }
            Step::Paused { job, paused } => {
                self.paused[job as usize] = paused;
                changes.push(Change::Paused { job: JobId(job), paused });
            }
            Step::Credit { job, upstream, outcome } => {
                let outcome = outcome.map(|good| if good { Outcome::Succeeded } else { Outcome::Failed });
                match outcome {
                    Some(outcome) => self.credits.insert((job, upstream), outcome),
                    None => self.credits.remove(&(job, upstream)),
                };
                changes.push(Change::Credit { job: JobId(job), upstream: JobId(upstream), outcome });
            }
            Step::Seen { job, key, version } => {
                self.seen.insert((job, key.into()), version);
                let seen = vec![SeenObject { key: ObjectKey(key.into()), version: ObjectVersion(version) }];
                watch(job, Batch { seen, ..Batch::default() });
            }
            Step::Gone { job, key } => {
                self.seen.remove(&(job, key.into()));
                watch(job, Batch { gone: vec![ObjectKey(key.into())], ..Batch::default() });
            }
            Step::Skip { job, from } => {
                for (_, run) in self.runs.range_mut(from..).filter(|(_, run)| run.job.0 == job && !run.forced) {
                    if matches!(run.state, RunState::Pending(Waiting::Turn)) {
                        let RunState::Ended(end) = ended(1, 0, Outcome::Skipped, at(7)).state else { unreachable!() };
                        run.state = RunState::Ended(end);
                    }
                }
                let reason = "because".into();
                changes.push(Change::SkipStored { job: JobId(job), from: RunId(from), at: at(7), reason });
            }
            Step::EndOfTurn { .. } | Step::Restart { .. } => {}
        }
    }
}

fn all() -> Filter {
    Filter { limit: usize::MAX, ..Filter::default() }
}

/// What a run's row must say, in one comparable value.
type Row = (StateWord, u32, bool, Option<WallTime>, Option<WallTime>, Option<String>);

fn row_of(record: &RunRecord) -> Row {
    let (ended_at, not_before, reason) = match &record.state {
        RunState::Ended(end) => (Some(end.at), None, end.reason.as_deref().map(Into::into)),
        RunState::Pending(Waiting::Retry { not_before, .. }) => (None, Some(*not_before), None),
        _ => (None, None, None),
    };
    (record.word(), record.attempt.0, record.forced, ended_at, not_before, reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_read_back_as_the_model_says(steps in prop::collection::vec(step(), 0..120)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), &JOBS);
        for job in 0..3 {
            store.load_seen(JobId(job), WATCH).unwrap();
        }
        let mut model = Model::default();
        let (mut changes, mut watches) = (Vec::new(), Vec::new());
        for step in steps.iter().chain([&Step::Restart { append: true }]) {
            model.apply(step, &mut changes, &mut watches);
            if let Step::EndOfTurn { append } | Step::Restart { append } = step {
                if *append && watches.is_empty() && store.append(&changes) {
                    changes.clear();
                } else {
                    store.commit(std::mem::take(&mut changes), std::mem::take(&mut watches)).unwrap();
                }
            }
            if !matches!(step, Step::Restart { .. }) {
                continue;
            }
            let before = History::open(dir.path()).unwrap().unwrap().query(&all()).unwrap();
            // A crash: not closed.
            drop(store);
            let (reopened, restored) = open(dir.path(), &JOBS);
            store = reopened;
            let after = History::open(dir.path()).unwrap().unwrap().query(&all()).unwrap();
            prop_assert_eq!(before, after, "the history includes the journal");
            prop_assert_eq!(inspect(dir.path()).unwrap().unwrap(), Vec::<String>::new());
            prop_assert_eq!(restored.next_run, model.runs.len() as u64 + 1);
            for (id, record) in &model.runs {
                let row = store.run(RunId(*id)).unwrap().unwrap();
                let found: Row = (row.state, row.attempt.0, row.forced, row.ended_at, row.not_before, row.reason);
                prop_assert_eq!(found, row_of(record), "run {}", id);
            }
            let running: Vec<u64> = restored.running.iter().map(|(run, _)| run.id.0).collect();
            let of_state = |word: StateWord, job: Option<u32>| -> Vec<u64> {
                let of = model.runs.values().filter(|run| run.word() == word && job.is_none_or(|job| run.job.0 == job));
                of.map(|run| run.id.0).collect()
            };
            prop_assert_eq!(running, of_state(StateWord::Running, None));
            for job in 0..3_u32 {
                let found = &restored.jobs[job as usize];
                prop_assert_eq!(found.cursor, model.cursors[job as usize]);
                prop_assert_eq!(found.paused, model.paused[job as usize]);
                let waiting: Vec<u64> = found.pending.iter().map(|run| run.id.0).collect();
                prop_assert_eq!(waiting, of_state(StateWord::Pending, Some(job)));
                let mut credits = found.credits.clone();
                credits.sort_by_key(|(upstream, _)| *upstream);
                let expected: Vec<_> =
                    model.credits.range((job, 0)..(job + 1, 0)).map(|((_, up), outcome)| (JobId(*up), *outcome)).collect();
                prop_assert_eq!(credits, expected);
                let seen: Vec<_> = store.load_seen(JobId(job), WATCH).unwrap().objects;
                let expected: Vec<_> = model
                    .seen
                    .range((job, 0)..(job + 1, 0))
                    .map(|((_, key), version)| SeenObject { key: ObjectKey(*key), version: ObjectVersion(*version) })
                    .collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
