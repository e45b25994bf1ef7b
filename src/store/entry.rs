//! A change by row ids: where the engine names a job by its index in the configuration, an entry names the job's row in the
//! database, so that a daemon that reads it after a crash, with another configuration, applies it to the same job.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::row::StoredRun;
use crate::engine::Change;
use crate::model::{Attempt, Elapsed, Exit, JobId, RunId, StateWord, WallTime};

/// See [`Change`], which has a variant for each. The journal names variants and fields by serde: renaming one changes its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    Run {
        new: bool,
        row: StoredRun,
    },
    AttemptFailed {
        run: RunId,
        attempt: Attempt,
        started_at: Option<WallTime>,
        ended_at: WallTime,
        exit: Option<Exit>,
        reason: String,
    },
    Missed {
        job: i64,
        at: WallTime,
        reason: String,
    },
    Cursor {
        job: i64,
        at: WallTime,
    },
    /// The name in the journal is that of format 1.
    #[serde(rename = "MadeUp")]
    CaughtUp {
        job: i64,
        ranges: Vec<(WallTime, WallTime)>,
    },
    Anchor {
        job: i64,
        wall: WallTime,
        elapsed: Elapsed,
        boot: String,
    },
    Credit {
        job: i64,
        upstream: i64,
        outcome: Option<StateWord>,
    },
    SkipStored {
        job: i64,
        from: RunId,
        at: WallTime,
        reason: String,
    },
    Paused {
        job: i64,
        paused: bool,
    },
    Timeline {
        closed: Vec<(WallTime, WallTime)>,
        since: WallTime,
    },
}

/// Turns changes into entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowIds<'a> {
    /// The row of each job of the configuration.
    pub job_rows: &'a [i64],
    /// The boot that elapsed instants are counted from.
    pub boot: &'a str,
}

impl RowIds<'_> {
    pub fn row_of(&self, job: JobId) -> i64 {
        self.job_rows.get(job.index()).copied().unwrap_or_default()
    }

    pub fn entry(&self, change: &Change) -> Entry {
        let row = |job: &JobId| self.row_of(*job);
        match change {
            Change::Run { new, record } => {
                let mut row = StoredRun::from(&**record);
                row.job_row = self.row_of(record.job);
                Entry::Run { new: *new, row }
            }
            Change::AttemptFailed { run, attempt, started_at, ended_at, exit, reason } => Entry::AttemptFailed {
                run: *run,
                attempt: *attempt,
                started_at: *started_at,
                ended_at: *ended_at,
                exit: *exit,
                reason: reason.clone(),
            },
            Change::Missed { job, at, reason } => Entry::Missed { job: row(job), at: *at, reason: reason.clone() },
            Change::Cursor { job, at } => Entry::Cursor { job: row(job), at: *at },
            Change::CaughtUp { job, caught_up } => Entry::CaughtUp { job: row(job), ranges: caught_up.ranges().to_vec() },
            Change::Anchor { job, at } => {
                Entry::Anchor { job: row(job), wall: at.wall, elapsed: at.elapsed, boot: self.boot.into() }
            }
            Change::Credit { job, upstream, outcome } => {
                Entry::Credit { job: row(job), upstream: row(upstream), outcome: outcome.map(|outcome| outcome.word()) }
            }
            Change::SkipStored { job, from, at, reason } => {
                Entry::SkipStored { job: row(job), from: *from, at: *at, reason: reason.clone() }
            }
            Change::Paused { job, paused } => Entry::Paused { job: row(job), paused: *paused },
            Change::Timeline(timeline) => {
                let (closed, since) = timeline.parts();
                Entry::Timeline { closed: closed.to_vec(), since }
            }
        }
    }
}

