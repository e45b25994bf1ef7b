//! Reading past runs, with or without a daemon.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params_from_iter};

use super::entry::{Entry, coalesce};
use super::error::StoreError;
use super::journal::{self, applied_sequence};
use super::row::{COLUMNS, StoredRun, integer};
use super::{DATABASE, Store, blocks, open_read_only};
use crate::model::{Attempt, Exit, JobId, RunId, StateWord, WallTime};

/// Selects runs; `None` in a field selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The job's name.
    pub job: Option<String>,
    /// The run's state.
    pub state: Option<StateWord>,
    /// Scheduled at this instant or later.
    pub since: Option<WallTime>,
    /// Scheduled before this instant.
    pub until: Option<WallTime>,
    /// With a smaller id, for paging: the last one of the page before.
    pub before: Option<RunId>,
    /// The largest number of results.
    pub limit: usize,
}

/// A missed deadline, which no run was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedRow {
    /// The row id of its job.
    pub job_row: i64,
    /// The deadline.
    pub at: WallTime,
    /// The newest run when it was recorded, which orders it among the runs.
    pub after_run: RunId,
    /// Why no run was made.
    pub reason: String,
}

/// Read-only access to a state directory.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    conn: Connection,
    names: HashMap<i64, String>,
}

/// How often the database and the journal are read again if the daemon made a checkpoint between the two. It makes a few in a
/// second at most.
const READS: usize = 4;

/// Runs and attempts of the journal that are not in the database yet.
#[derive(Debug, Default)]
struct Journaled {
    runs: BTreeMap<RunId, StoredRun>,
    attempts: Vec<(RunId, AttemptRow)>,
}

impl Journaled {
    /// Reads the journal; returns it with the transaction in which the database has to be read.
    fn read<'a>(dir: &Path, conn: &'a Connection) -> Result<(Journaled, Transaction<'a>), StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read the state", &error);
        let mut reads = 0;
        let (found, tx) = loop {
            reads += 1;
            let tx = conn.unchecked_transaction().map_err(wrap)?;
            let Some(applied) = applied_sequence(&tx).map_err(wrap)? else { return Ok((Journaled::default(), tx)) };
            let found = journal::read(dir, applied).map_err(|error| journal::unreadable(dir, &error))?;
            if !found.is_ahead || reads == READS {
                break (found, tx);
            }
        };
        let mut journaled = Journaled::default();
        for entry in coalesce(found.entries) {
            match entry {
                Entry::Run { new, mut row } => {
                    if !new && let Some(stored) = run(&tx, row.id)? {
                        row.merge_missing_from(&stored);
                    }
                    journaled.runs.insert(row.id, row);
                }
                Entry::AttemptFailed { run, attempt, started_at, ended_at, exit, reason } => {
                    journaled.attempts.push((run, AttemptRow { attempt, started_at, ended_at, exit, reason }));
                }
                // The other entries are not part of the history.
                _ => {}
            }
        }
        Ok((journaled, tx))
    }
}

impl Filter {
    /// The same conditions as in the SQL of [`runs`].
    fn matches(&self, job: Option<i64>, run: &StoredRun) -> bool {
        job.is_none_or(|job| run.job_row == job)
            && self.state.is_none_or(|state| run.state == state)
            && self.since.is_none_or(|since| run.scheduled_at >= since)
            && self.until.is_none_or(|until| run.scheduled_at < until)
            && self.before.is_none_or(|before| run.id < before)
    }
}

impl History {
    /// Opens the database in `dir` for reading; `None` if there is none yet.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn open(dir: &Path) -> Result<Option<History>, StoreError> {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Ok(None);
        }
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
        let conn = open_read_only(&path).map_err(wrap)?;
        conn.busy_timeout(std::time::Duration::from_secs(2)).map_err(wrap)?;
        let names = job_names(&conn).map_err(wrap)?;
        Ok(Some(History { dir: dir.into(), conn, names }))
    }

    /// The name of the job with this row id.
    #[must_use]
    pub fn job_name(&self, row: i64) -> &str {
        self.names.get(&row).map_or("?", String::as_str)
    }

    /// The names of all jobs with a row, configured or not.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    /// Runs and missed deadlines, newest first.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn query(&self, filter: &Filter) -> Result<Vec<Result<StoredRun, MissedRow>>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read the history", &error);
        let job = match &filter.job {
            Some(name) => match self.names.iter().find(|(_, known)| *known == name) {
                Some((row, _)) => Some(*row),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let (journaled, tx) = Journaled::read(&self.dir, &self.conn)?;
        let mut entries = Vec::new();
        if filter.state != Some(StateWord::Missed) {
            let enough = Filter { limit: filter.limit.saturating_add(journaled.runs.len()), ..filter.clone() };
            let stored = runs(&tx, job, &enough).map_err(wrap)?.into_iter().filter(|run| !journaled.runs.contains_key(&run.id));
            entries.extend(stored.map(Ok));
            entries.extend(journaled.runs.into_values().filter(|run| filter.matches(job, run)).map(Ok));
        }
        if filter.state.is_none_or(|state| state == StateWord::Missed) {
            entries.extend(missed(&tx, job, filter).map_err(wrap)?.into_iter().map(Err));
        }
        // A missed deadline was recorded after the run that it names.
        entries.sort_by_key(|entry| match entry {
            Ok(run) => std::cmp::Reverse((run.id.0, 0)),
            Err(missed) => std::cmp::Reverse((missed.after_run.0, 1)),
        });
        entries.truncate(filter.limit);
        Ok(entries)
    }

    /// One run, by number.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError> {
        let (mut journaled, tx) = Journaled::read(&self.dir, &self.conn)?;
        journaled.runs.remove(&id).map_or_else(|| run(&tx, id), |row| Ok(Some(row)))
    }

    /// The attempts of a run that failed and were followed by another, oldest first; the last one is the run's own row.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn attempts(&self, id: RunId) -> Result<Vec<AttemptRow>, StoreError> {
        let (journaled, tx) = Journaled::read(&self.dir, &self.conn)?;
        let mut rows = attempts(&tx, id).map_err(|error| StoreError::from_sqlite("read the attempts of a run", &error))?;
        rows.extend(journaled.attempts.into_iter().filter(|(of, _)| *of == id).map(|(_, row)| row));
        Ok(rows)
    }
}

