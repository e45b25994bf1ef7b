//! What an earlier daemon left, in the terms of the present configuration.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::row::{COLUMNS, StoredRun, integer, outcome};
use super::schema::StoreError;
use super::{JobKey, Store};
use crate::engine::{Restored, RestoredJob, RestoredProcess, RunRecord, Timeline, WINDOW};
use crate::model::{Attempt, JobId, Now, Outcome, RunId, StateWord, WallTime};

impl Store {
    /// Gives each job of the configuration its row, by name, and reads what is known of it. The runs that were running
    /// come with [`RestoredProcess::Gone`]; whether their processes live is for the caller to find out, who knows
    /// whether this is the same boot: the answer's second part says so.
    ///
    /// A database that turns out to be damaged is set aside as [`Store::open`] does it, and what is given back is that of
    /// a fresh one; [`Store::take_warnings`] tells.
    ///
    /// A job that is new, or whose schedule is another by now, gets `cursor` for the wall deadlines that count as dealt with, if the clock can be trusted that
    /// far; it is written with the job's row instead of once more by the engine.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn restore(&mut self, now: Now, jobs: &[JobKey], cursor: Option<WallTime>) -> Result<(Restored, bool), StoreError> {
        let tried = format!("read {}", self.path.display());
        match self.restore_inner(now, jobs, cursor).map_err(|error| StoreError::from_sqlite(&*tried, &error)) {
            Err(StoreError::Damaged { said }) => {
                self.begin_afresh(&said)?;
                self.restore_inner(now, jobs, cursor).map_err(|error| StoreError::from_sqlite(tried, &error))
            }
            restored => restored,
        }
    }

    fn restore_inner(&mut self, now: Now, keys: &[JobKey], cursor: Option<WallTime>) -> rusqlite::Result<(Restored, bool)> {
        let tx = self.conn.transaction()?;
        let mut jobs = vec![RestoredJob::default(); keys.len()];
        self.job_rows = vec![0; keys.len()];
        let by_name: HashMap<&str, usize> = keys.iter().enumerate().map(|(index, key)| (&*key.name, index)).collect();
        {
            let mut retimed = Vec::new();
            let mut known =
                tx.prepare("SELECT id, name, cursor, anchor_wall, anchor_elapsed, anchor_boot, paused, timing, made_up_from, made_up_to FROM jobs")?;
            let mut rows = known.query([])?;
            while let Some(row) = rows.next()? {
                let Some(&index) = by_name.get(row.get_ref(1)?.as_str()?) else { continue };
                self.job_rows[index] = row.get(0)?;
                let job = &mut jobs[index];
                job.cursor = row.get::<_, Option<i64>>(2)?.map(WallTime::from_nanos);
                job.paused = row.get(6)?;
                let made_up: (Option<i64>, Option<i64>) = (row.get(8)?, row.get(9)?);
                job.made_up = made_up.0.zip(made_up.1).map(|(from, to)| (WallTime::from_nanos(from), WallTime::from_nanos(to)));
                let timing: Option<i64> = row.get(7)?;
                if timing != Some(keys[index].timing) {
                    // A database of version 1 does not know: what was missed counts.
                    if timing.is_some() {
                        job.cursor = cursor;
                        job.made_up = None;
                    }
                    retimed.push(index);
                }
                let same_boot = row.get_ref(5)?.as_str_or_null()? == Some(&self.boot_id);
                job.anchor_age = match (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<i64>>(4)?) {
                    (_, Some(elapsed)) if same_boot => Some(i128::from(now.elapsed.as_nanos()) - i128::from(elapsed)),
                    (Some(wall), _) => Some(i128::from(now.wall.as_nanos()) - i128::from(wall)),
                    (None, _) => None,
                };
            }
            for index in retimed {
                let cursor = jobs[index].cursor.map(WallTime::as_nanos);
                let (from, to) = jobs[index].made_up.map(|(from, to)| (from.as_nanos(), to.as_nanos())).unzip();
                tx.prepare_cached("UPDATE jobs SET timing = ?2, cursor = ?3, made_up_from = ?4, made_up_to = ?5 WHERE id = ?1")?
                    .execute(params![self.job_rows[index], keys[index].timing, cursor, from, to])?;
            }
            let mut add = tx.prepare("INSERT INTO jobs (name, cursor, timing) VALUES (?1, ?2, ?3)")?;
            for ((row, key), job) in self.job_rows.iter_mut().zip(keys).zip(&mut jobs).filter(|((row, _), _)| **row == 0) {
                *row = add.insert(params![&*key.name, cursor.map(WallTime::as_nanos), key.timing])?;
                job.cursor = cursor;
            }
        }
        let index_of: HashMap<i64, usize> = self.job_rows.iter().enumerate().map(|(index, row)| (*row, index)).collect();
        {
            let mut credits = tx.prepare("SELECT job, upstream, outcome FROM credits")?;
            let mut rows = credits.query([])?;
            while let Some(row) = rows.next()? {
                let (job, upstream): (i64, i64) = (row.get(0)?, row.get(1)?);
                let ended = StateWord::from_word(row.get_ref(2)?.as_str()?).and_then(outcome);
                if let (Some(job), Some(upstream), Some(ended)) = (index_of.get(&job), index_of.get(&upstream), ended) {
                    let credit: (JobId, Outcome) = (job_id(*upstream), ended);
                    jobs[*job].credits.push(credit);
                }
            }
        }
        let running = read_active(&tx, now.wall, &index_of, &mut jobs)?;
        let last: Option<i64> = tx.query_row("SELECT max(id) FROM runs", [], |row| row.get(0))?;
        let stored_boot: Option<String> =
            tx.query_row("SELECT value FROM meta WHERE key = 'boot'", [], |row| row.get(0)).optional()?;
        let same_boot = stored_boot.as_deref() == Some(&self.boot_id);
        if !same_boot {
            tx.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?1)", [&self.boot_id])?;
        }
        let timeline: Option<String> =
            tx.query_row("SELECT value FROM meta WHERE key = 'timeline'", [], |row| row.get(0)).optional()?;
        tx.commit()?;
        let next_run = super::row::number(last.unwrap_or(0)) + 1;
        let timeline = timeline.and_then(|text| read_timeline(&text));
        Ok((Restored { next_run, timeline, jobs, running }, same_boot))
    }

    /// Goes on with another list of jobs, and forgets what an earlier job of a new one's name had left: its pause, its
    /// deadlines, its dependencies' ends. What its watch has seen stays.
    ///
    /// # Errors
    /// What the disk or SQLite said; the list is the old one then.
    pub fn set_jobs(&mut self, keys: &[JobKey]) -> Result<(), StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("write {}", self.path.display()), &error);
        let tx = self.conn.unchecked_transaction().map_err(wrap)?;
        let rows = rows_of(&tx, &self.job_rows, keys).map_err(wrap)?;
        tx.commit().map_err(wrap)?;
        self.job_rows = rows;
        Ok(())
    }

    /// Waiting runs of a job from `from` on, oldest first.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn load_pending(&self, job: JobId, from: RunId, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", self.path.display()), &error);
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE job = ?1 AND id >= ?2 AND state = 'pending' AND forced = 0 AND attempt = 0
             ORDER BY id LIMIT ?3"
        );
        let mut query = self.conn.prepare_cached(&sql).map_err(wrap)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![self.row_of(job), integer(from.0), limit], StoredRun::from_row).map_err(wrap)?;
        rows.map(|row| row.map(|run| run.into_record(job)).map_err(wrap)).collect()
    }
}

