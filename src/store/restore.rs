//! Restoring the state of an earlier daemon for the current configuration.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::apply::{read_spans, spans_text};
use super::error::StoreError;
use super::row::{COLUMNS, StoredRun, integer, outcome};
use super::{JobKey, Store};
use crate::engine::order_of_names;
use crate::engine::{CaughtUp, MAX_IN_MEMORY, Restored, RestoredJob, RestoredProcess, RunRecord, Timeline};
use crate::model::{Attempt, JobId, Now, Outcome, RunId, StateWord, WallTime};

/// Jobs inserted by one statement.
const AT_ONCE: usize = 64;

impl Store {
    /// Finds or inserts the row of each job of the configuration, by name, and reads its state. Runs that were running have
    /// [`RestoredProcess::Gone`]; the caller finds out which of their processes are alive, if this is the same boot, which is
    /// the second part of the result.
    ///
    /// A database that turns out to be damaged is set aside as by [`Store::open`], and the result is that of a new one;
    /// [`Store::take_warnings`] has the warning then.
    ///
    /// A job that is new, or whose schedule has changed, gets `cursor`: wall deadlines up to there count as handled. It is
    /// `None` while the clock can't be trusted. It is written with the job's row, which saves the engine a record.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn restore(&mut self, now: Now, jobs: &[JobKey], cursor: Option<WallTime>) -> Result<(Restored, bool), StoreError> {
        let action = format!("read {}", self.path.display());
        match self.restore_inner(now, jobs, cursor).map_err(|error| StoreError::from_sqlite(&*action, &error)) {
            Err(StoreError::Damaged { message }) => {
                self.replace_damaged(&message)?;
                self.restore_inner(now, jobs, cursor).map_err(|error| StoreError::from_sqlite(action, &error))
            }
            restored => restored,
        }
    }

    fn restore_inner(&mut self, now: Now, keys: &[JobKey], cursor: Option<WallTime>) -> rusqlite::Result<(Restored, bool)> {
        let tx = self.conn.transaction()?;
        let mut jobs = vec![RestoredJob::default(); keys.len()];
        self.job_rows = vec![0; keys.len()];
        let mut names = Names::of(keys);
        {
            let mut retimed = Vec::new();
            // Most jobs have no more than a cursor, and each column that is read takes time.
            let mut known = tx.prepare(
                "SELECT id, name, cursor, timing, coalesce(nullif(paused, 0), made_up, anchor_wall, anchor_elapsed) IS NOT NULL,
                        paused, made_up, anchor_wall, anchor_elapsed, anchor_boot FROM jobs",
            )?;
            let mut rows = known.query([])?;
            while let Some(row) = rows.next()? {
                let Some(index) = names.find(row.get_ref(1)?.as_str()?) else { continue };
                self.job_rows[index] = row.get(0)?;
                let job = &mut jobs[index];
                job.cursor = row.get::<_, Option<i64>>(2)?.map(WallTime::from_nanos);
                if row.get(4)? {
                    job.paused = row.get(5)?;
                    job.caught_up = CaughtUp::from_ranges(row.get_ref(6)?.as_str_or_null()?.map(read_spans).unwrap_or_default());
                    let same_boot = row.get_ref(9)?.as_str_or_null()? == Some(&self.boot_id);
                    job.anchor_age = match (row.get::<_, Option<i64>>(7)?, row.get::<_, Option<i64>>(8)?) {
                        (_, Some(elapsed)) if same_boot => Some(i128::from(now.elapsed.as_nanos()) - i128::from(elapsed)),
                        (Some(wall), _) => Some(i128::from(now.wall.as_nanos()) - i128::from(wall)),
                        (None, _) => None,
                    };
                }
                let timing: Option<i64> = row.get(3)?;
                if timing != Some(keys[index].timing) {
                    // A database of version 1 has no timing: its deadlines count as missed.
                    if timing.is_some() {
                        job.cursor = cursor;
                        job.caught_up = CaughtUp::default();
                    }
                    retimed.push(index);
                }
            }
            for index in retimed {
                let cursor = jobs[index].cursor.map(WallTime::as_nanos);
                let caught_up = Some(&jobs[index].caught_up)
                    .filter(|caught_up| !caught_up.is_empty())
                    .map(|caught_up| spans_text(caught_up.ranges()));
                tx.prepare_cached("UPDATE jobs SET timing = ?2, cursor = ?3, made_up = ?4 WHERE id = ?1")?.execute(params![
                    self.job_rows[index],
                    keys[index].timing,
                    cursor,
                    caught_up
                ])?;
            }
            let missing: Vec<usize> = names.in_order().filter(|index| self.job_rows[*index] == 0).collect();
            for index in &missing {
                jobs[*index].cursor = cursor;
            }
            add(&tx, &missing, keys, cursor, &mut self.job_rows)?;
        }
        let index_of = IndexOf { rows: &self.job_rows, map: OnceCell::new() };
        {
            let mut credits = tx.prepare("SELECT job, upstream, outcome FROM credits")?;
            let mut rows = credits.query([])?;
            while let Some(row) = rows.next()? {
                let (job, upstream): (i64, i64) = (row.get(0)?, row.get(1)?);
                let ended = StateWord::from_word(row.get_ref(2)?.as_str()?).and_then(outcome);
                if let (Some(job), Some(upstream), Some(ended)) = (index_of.get(job), index_of.get(upstream), ended) {
                    let credit: (JobId, Outcome) = (job_id(upstream), ended);
                    jobs[job].credits.push(credit);
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

    /// Changes the list of jobs, after a reload. A new job does not inherit the state of an earlier one with its name: the
    /// pause, the deadlines and the stored ends of dependencies are deleted. The seen-set of its watch stays.
    ///
    /// # Errors
    /// Those of SQLite; the list is unchanged then.
    pub fn set_jobs(&mut self, keys: &[JobKey]) -> Result<(), StoreError> {
        self.catch_up()?;
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("write {}", self.path.display()), &error);
        let tx = self.conn.unchecked_transaction().map_err(wrap)?;
        let rows = rows_of(&tx, &self.job_rows, keys).map_err(wrap)?;
        tx.commit().map_err(wrap)?;
        self.job_rows = rows;
        Ok(())
    }

    /// Pending runs of a job with an id of `from` or more, oldest first.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn load_pending(&mut self, job: JobId, from: RunId, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let path = self.path.clone();
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE job = ?1 AND id >= ?2 AND state = 'pending' AND forced = 0 AND attempt = 0
             ORDER BY id LIMIT ?3"
        );
        let row = self.row_of(job);
        let mut query = self.caught_up().prepare_cached(&sql).map_err(wrap)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![row, integer(from.0), limit], StoredRun::from_row).map_err(wrap)?;
        rows.map(|row| row.map(|run| run.into_record(job)).map_err(wrap)).collect()
    }
}