/// Merges the entries of several turns: of one run, one dependency or one job's deadlines only the last entry is written.
pub(super) fn coalesce(entries: Vec<Entry>) -> Vec<Entry> {
    #[derive(PartialEq, Eq, Hash)]
    enum Key {
        Run(RunId),
        Credit(i64, i64),
        Cursor(i64),
        Anchor(i64),
    }
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let key = match &entry {
            Entry::Run { row, .. } => Key::Run(row.id),
            Entry::Credit { job, upstream, .. } => Key::Credit(*job, *upstream),
            Entry::Cursor { job, .. } => Key::Cursor(*job),
            Entry::Anchor { job, .. } => Key::Anchor(*job),
            Entry::SkipStored { .. } => {
                // It changes rows whose runs have no entries, so nothing is merged across it.
                places.clear();
                kept.push(entry);
                continue;
            }
            _ => {
                kept.push(entry);
                continue;
            }
        };
        match places.get(&key).and_then(|place| kept.get_mut(*place)) {
            Some(earlier) => supersede(earlier, entry),
            None => {
                places.insert(key, kept.len());
                kept.push(entry);
            }
        }
    }
    kept
}

/// Replaces an entry by a later one with the same key.
pub(super) fn supersede(earlier: &mut Entry, mut later: Entry) {
    if let (Entry::Run { new: was_new, row: was }, Entry::Run { new, row }) = (&*earlier, &mut later) {
        *new |= *was_new;
        row.merge_missing_from(was);
    }
    *earlier = later;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TriggerWord;

    fn run(id: u64, state: StateWord, attempt_at: Option<i64>) -> StoredRun {
        StoredRun {
            id: RunId(id),
            job_row: 1,
            state,
            trigger: TriggerWord::Manual,
            forced: false,
            scheduled_at: WallTime::from_secs(1),
            attempt: Attempt(1),
            started_at: None,
            attempt_at: attempt_at.map(WallTime::from_secs),
            ended_at: None,
            not_before: None,
            pid: None,
            exit: None,
            reason: None,
            event: None,
        }
    }

    #[test]
    fn the_last_entry_of_a_key_is_kept_with_the_columns_that_only_earlier_ones_have() {
        let credit = |outcome| Entry::Credit { job: 2, upstream: 1, outcome };
        let entries = vec![
            Entry::Run { new: true, row: run(1, StateWord::Running, Some(5)) },
            credit(Some(StateWord::Failed)),
            Entry::Run { new: true, row: run(2, StateWord::Pending, None) },
            Entry::Run { new: false, row: run(1, StateWord::Succeeded, None) },
            credit(None),
        ];
        let kept = coalesce(entries);
        let ended = Entry::Run { new: true, row: run(1, StateWord::Succeeded, Some(5)) };
        assert_eq!(kept, [ended, credit(None), Entry::Run { new: true, row: run(2, StateWord::Pending, None) }]);
    }

    #[test]
    fn entries_are_not_merged_across_one_that_skips_stored_runs() {
        let skip = Entry::SkipStored { job: 1, from: RunId(1), at: WallTime::from_secs(2), reason: "why".into() };
        let entries = vec![
            Entry::Run { new: true, row: run(1, StateWord::Pending, None) },
            skip,
            Entry::Run { new: false, row: run(1, StateWord::Running, Some(3)) },
        ];
        assert_eq!(coalesce(entries.clone()), entries);
    }

    #[test]
    fn the_names_in_the_journal_are_those_of_its_format() {
        let at = WallTime::from_secs(1);
        let entries = [
            (Entry::Cursor { job: 1, at }, "Cursor"),
            (Entry::CaughtUp { job: 1, ranges: vec![(at, at)] }, "MadeUp"),
            (Entry::Missed { job: 1, at, reason: String::new() }, "Missed"),
            (Entry::Anchor { job: 1, wall: at, elapsed: Elapsed::default(), boot: String::new() }, "Anchor"),
            (Entry::Credit { job: 1, upstream: 2, outcome: None }, "Credit"),
            (Entry::SkipStored { job: 1, from: RunId(1), at, reason: String::new() }, "SkipStored"),
            (Entry::Paused { job: 1, paused: true }, "Paused"),
            (Entry::Timeline { closed: Vec::new(), since: at }, "Timeline"),
        ];
        for (entry, name) in entries {
            let text = serde_json::to_string(&entry).unwrap();
            assert!(text.starts_with(&format!("{{\"{name}\":")), "{text}");
        }
    }
}