/// Reads the pending and running runs. Those of jobs that the configuration no longer has end as cancelled: nobody
/// could run them.
fn read_active(
    tx: &Transaction<'_>,
    now: WallTime,
    index_of: &HashMap<i64, usize>,
    jobs: &mut [RestoredJob],
) -> rusqlite::Result<Vec<(RunRecord, RestoredProcess)>> {
    let mut running = Vec::new();
    let mut orphans = Vec::new();
    {
        let mut waiting = vec![0_usize; jobs.len()];
        let mut active = tx.prepare(&format!(
            "SELECT {COLUMNS} FROM runs WHERE id >= coalesce((SELECT value FROM meta WHERE key = 'active_from'), 0)
                AND state IN ('pending', 'running') ORDER BY id"
        ))?;
        let mut rows = active.query([])?;
        while let Some(row) = rows.next()? {
            let Some(&index) = index_of.get(&row.get(1)?) else {
                orphans.push(row.get::<_, i64>(0)?);
                continue;
            };
            let run = StoredRun::from_row(row)?;
            if run.state == StateWord::Running {
                running.push((run.into_record(job_id(index)), RestoredProcess::Gone));
            } else if run.forced || run.attempt != Attempt::default() {
                // Those have their turn; the window is for those that wait for it.
                jobs[index].pending.push(run.into_record(job_id(index)));
            } else if waiting[index] < WINDOW {
                waiting[index] += 1;
                jobs[index].pending.push(run.into_record(job_id(index)));
            } else {
                jobs[index].stored += 1;
            }
        }
    }
    let mut end = tx.prepare_cached(
        "UPDATE runs SET state = CASE state WHEN 'running' THEN 'lost' ELSE 'cancelled' END,
                reason = 'its job is no longer in the configuration', ended_at = ?2, not_before = NULL, pid = NULL, pid_start = NULL
          WHERE id = ?1",
    )?;
    let mut count = tx.prepare_cached("UPDATE jobs SET ended = ended + 1 WHERE id = (SELECT job FROM runs WHERE id = ?1)")?;
    for id in orphans {
        end.execute(params![id, now.as_nanos()])?;
        count.execute([id])?;
    }
    Ok(running)
}