/// An attempt that failed and was followed by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub attempt: Attempt,
    /// When it started.
    pub started_at: Option<WallTime>,
    /// When it ended.
    pub ended_at: WallTime,
    /// How its process ended, if it had one.
    pub exit: Option<Exit>,
    /// Why it failed.
    pub reason: String,
}

fn attempts(conn: &Connection, run: RunId) -> rusqlite::Result<Vec<AttemptRow>> {
    let mut query = conn.prepare_cached(
        "SELECT attempt, started_at, ended_at, exit_code, signal, reason FROM attempts WHERE run = ?1 ORDER BY attempt",
    )?;
    let rows = query.query_map([integer(run.0)], |row| {
        let (code, signal): (Option<i32>, Option<i32>) = (row.get(3)?, row.get(4)?);
        Ok(AttemptRow {
            attempt: Attempt(row.get(0)?),
            started_at: row.get::<_, Option<i64>>(1)?.map(WallTime::from_nanos),
            ended_at: WallTime::from_nanos(row.get(2)?),
            exit: code.map(Exit::Code).or(signal.map(Exit::Signal)),
            reason: row.get(5)?,
        })
    })?;
    rows.collect()
}

fn run(conn: &Connection, id: RunId) -> Result<Option<StoredRun>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM runs WHERE id = ?1");
    conn.prepare_cached(&sql)
        .and_then(|mut query| query.query_row([integer(id.0)], StoredRun::from_row).optional())
        .map_err(|error| StoreError::from_sqlite("read a run", &error))
}

impl Store {
    /// One run, by number.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn run(&mut self, id: RunId) -> Result<Option<StoredRun>, StoreError> {
        run(self.caught_up(), id)
    }

    /// The name of a run's job, and whether the run has ended; `None` if there is no such run.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn job_and_end_of(&mut self, run: RunId) -> Result<Option<(Box<str>, bool)>, StoreError> {
        let sql = "SELECT jobs.name, runs.ended_at IS NOT NULL FROM runs JOIN jobs ON jobs.id = runs.job WHERE runs.id = ?1";
        self.caught_up()
            .query_row(sql, [integer(run.0)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|error| StoreError::from_sqlite("read a run's job", &error))
    }

    /// The state of the newest run with this event.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn state_of_event(&mut self, job: JobId, event: &str) -> Result<Option<StateWord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE job = ?1 AND event = ?2 ORDER BY id DESC LIMIT 1");
        let row = self.row_of(job);
        self.caught_up()
            .prepare(&sql)
            .and_then(|mut query| query.query_row((row, event), StoredRun::from_row).optional())
            .map(|run| run.map(|run| run.state))
            .map_err(|error| StoreError::from_sqlite("look for the run of an event", &error))
    }

    /// The runs that were skipped at this instant for this reason, or because an upstream job was.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn skipped_because(&mut self, at: WallTime, reason: &str) -> Result<Vec<StoredRun>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read skipped runs", &error);
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE state = 'skipped' AND ended_at = ?1 \
             AND (reason = ?2 OR substr(reason, -length(?2) - 2) = ': ' || ?2) ORDER BY id"
        );
        let mut query = self.caught_up().prepare_cached(&sql).map_err(wrap)?;
        let rows = query.query_map((at.as_nanos(), reason), StoredRun::from_row).map_err(wrap)?;
        rows.collect::<rusqlite::Result<_>>().map_err(wrap)
    }

    /// The newest run of each job that has one.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn last_runs(&mut self) -> Result<HashMap<JobId, StoredRun>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read the last runs", &error);
        let index_of: HashMap<i64, JobId> = (0..).zip(&self.job_rows).map(|(index, row)| (*row, JobId(index))).collect();
        let columns = COLUMNS.split(", ").map(|column| format!("runs.{}", column.trim())).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM jobs JOIN runs ON runs.id = jobs.last_run");
        let mut query = self.caught_up().prepare_cached(&sql).map_err(wrap)?;
        let rows = query.query_map([], StoredRun::from_row).map_err(wrap)?;
        let mut last = HashMap::new();
        for run in rows {
            let run = run.map_err(wrap)?;
            if let Some(job) = index_of.get(&run.job_row) {
                last.insert(*job, run);
            }
        }
        Ok(last)
    }

    /// The newest run of one job.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn last_run(&mut self, job: JobId) -> Result<Option<StoredRun>, StoreError> {
        let row = self.row_of(job);
        let found = runs(self.caught_up(), Some(row), &Filter { limit: 1, ..Filter::default() });
        found.map(|mut runs| runs.pop()).map_err(|error| StoreError::from_sqlite("read the last run", &error))
    }

    /// The newest run of one job that is in one of these states.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn last_run_in(&mut self, job: JobId, states: &[StateWord]) -> Result<Option<StoredRun>, StoreError> {
        let words = states.iter().map(|state| format!("'{}'", state.as_str())).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE job = ?1 AND state IN ({words}) ORDER BY id DESC LIMIT 1");
        let row = self.row_of(job);
        self.caught_up()
            .prepare_cached(&sql)
            .and_then(|mut query| query.query_row([row], StoredRun::from_row).optional())
            .map_err(|error| StoreError::from_sqlite("read the last run in a state", &error))
    }
}

