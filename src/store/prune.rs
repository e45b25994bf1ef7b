//! Pruning: deletes old runs and missed deadlines, a bounded number at a time, of jobs that are configured and of jobs that no
//! longer are. A missed deadline is deleted with the runs around it, and by the same limits counted for deadlines alone,
//! because a job that only ever misses them has no runs.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::StoreError;
use super::row::number;
use super::{Store, blocks};
use crate::model::{JobId, WallTime};

/// Runs and missed deadlines deleted in one step: about a millisecond, a fifth of the time by which a turn may delay a firing.
pub const PRUNE_AT_ONCE: usize = 64;

/// A job that is in the database and not in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneJob(i64);

/// What was deleted of such a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The job's name.
    pub name: String,
    /// Deleted runs and missed deadlines.
    pub pruned: Pruned,
    /// The job's row was deleted, too: nothing is left of it.
    pub forgotten: bool,
}

/// What a step of pruning deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The ids of the runs, whose logs the caller deletes.
    pub runs: Vec<u64>,
    /// The number of missed deadlines.
    pub missed: usize,
}

impl Pruned {
    /// The sum of both, which a step limits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.runs.len() + self.missed
    }
}

/// Retention: the newest `runs` ended runs are kept, except those that ended before `since`; the same for missed deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The number of runs.
    pub runs: u32,
    /// Runs that ended earlier are deleted.
    pub since: Option<WallTime>,
}

impl Store {
    /// Deletes ended runs and missed deadlines of a job that are not kept, `limit` at most. The newest run in the database
    /// stays, whatever its age, because the next run's id follows on it.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn prune(&mut self, job: JobId, keep: Keep, limit: usize) -> Result<Pruned, StoreError> {
        let row = self.row_of(job);
        self.delete(|tx| remove(tx, row, keep, limit))
    }

    /// The jobs that are in the database and no longer configured. Their dependencies' stored ends, and their own ends stored
    /// for others, are deleted at once: a job of the same name that is added later is a new one.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn gone(&mut self) -> Result<Vec<GoneJob>, StoreError> {
        let configured: HashSet<i64> = self.job_rows.iter().copied().collect();
        self.delete(|tx| {
            let known: i64 = tx.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))?;
            if usize::try_from(known).is_ok_and(|known| known <= configured.len()) {
                return Ok(Vec::new());
            }
            let credits: Vec<(i64, i64)> = tx
                .prepare("SELECT job, upstream FROM credits")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let mut delete = tx.prepare("DELETE FROM credits WHERE job = ?1 AND upstream = ?2")?;
            for credit in credits.iter().filter(|(job, up)| !configured.contains(job) || !configured.contains(up)) {
                delete.execute(*credit)?;
            }
            let mut all = tx.prepare("SELECT id FROM jobs")?;
            let rows = all.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            Ok(rows.into_iter().filter(|row| !configured.contains(row)).map(GoneJob).collect())
        })
    }

    /// [`Store::prune`] for a job that is no longer configured. When no run is left, its row is deleted, too, unless it was a
    /// watch: the seen-set stays, so that the watch continues where it was if it is configured again.
    ///
    /// # Errors
    /// Those of the file system and of SQLite.
    pub fn prune_gone(&mut self, job: GoneJob, keep: Keep, limit: usize) -> Result<Gone, StoreError> {
        debug_assert!(!self.job_rows.contains(&job.0), "it is configured");
        self.delete(|tx| {
            let (name, is_deletable): (String, bool) = tx
                .prepare_cached("SELECT name, watch IS NULL FROM jobs WHERE id = ?1")?
                .query_row([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let pruned = remove(tx, job.0, keep, limit)?;
            let is_left: bool = tx
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM runs WHERE job = ?1) OR EXISTS (SELECT 1 FROM missed WHERE job = ?1)",
                )?
                .query_row([job.0], |row| row.get(0))?;
            let forgotten = !is_left && is_deletable;
            if forgotten {
                tx.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([job.0])?;
            }
            Ok(Gone { name, pruned, forgotten })
        })
    }

    fn delete<T>(&mut self, act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.catch_up()?;
        let path = &self.path;
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("prune {}", path.display()), &error);
        let tx = self.conn.transaction().map_err(wrap)?;
        let done = act(&tx).map_err(wrap)?;
        tx.commit().map_err(wrap)?;
        self.checkpoint_due = true;
        Ok(done)
    }
}

