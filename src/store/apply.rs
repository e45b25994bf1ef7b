//! Applying entries to the database, within a transaction.

use rusqlite::{Connection, params};

use super::blocks;
use super::entry::Entry;
use super::row::{StoredRun, integer};
use crate::model::{Exit, WallTime};

/// Runs `work` in a transaction. By cached statements, unlike rusqlite's own transactions, because this is done each turn.
pub(super) fn in_transaction(conn: &Connection, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let run = |sql: &str| conn.prepare_cached(sql)?.execute([]).map(drop);
    if !conn.is_autocommit() {
        // A transaction that could not be rolled back when it failed.
        run("ROLLBACK")?;
    }
    run("BEGIN IMMEDIATE")?;
    let done = work(conn).and_then(|()| run("COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        // SQLite rolls back by itself after some errors.
        let _ = run("ROLLBACK");
    }
    done
}

/// Stores the number below which no run is active.
pub(super) fn move_bound(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO meta (key, value)
         SELECT 'active_from', coalesce(
             (SELECT min(id) FROM runs WHERE id >= coalesce((SELECT value FROM meta WHERE key = 'active_from'), 0)
                AND state IN ('pending', 'running')),
             (SELECT max(id) FROM runs), 0)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [],
    )?;
    Ok(())
}

/// Updates a run.
const UPDATE_RUN: &str =
    "UPDATE runs SET state = ?2, attempt = ?3, started_at = ?4, attempt_at = coalesce(?5, attempt_at), ended_at = ?6,
        not_before = ?7, pid = ?8, pid_start = ?9, exit_code = ?10, signal = ?11, reason = ?12 WHERE id = ?1";

/// Updates a run that had not ended.
const END_RUN: &str =
    "UPDATE runs SET state = ?2, attempt = ?3, started_at = ?4, attempt_at = coalesce(?5, attempt_at), ended_at = ?6,
        not_before = ?7, pid = ?8, pid_start = ?9, exit_code = ?10, signal = ?11, reason = ?12
        WHERE id = ?1 AND state IN ('pending', 'running')";

/// Applies one entry; the caller holds the transaction.
pub(super) fn apply(tx: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Run { new, row } => put_run(tx, *new, row),
        Entry::AttemptFailed { run, attempt, started_at, ended_at, exit, reason } => {
            let (code, signal) = split(*exit);
            tx.prepare_cached("INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                integer(run.0),
                attempt.0,
                started_at.map(WallTime::as_nanos),
                ended_at.as_nanos(),
                code,
                signal,
                reason
            ])?;
            Ok(())
        }
        Entry::Missed { job, at, reason } => {
            tx.prepare_cached(
                "INSERT INTO missed (job, at, after_run, reason) VALUES (?1, ?2, coalesce((SELECT max(id) FROM runs), 0), ?3)",
            )?
            .execute(params![job, at.as_nanos(), reason])?;
            tx.prepare_cached("UPDATE jobs SET missed = missed + 1 WHERE id = ?1")?.execute([job])?;
            Ok(())
        }
        Entry::CaughtUp { job, ranges } => {
            tx.prepare_cached("UPDATE jobs SET made_up = ?2 WHERE id = ?1")?.execute(params![job, spans_text(ranges)])?;
            Ok(())
        }
        Entry::Cursor { job, at } => {
            tx.prepare_cached("UPDATE jobs SET cursor = ?2 WHERE id = ?1")?.execute(params![job, at.as_nanos()])?;
            Ok(())
        }
        Entry::Anchor { job, wall, elapsed, boot } => {
            tx.prepare_cached("UPDATE jobs SET anchor_wall = ?2, anchor_elapsed = ?3, anchor_boot = ?4 WHERE id = ?1")?
                .execute(params![job, wall.as_nanos(), integer(elapsed.as_nanos()), boot])?;
            Ok(())
        }
        Entry::Credit { job, upstream, outcome: Some(outcome) } => {
            tx.prepare_cached("INSERT OR REPLACE INTO credits VALUES (?1, ?2, ?3)")?.execute(params![
                job,
                upstream,
                outcome.as_str()
            ])?;
            Ok(())
        }
        Entry::Credit { job, upstream, outcome: None } => {
            tx.prepare_cached("DELETE FROM credits WHERE job = ?1 AND upstream = ?2")?.execute(params![job, upstream])?;
            Ok(())
        }
        Entry::SkipStored { job, from, at, reason } => {
            let mut skip = tx.prepare_cached(
                "UPDATE runs SET state = 'skipped', ended_at = ?3, reason = ?4
                  WHERE job = ?1 AND id >= ?2 AND state = 'pending' AND forced = 0 AND attempt = 0",
            )?;
            let count = skip.execute(params![job, integer(from.0), at.as_nanos(), reason])?;
            let mut ended = tx.prepare_cached("UPDATE jobs SET ended = ended + ?2 WHERE id = ?1")?;
            ended.execute(params![job, i64::try_from(count).unwrap_or(i64::MAX)]).map(drop)
        }
        Entry::Paused { job, paused } => {
            tx.prepare_cached("UPDATE jobs SET paused = ?2 WHERE id = ?1")?.execute(params![job, paused])?;
            Ok(())
        }
        Entry::Timeline { closed, since } => {
            let spans = nanos_of(closed);
            let text = serde_json::json!({ "closed": spans, "since": since.as_nanos() }).to_string();
            tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('timeline', ?1)")?.execute([text])?;
            Ok(())
        }
    }
}