fn job_names(conn: &Connection) -> rusqlite::Result<HashMap<i64, String>> {
    let mut query = conn.prepare("SELECT id, name FROM jobs")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Adds `AND column op ?` for each condition of a filter.
struct Where {
    sql: String,
    params: Vec<Box<dyn ToSql>>,
}

impl Where {
    fn and(&mut self, condition: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.params.push(Box::new(value));
        }
    }

    fn limited(mut self, order: &str, limit: usize) -> Where {
        self.sql.push_str(order);
        self.params.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        self
    }
}

fn runs(conn: &Connection, job: Option<i64>, filter: &Filter) -> rusqlite::Result<Vec<StoredRun>> {
    let mut asked = Where { sql: format!("SELECT {COLUMNS} FROM runs WHERE 1"), params: Vec::new() };
    let mut order = " ORDER BY id DESC LIMIT ?";
    if let Some(until) = filter.until
        && let Some((from, condition)) = blocks::before(conn)?
    {
        asked.sql = format!("SELECT {COLUMNS} FROM {from} WHERE 1");
        asked.and(condition, Some(until.as_nanos()));
        order = " ORDER BY first DESC, id DESC LIMIT ?";
    }
    asked.and("job = ?", job);
    asked.and("state = ?", filter.state.map(StateWord::as_str));
    match filter.state {
        // The same expression as in the index `runs_troubled`, or SQLite does not use it.
        Some(state) if state.is_end() && state != StateWord::Succeeded => {
            asked.sql.push_str(" AND state <> 'pending' AND state <> 'running' AND state <> 'succeeded'");
        }
        Some(StateWord::Pending | StateWord::Running) => {
            asked.sql.push_str(" AND id >= coalesce((SELECT value FROM meta WHERE key = 'active_from'), 0)");
        }
        _ => {}
    }
    asked.and("scheduled_at >= ?", filter.since.map(WallTime::as_nanos));
    asked.and("scheduled_at < ?", filter.until.map(WallTime::as_nanos));
    asked.and("id < ?", filter.before.map(|id| integer(id.0)));
    let asked = asked.limited(order, filter.limit);
    conn.prepare_cached(&asked.sql)?.query_map(params_from_iter(asked.params), StoredRun::from_row)?.collect()
}

fn missed(conn: &Connection, job: Option<i64>, filter: &Filter) -> rusqlite::Result<Vec<MissedRow>> {
    let mut asked = Where { sql: "SELECT job, at, after_run, reason FROM missed WHERE 1".into(), params: Vec::new() };
    asked.and("job = ?", job);
    asked.and("at >= ?", filter.since.map(WallTime::as_nanos));
    asked.and("at < ?", filter.until.map(WallTime::as_nanos));
    asked.and("after_run < ?", filter.before.map(|id| integer(id.0)));
    let asked = asked.limited(" ORDER BY id DESC LIMIT ?", filter.limit);
    let mut query = conn.prepare_cached(&asked.sql)?;
    let rows = query.query_map(params_from_iter(asked.params), |row| {
        Ok(MissedRow {
            job_row: row.get(0)?,
            at: WallTime::from_nanos(row.get(1)?),
            after_run: RunId(super::row::number(row.get(2)?)),
            reason: row.get(3)?,
        })
    })?;
    rows.collect()
}