/// Deletes ended runs with their attempts, and missed deadlines.
fn remove(tx: &Transaction<'_>, job: i64, keep: Keep, limit: usize) -> rusqlite::Result<Pruned> {
    let (ended, missed): (i64, i64) = tx
        .prepare_cached("SELECT ended, missed FROM jobs WHERE id = ?1")?
        .query_row([job], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default();
    let runs = prunable(tx, job, keep, surplus(ended, keep), limit)?;
    for id in &runs {
        tx.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([*id])?;
        tx.prepare_cached("DELETE FROM attempts WHERE run = ?1")?.execute([*id])?;
    }
    blocks::delete_empty(tx, &runs)?;
    let behind = runs.iter().max().copied();
    let deadlines = prunable_missed(tx, job, keep, surplus(missed, keep), behind, limit - runs.len().min(limit))?;
    for id in &deadlines {
        tx.prepare_cached("DELETE FROM missed WHERE id = ?1")?.execute([*id])?;
    }
    if !(runs.is_empty() && deadlines.is_empty()) {
        let count = |ids: &[i64]| i64::try_from(ids.len()).unwrap_or(i64::MAX);
        tx.prepare_cached("UPDATE jobs SET ended = ended - ?2, missed = missed - ?3 WHERE id = ?1")?.execute([
            job,
            count(&runs),
            count(&deadlines),
        ])?;
    }
    Ok(Pruned { runs: runs.into_iter().map(number).collect(), missed: deadlines.len() })
}

/// How many are more than are kept. At least one is kept, which has the job's last result.
fn surplus(count: i64, keep: Keep) -> usize {
    usize::try_from(count - i64::from(keep.runs.max(1))).unwrap_or(0)
}

/// Runs to delete. Only the `limit` oldest ended runs are read, so that the cost does not depend on how many are kept.
fn prunable(tx: &Transaction<'_>, job: i64, keep: Keep, surplus: usize, limit: usize) -> rusqlite::Result<Vec<i64>> {
    let Some(before) = keep.since.map(WallTime::as_nanos).or((surplus > 0).then_some(i64::MIN)) else {
        return Ok(Vec::new());
    };
    let mut oldest = tx.prepare_cached(
        "SELECT id, ended_at < ?2 FROM runs
          WHERE job = ?1 AND state NOT IN ('pending', 'running') AND id < (SELECT max(id) FROM runs) ORDER BY id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = oldest.query_map(params![job, before, limit], |row| Ok((row.get(0)?, row.get::<_, Option<bool>>(1)?)))?;
    let mut found = Vec::new();
    for (index, row) in rows.enumerate() {
        let (id, too_old) = row?;
        if index < surplus || too_old == Some(true) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Missed deadlines to delete, also those that were recorded before the run `behind`, the newest deleted one.
fn prunable_missed(
    tx: &Transaction<'_>,
    job: i64,
    keep: Keep,
    surplus: usize,
    behind: Option<i64>,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    if limit == 0 || (surplus == 0 && keep.since.is_none() && behind.is_none()) {
        return Ok(Vec::new());
    }
    let (before, behind) = (keep.since.map_or(i64::MIN, WallTime::as_nanos), behind.unwrap_or(i64::MIN));
    let mut oldest = tx.prepare_cached("SELECT id, at < ?2 OR after_run < ?3 FROM missed WHERE job = ?1 ORDER BY id LIMIT ?4")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = oldest.query_map(params![job, before, behind, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut found = Vec::new();
    for (index, row) in rows.enumerate() {
        let (id, too_old) = row?;
        if index < surplus || too_old {
            found.push(id);
        }
    }
    Ok(found)
}