/// The jobs of a configuration ordered by name. Jobs that were inserted together have rows in the same order, so the next row
/// is likely that of the next name.
struct Names<'k> {
    keys: &'k [JobKey],
    order: Vec<u32>,
    next: usize,
}

impl<'k> Names<'k> {
    fn of(keys: &'k [JobKey]) -> Names<'k> {
        Names { keys, order: order_of_names(keys.len(), |job| &keys[job].name), next: 0 }
    }

    fn find(&mut self, name: &str) -> Option<usize> {
        let named = |index: &u32| &*self.keys[*index as usize].name;
        let place = match self.order.get(self.next) {
            Some(index) if named(index) == name => self.next,
            _ => self.order.binary_search_by(|index| named(index).cmp(name)).ok()?,
        };
        self.next = place + 1;
        Some(self.order[place] as usize)
    }

    fn in_order(&self) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().map(|index| *index as usize)
    }
}

/// Maps row ids to jobs. Built on first use: most starts don't need it.
struct IndexOf<'a> {
    rows: &'a [i64],
    map: OnceCell<HashMap<i64, usize>>,
}

impl IndexOf<'_> {
    fn get(&self, row: i64) -> Option<usize> {
        let map = self.map.get_or_init(|| self.rows.iter().enumerate().map(|(index, row)| (*row, index)).collect());
        map.get(&row).copied()
    }
}

/// Inserts the rows of new jobs, some dozens by one statement and in the order of names: SQLite then appends to the table and
/// to its index.
fn add(
    tx: &Transaction<'_>,
    missing: &[usize],
    keys: &[JobKey],
    cursor: Option<WallTime>,
    job_rows: &mut [i64],
) -> rusqlite::Result<()> {
    for some in missing.chunks(AT_ONCE) {
        let values = vec!["(?, ?, ?)"; some.len()].join(", ");
        let mut add = tx.prepare_cached(&format!("INSERT INTO jobs (name, cursor, timing) VALUES {values}"))?;
        for (place, index) in some.iter().enumerate() {
            add.raw_bind_parameter(3 * place + 1, &*keys[*index].name)?;
            add.raw_bind_parameter(3 * place + 2, cursor.map(WallTime::as_nanos))?;
            add.raw_bind_parameter(3 * place + 3, keys[*index].timing)?;
        }
        add.raw_execute()?;
        // SQLite gives each row the id after the largest one.
        let last = tx.last_insert_rowid();
        for (index, row) in some.iter().rev().zip((1..=last).rev()) {
            job_rows[*index] = row;
        }
    }
    Ok(())
}

/// Reads the pending and running runs. Those of jobs that are no longer configured end as cancelled.
fn read_active(
    tx: &Transaction<'_>,
    now: WallTime,
    index_of: &IndexOf<'_>,
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
            let Some(index) = index_of.get(row.get(1)?) else {
                orphans.push(row.get::<_, i64>(0)?);
                continue;
            };
            let run = StoredRun::from_row(row)?;
            if run.state == StateWord::Running {
                running.push((run.into_record(job_id(index)), RestoredProcess::Gone));
            } else if run.forced || run.attempt != Attempt::default() {
                // Those have had their turn; the limit of MAX_IN_MEMORY is for runs that wait for theirs.
                jobs[index].pending.push(run.into_record(job_id(index)));
            } else if waiting[index] < MAX_IN_MEMORY {
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

/// The row of each job: its current one if that is among `rows`, else a new one, or the reset row of an earlier job with its
/// name.
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
            SET timing = excluded.timing, paused = 0, cursor = NULL, made_up = NULL, anchor_wall = NULL, anchor_elapsed = NULL, anchor_boot = NULL
         RETURNING id",
    )?;
    let mut delete = tx.prepare("DELETE FROM credits WHERE job = ?1 OR upstream = ?1")?;
    keys.iter()
        .map(|key| match known.get(&*key.name) {
            Some(row) => timed.execute([*row, key.timing]).map(|_| *row),
            None => {
                let row: i64 = add.query_row(params![&*key.name, key.timing], |row| row.get(0))?;
                delete.execute([row])?;
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
