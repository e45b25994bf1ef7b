//! Old runs and missed deadlines go, bounded work at a time: those of jobs that are configured, and of those that once
//! were. A deadline goes with the runs that it stands among, and by the same bounds of its own, because a job that only ever
//! misses them has no runs.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::StoreError;
use super::row::number;
use super::{Store, blocks};
use crate::model::{JobId, WallTime};

/// Runs and missed deadlines removed in one pruning: bounded work in a turn, a fifth of the five milliseconds by which it may hold up a firing.
pub const PRUNE_AT_ONCE: usize = 64;

/// A job that is in the state and not in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneJob(i64);

/// What was removed of such a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its name.
    pub name: String,
    /// What went.
    pub pruned: Pruned,
    /// Nothing is left of it, not even its name.
    pub forgotten: bool,
}

/// What a pruning removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The numbers of the runs, so that their logs can go too.
    pub runs: Vec<u64>,
    /// How many missed deadlines.
    pub missed: usize,
}

impl Pruned {
    /// Both together, which is what the limit of a pruning bounds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.runs.len() + self.missed
    }
}

/// Which ended runs are kept: so many of the newest, and of those no one that ended before the instant. As many missed
/// deadlines are kept, and none before the instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest.
    pub runs: u32,
    /// An older end is too old.
    pub since: Option<WallTime>,
}

impl Store {
    /// Removes ended runs and missed deadlines of a job that are not to be kept, `limit` of them at most. The newest run of
    /// all stays, whatever its age, because the next number counts on from it.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn prune(&mut self, job: JobId, keep: Keep, limit: usize) -> Result<Pruned, StoreError> {
        let row = self.row_of(job);
        self.pruned(|tx| remove(tx, row, keep, limit))
    }

    /// The jobs that are not configured any more and of which something is left. What they gave to others, or others to
    /// them, is forgotten at once: should one come back, it is another job of that name.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn gone(&mut self) -> Result<Vec<GoneJob>, StoreError> {
        let configured: HashSet<i64> = self.job_rows.iter().copied().collect();
        self.pruned(|tx| {
            let known: i64 = tx.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))?;
            if usize::try_from(known).is_ok_and(|known| known <= configured.len()) {
                return Ok(Vec::new());
            }
            let credits: Vec<(i64, i64)> = tx
                .prepare("SELECT job, upstream FROM credits")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let mut forget = tx.prepare("DELETE FROM credits WHERE job = ?1 AND upstream = ?2")?;
            for credit in credits.iter().filter(|(job, up)| !configured.contains(job) || !configured.contains(up)) {
                forget.execute(*credit)?;
            }
            let mut all = tx.prepare("SELECT id FROM jobs")?;
            let rows = all.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            Ok(rows.into_iter().filter(|row| !configured.contains(row)).map(GoneJob).collect())
        })
    }

    /// As [`Store::prune`] does it, for a job that is gone. With the last of it goes all that is known of it, unless it was a
    /// watch: what that has seen stays, so that it goes on where it was should it come back.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn prune_gone(&mut self, job: GoneJob, keep: Keep, limit: usize) -> Result<Gone, StoreError> {
        debug_assert!(!self.job_rows.contains(&job.0), "it is configured");
        self.pruned(|tx| {
            let (name, forgettable): (String, bool) = tx
                .prepare_cached("SELECT name, watch IS NULL FROM jobs WHERE id = ?1")?
                .query_row([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let pruned = remove(tx, job.0, keep, limit)?;
            let is_left: bool = tx
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM runs WHERE job = ?1) OR EXISTS (SELECT 1 FROM missed WHERE job = ?1)",
                )?
                .query_row([job.0], |row| row.get(0))?;
            let forgotten = !is_left && forgettable;
            if forgotten {
                tx.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([job.0])?;
            }
            Ok(Gone { name, pruned, forgotten })
        })
    }

    fn pruned<T>(&mut self, act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
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

/// Removes ended runs and what is of them, and missed deadlines.
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
    blocks::forget(tx, &runs)?;
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

/// How many are more than are kept: one is, whatever is asked for, because it says how the job fared last.
fn surplus(count: i64, keep: Keep) -> usize {
    usize::try_from(count - i64::from(keep.runs.max(1))).unwrap_or(0)
}

/// The oldest runs are looked at alone, `limit` of them and those that are still active: what a pruning costs does not
/// depend on how much is kept.
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

/// The same for missed deadlines; those before the run `behind` stood among runs that are gone.
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