/// Spans of time as numbers.
fn nanos_of(spans: &[(WallTime, WallTime)]) -> Vec<(i64, i64)> {
    spans.iter().map(|(from, to)| (from.as_nanos(), to.as_nanos())).collect()
}

/// Spans of time as the text of a column; [`read_spans`] reads it.
pub(super) fn spans_text(spans: &[(WallTime, WallTime)]) -> String {
    serde_json::json!(nanos_of(spans)).to_string()
}

/// Reads a text of [`spans_text`]; no spans if it is another text.
pub(super) fn read_spans(text: &str) -> Vec<(WallTime, WallTime)> {
    let spans: Vec<(i64, i64)> = serde_json::from_str(text).unwrap_or_default();
    spans.into_iter().map(|(from, to)| (WallTime::from_nanos(from), WallTime::from_nanos(to))).collect()
}

fn put_run(tx: &Connection, new: bool, row: &StoredRun) -> rusqlite::Result<()> {
    let job = row.job_row;
    let nanos = |at: Option<WallTime>| at.map(WallTime::as_nanos);
    let (code, signal) = split(row.exit);
    let (pid, start) = row.pid.map_or((None, None), |pid| (Some(pid.pid), Some(integer(pid.start_ticks))));
    let id = integer(row.id.0);
    let update = |only_if_alive: bool| -> rusqlite::Result<bool> {
        let mut update = tx.prepare_cached(if only_if_alive { END_RUN } else { UPDATE_RUN })?;
        let updated = update.execute(params![
            id,
            row.state.as_str(),
            row.attempt.0,
            nanos(row.started_at),
            nanos(row.attempt_at),
            nanos(row.ended_at),
            nanos(row.not_before),
            pid,
            start,
            code,
            signal,
            row.reason
        ])?;
        Ok(updated > 0)
    };
    let mut known = false;
    // A record may come twice, but a run's end is counted once: when it ends an active row, or inserts one.
    let mut ends = row.state.is_end() && !new && update(true)?;
    if ends {
        known = true;
    } else if !new {
        known = update(false)?;
        ends = row.state.is_end() && !known;
    } else if row.state.is_end() {
        ends = !tx.prepare_cached("SELECT 1 FROM runs WHERE id = ?1 AND state NOT IN ('pending', 'running')")?.exists([id])?;
    }
    if ends {
        tx.prepare_cached("UPDATE jobs SET ended = ended + 1 WHERE id = ?1")?.execute([job])?;
    }
    // An update finds no row if the insertion was dropped from a full backlog; the record has all columns.
    if !known {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            id,
            job,
            row.state.as_str(),
            row.trigger.as_str(),
            row.forced,
            row.scheduled_at.as_nanos(),
            row.attempt.0,
            nanos(row.started_at),
            nanos(row.attempt_at),
            nanos(row.ended_at),
            nanos(row.not_before),
            pid,
            start,
            code,
            signal,
            row.reason,
            row.event.as_deref()
        ])?;
    }
    if !known {
        blocks::add(tx, id, row.scheduled_at.as_nanos())?;
        tx.prepare_cached("UPDATE jobs SET last_run = ?2 WHERE id = ?1 AND (last_run IS NULL OR last_run < ?2)")?
            .execute(params![job, id])?;
    }
    Ok(())
}

fn split(exit: Option<Exit>) -> (Option<i32>, Option<i32>) {
    match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}
