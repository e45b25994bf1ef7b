//! A run as a row, both ways.

use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::engine::{End, Payload, Process, RunRecord, RunState, Waiting};
use crate::model::{Attempt, Elapsed, Exit, JobId, Outcome, Pid, RunId, StateWord, TriggerWord, WallTime};

/// The columns that [`StoredRun::from_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, job, state, trigger, forced, scheduled_at, attempt, started_at, attempt_at, ended_at, not_before, \
     pid, pid_start, exit_code, signal, reason, event";

/// A run as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRun {
    /// Its number.
    pub id: RunId,
    /// The database's id of its job.
    pub job_row: i64,
    /// Its state.
    pub state: StateWord,
    /// What made it.
    pub trigger: TriggerWord,
    /// Whether neither dependencies nor a pause hold it.
    pub forced: bool,
    /// When it was due.
    pub scheduled_at: WallTime,
    /// Processes so far.
    pub attempt: Attempt,
    /// When the first one started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<WallTime>,
    /// When the last one started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_at: Option<WallTime>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<WallTime>,
    /// Before when no retry starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<WallTime>,
    /// The process of a running run, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// The last process's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why, where the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's payload.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "payload")]
    pub event: Option<Payload>,
}

/// Text that is shared in memory, in the journal.
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
    /// Takes over what this later record of a run does not tell and the database keeps.
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

    /// The engine's form, for a job of the present configuration. Elapsed instants are the engine's business.
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
    /// The row of a record; `job_row` is for the writer to fill in.
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

/// SQLite's integers are signed; run numbers and ticks never come near the sign.
pub(super) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The other way.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The outcome that a state's word names, if it is an end.
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
        let said = format!("`{text}` is no word that this firelink knows");
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, said.into())
    })
}