/// The row of each job: its own one if that is among `rows`, else a fresh one, or that of an earlier job of its name.
fn rows_of(tx: &Transaction<'_>, rows: &[i64], keys: &[JobKey]) -> rusqlite::Result<Vec<i64>> {
    let rows: HashSet<i64> = rows.iter().copied().collect();
    let mut known: HashMap<String, i64> = HashMap::new();
    let mut named = tx.prepare("SELECT name, id FROM jobs")?;
    let mut found = named.query([])?;
    while let Some(row) = found.next()? {
        let id = row.get(1)?;
        if rows.contains(&id) {
            known.insert(row.get(0)?, id);
        }
    }
    let mut timed = tx.prepare("UPDATE jobs SET timing = ?2 WHERE id = ?1 AND timing <> ?2")?;
    let mut add = tx.prepare(
        "INSERT INTO jobs (name, timing) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE
            SET timing = excluded.timing, paused = 0, cursor = NULL, made_up_from = NULL, made_up_to = NULL, anchor_wall = NULL, anchor_elapsed = NULL, anchor_boot = NULL
         RETURNING id",
    )?;
    let mut forget = tx.prepare("DELETE FROM credits WHERE job = ?1 OR upstream = ?1")?;
    keys.iter()
        .map(|key| match known.get(&*key.name) {
            Some(row) => timed.execute([*row, key.timing]).map(|_| *row),
            None => {
                let row: i64 = add.query_row(params![&*key.name, key.timing], |row| row.get(0))?;
                forget.execute([row])?;
                Ok(row)
            }
        })
        .collect()
}

fn job_id(index: usize) -> JobId {
    JobId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn read_timeline(text: &str) -> Option<Timeline> {
    #[derive(serde::Deserialize)]
    struct Stored {
        closed: Vec<(i64, i64)>,
        since: i64,
    }
    let stored: Stored = serde_json::from_str(text).ok()?;
    let closed = stored.closed.into_iter().map(|(from, to)| (WallTime::from_nanos(from), WallTime::from_nanos(to))).collect();
    Some(Timeline::from_parts(closed, WallTime::from_nanos(stored.since)))
}
