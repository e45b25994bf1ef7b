//! Conversion between the engine's runs and rows of the table `runs`.

use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::engine::{End, Payload, Process, RunRecord, RunState, Waiting};
use crate::model::{Attempt, Elapsed, Exit, JobId, Outcome, Pid, RunId, StateWord, TriggerWord, WallTime};

/// The columns that [`StoredRun::from_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, job, state, trigger, forced, scheduled_at, attempt, started_at, attempt_at, ended_at, not_before, \
     pid, pid_start, exit_code, signal, reason, event";

/// A row of the table `runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRun {
    /// The run's id.
    pub id: RunId,
    /// The row id of its job.
    pub job_row: i64,
    /// The run's state.
    pub state: StateWord,
    /// The trigger that made the run.
    pub trigger: TriggerWord,
    /// It starts whatever its dependencies are, and while its job is paused.
    pub forced: bool,
    /// The deadline, or when the trigger fired.
    pub scheduled_at: WallTime,
    /// The number of attempts so far.
    pub attempt: Attempt,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// When the last attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_at: Option<WallTime>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<WallTime>,
    /// The earliest start of a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<WallTime>,
    /// The process of a running run, once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// How the last process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why the run has this state, where that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's payload.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "payload")]
    pub event: Option<Payload>,
}

/// Serde of a payload, which is shared in memory and a string in the journal.
mod payload {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::engine::Payload;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(payload: &Option<Payload>, to: S) -> Result<S::Ok, S::Error> {
        payload.as_deref().serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Payload>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Into::into))
    }
}

impl StoredRun {
    /// Copies the columns that this later record of the run does not have and an update keeps.
    pub(super) fn merge_missing_from(&mut self, earlier: &StoredRun) {
        self.attempt_at = self.attempt_at.or(earlier.attempt_at);
    }

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredRun> {
        let time = |index: usize| -> rusqlite::Result<Option<WallTime>> {
            Ok(row.get::<_, Option<i64>>(index)?.map(WallTime::from_nanos))
        };
        let (pid, start): (Option<i32>, Option<i64>) = (row.get(11)?, row.get(12)?);
        let (code, signal): (Option<i32>, Option<i32>) = (row.get(13)?, row.get(14)?);
        Ok(StoredRun {
            id: RunId(number(row.get(0)?)),
            job_row: row.get(1)?,
            state: word(row, 2, StateWord::from_word)?,
            trigger: word(row, 3, TriggerWord::from_word)?,
            forced: row.get(4)?,
            scheduled_at: WallTime::from_nanos(row.get(5)?),
            attempt: Attempt(u32::try_from(row.get::<_, i64>(6)?).unwrap_or(0)),
            started_at: time(7)?,
            attempt_at: time(8)?,
            ended_at: time(9)?,
            not_before: time(10)?,
            pid: pid.map(|pid| Pid { pid, start_ticks: number(start.unwrap_or(0)) }),
            exit: code.map(Exit::Code).or(signal.map(Exit::Signal)),
            reason: row.get(15)?,
            event: row.get::<_, Option<String>>(16)?.map(Into::into),
        })
    }

    /// The engine's record, for a job of the current configuration. The engine fills in elapsed instants.
    pub(super) fn into_record(self, job: JobId) -> RunRecord {
        let state = match self.state {
            StateWord::Running => {
                let since = self.attempt_at.or(self.started_at).unwrap_or(self.scheduled_at);
                RunState::Running(Process { pid: self.pid, since, begun: Elapsed::default(), stop: None, adopted: true })
            }
            StateWord::Pending => RunState::Pending(match self.not_before {
                Some(not_before) => Waiting::Retry { not_before, due: Elapsed::default() },
                None => Waiting::Turn,
            }),
            ended => RunState::Ended(End {
                outcome: outcome(ended).unwrap_or(Outcome::Lost),
                at: self.ended_at.unwrap_or(self.scheduled_at),
                exit: self.exit,
                reason: self.reason.map(Into::into),
            }),
        };
        RunRecord {
            id: self.id,
            job,
            trigger: self.trigger,
            event: self.event,
            scheduled_at: self.scheduled_at,
            forced: self.forced,
            attempt: self.attempt,
            started_at: self.started_at,
            state,
        }
    }
}

impl From<&RunRecord> for StoredRun {
    /// The row of a record, with a `job_row` of 0.
    fn from(record: &RunRecord) -> StoredRun {
        let (mut attempt_at, mut ended_at, mut not_before, mut pid) = (None, None, None, None);
        let (mut exit, mut reason) = (None, None);
        match &record.state {
            RunState::Pending(Waiting::Retry { not_before: at, .. }) => not_before = Some(*at),
            RunState::Pending(Waiting::Turn | Waiting::Slot) => {}
            RunState::Running(process) => (attempt_at, pid) = (Some(process.since), process.pid),
            RunState::Ended(end) => {
                (ended_at, exit) = (Some(end.at), end.exit);
                reason = end.reason.as_deref().map(str::to_owned);
            }
        }
        StoredRun {
            id: record.id,
            job_row: 0,
            state: record.word(),
            trigger: record.trigger,
            forced: record.forced,
            scheduled_at: record.scheduled_at,
            attempt: record.attempt,
            started_at: record.started_at,
            attempt_at,
            ended_at,
            not_before,
            pid,
            exit,
            reason,
            event: record.event.clone(),
        }
    }
}

/// From SQLite's signed integers; ids and ticks are far below the limit.
pub(super) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// To SQLite's signed integers.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The outcome of a state, if it is final.
pub(super) fn outcome(word: StateWord) -> Option<Outcome> {
    Some(match word {
        StateWord::Succeeded => Outcome::Succeeded,
        StateWord::Failed => Outcome::Failed,
        StateWord::TimedOut => Outcome::TimedOut,
        StateWord::Cancelled => Outcome::Cancelled,
        StateWord::Skipped => Outcome::Skipped,
        StateWord::Lost => Outcome::Lost,
        StateWord::Pending | StateWord::Running | StateWord::Missed => return None,
    })
}

fn word<T>(row: &Row<'_>, index: usize, read: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    read(text).ok_or_else(|| {
        let message = format!("unknown value `{text}`");
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, message.into())
    })
}
