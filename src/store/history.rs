//! Reading past runs, with or without a daemon.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

use super::row::{COLUMNS, StoredRun, integer};
use super::schema::StoreError;
use super::{DATABASE, Store, open_read_only};
use crate::model::{JobId, RunId, StateWord, WallTime};

/// Which runs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this job only.
    pub job: Option<String>,
    /// In this state only.
    pub state: Option<StateWord>,
    /// This many at most.
    pub limit: usize,
}

/// A deadline that no run was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedRow {
    /// The database's id of its job.
    pub job_row: i64,
    /// The deadline.
    pub at: WallTime,
    /// The newest run when it was noted: where it stands among the runs.
    pub after_run: RunId,
    /// Why.
    pub reason: String,
}

/// A read-only look at a state.
#[derive(Debug)]
pub struct History {
    conn: Connection,
    names: HashMap<i64, String>,
}

impl History {
    /// Opens the database in `dir` for reading; `None` if there is none yet.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn open(dir: &Path) -> Result<Option<History>, StoreError> {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Ok(None);
        }
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
        let conn = open_read_only(&path).map_err(wrap)?;
        conn.busy_timeout(std::time::Duration::from_secs(2)).map_err(wrap)?;
        let names = job_names(&conn).map_err(wrap)?;
        Ok(Some(History { conn, names }))
    }

    /// The name of a row's job.
    #[must_use]
    pub fn job_name(&self, row: i64) -> &str {
        self.names.get(&row).map_or("?", String::as_str)
    }

    /// The names of all jobs that were ever loaded.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    /// Runs and missed deadlines, newest first.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn query(&self, filter: &Filter) -> Result<Vec<Result<StoredRun, MissedRow>>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read the history", &error);
        let job = match &filter.job {
            Some(name) => match self.names.iter().find(|(_, known)| *known == name) {
                Some((row, _)) => Some(*row),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let mut entries = Vec::new();
        if filter.state != Some(StateWord::Missed) {
            entries.extend(runs(&self.conn, job, filter.state, filter.limit).map_err(wrap)?.into_iter().map(Ok));
        }
        if filter.state.is_none_or(|state| state == StateWord::Missed) {
            entries.extend(missed(&self.conn, job, filter.limit).map_err(wrap)?.into_iter().map(Err));
        }
        // A missed deadline was noted after the run that it names.
        entries.sort_by_key(|entry| match entry {
            Ok(run) => std::cmp::Reverse((run.id.0, 0)),
            Err(missed) => std::cmp::Reverse((missed.after_run.0, 1)),
        });
        entries.truncate(filter.limit);
        Ok(entries)
    }
}

impl Store {
    /// One run, by number.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE id = ?1");
        self.conn
            .prepare_cached(&sql)
            .and_then(|mut query| query.query_row([integer(id.0)], StoredRun::from_row).optional())
            .map_err(|error| StoreError::from_sqlite("read a run", &error))
    }

    /// The runs that were skipped at this instant for this reason, or because of one that was.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn skipped_because(&self, at: WallTime, reason: &str) -> Result<Vec<StoredRun>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read skipped runs", &error);
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE state = 'skipped' AND ended_at = ?1 \
             AND (reason = ?2 OR substr(reason, -length(?2) - 2) = ': ' || ?2) ORDER BY id"
        );
        let mut query = self.conn.prepare_cached(&sql).map_err(wrap)?;
        let rows = query.query_map((at.as_nanos(), reason), StoredRun::from_row).map_err(wrap)?;
        rows.collect::<rusqlite::Result<_>>().map_err(wrap)
    }

    /// The newest run of each job that has one.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn last_runs(&self) -> Result<HashMap<JobId, StoredRun>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite("read the last runs", &error);
        let index_of: HashMap<i64, JobId> = (0..).zip(&self.job_rows).map(|(index, row)| (*row, JobId(index))).collect();
        let columns = COLUMNS.split(", ").map(|column| format!("runs.{}", column.trim())).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM jobs JOIN runs ON runs.id = jobs.last_run");
        let mut query = self.conn.prepare_cached(&sql).map_err(wrap)?;
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
    /// What the disk or SQLite said.
    pub fn last_run(&self, job: JobId) -> Result<Option<StoredRun>, StoreError> {
        let found = runs(&self.conn, Some(self.row_of(job)), None, 1);
        found.map(|mut runs| runs.pop()).map_err(|error| StoreError::from_sqlite("read the last run", &error))
    }

    /// The name of a row's job, if the configuration has it.
    #[must_use]
    pub fn name_of(&self, row: i64) -> Option<&str> {
        self.job_of(row).and_then(|job| self.names.get(job.index())).map(|name| &**name)
    }
}

fn job_names(conn: &Connection) -> rusqlite::Result<HashMap<i64, String>> {
    let mut query = conn.prepare("SELECT id, name FROM jobs")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn runs(conn: &Connection, job: Option<i64>, state: Option<StateWord>, limit: usize) -> rusqlite::Result<Vec<StoredRun>> {
    let mut sql = format!("SELECT {COLUMNS} FROM runs WHERE 1");
    let mut params: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(job) = job {
        sql.push_str(" AND job = ?");
        params.push(Box::new(job));
    }
    if let Some(state) = state {
        sql.push_str(" AND state = ?");
        params.push(Box::new(state.as_str()));
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    params.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
    conn.prepare_cached(&sql)?.query_map(params_from_iter(params), StoredRun::from_row)?.collect()
}

fn missed(conn: &Connection, job: Option<i64>, limit: usize) -> rusqlite::Result<Vec<MissedRow>> {
    let mut query = conn
        .prepare_cached("SELECT job, at, after_run, reason FROM missed WHERE ?1 IS NULL OR job = ?1 ORDER BY id DESC LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    query
        .query_map((job, limit), |row| {
            Ok(MissedRow {
                job_row: row.get(0)?,
                at: WallTime::from_nanos(row.get(1)?),
                after_run: RunId(super::row::number(row.get(2)?)),
                reason: row.get(3)?,
            })
        })?
        .collect()
}
