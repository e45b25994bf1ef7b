//! Writing: the changes of a turn, or of several that were jotted down, in one transaction.

use rusqlite::{Connection, params};

use super::Durability;
use super::entry::{Entry, RowIds, coalesce};
use super::journal;
use super::row::{StoredRun, integer};
use super::schema::StoreError;
use super::{BACKLOG, Store, WatchRecord, blocks, seen};
use crate::engine::Change;
use crate::model::{Exit, WallTime};
use crate::planted::{self, Bug};

/// Runs between two moves of the bound below which no run is active, which is where a start begins to look.
const BOUND_EVERY: u32 = 256;

impl Store {
    /// Commits a turn's changes, and with them those that were jotted down or that the disk refused before, in one
    /// transaction.
    ///
    /// On an error nothing of it is in the database; the changes are kept in memory, up to a limit, and tried again
    /// with the next turn's, and [`Store::trouble`] tells until that works.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn commit(&mut self, changes: Vec<Change>, mut watches: Vec<WatchRecord>) -> Result<(), StoreError> {
        // Only one of the two has anything: while the disk refuses, nothing is jotted down.
        let mut entries = std::mem::take(&mut self.backlog);
        // Its memory goes, too: a busy minute is not for ever.
        entries.append(&mut std::mem::take(&mut self.jotted));
        entries.extend(changes.iter().map(|change| self.terms().entry(change)));
        if !self.watch_backlog.is_empty() {
            self.watch_backlog.append(&mut watches);
            watches = std::mem::take(&mut self.watch_backlog);
        }
        if entries.is_empty() && watches.is_empty() {
            return Ok(());
        }
        let mut entries = coalesce(entries);
        match self.write(&entries, &watches) {
            Ok(()) => {
                self.trouble = None;
                self.checkpoint_due = true;
                self.journal.folded();
                for watch in &watches {
                    let row = self.row_of(watch.job);
                    seen::note(&mut self.seen_lengths, row, &watch.batch);
                }
                // What no rest has come to.
                self.fold_seen(2);
                let runs = entries.iter().filter(|entry| matches!(entry, Entry::Run { new: true, .. })).count();
                self.since_bound = self.since_bound.saturating_add(u32::try_from(runs).unwrap_or(u32::MAX));
                if self.since_bound >= BOUND_EVERY {
                    self.since_bound = 0;
                    // Only a hint for the next start: a failure costs nothing but a longer look.
                    let _ = move_bound(&self.conn);
                }
                Ok(())
            }
            Err(error) => {
                let error = StoreError::from_sqlite(format!("write {}", self.path.display()), &error);
                let surplus = entries.len().saturating_sub(BACKLOG);
                entries.drain(..surplus);
                self.backlog = entries;
                self.watch_backlog = watches;
                self.trouble = Some(match surplus {
                    0 => format!("{error}; {} changes wait in memory", self.backlog.len()),
                    _ => format!("{error}; the oldest changes had to be dropped from memory"),
                });
                Err(error)
            }
        }
    }

    /// Makes a turn's changes safe from a crash of the daemon by a single write, and leaves the transaction for later:
    /// [`Store::catch_up`], the next [`Store::commit`], and each reading see to it. False if it has to be a commit: with
    /// [`Durability::Full`], while the disk refuses, and now and then.
    #[must_use]
    pub fn append(&mut self, changes: &[Change]) -> bool {
        let is_plain = |change: &Change| {
            // What else there is, is rare, and History::query would have to know it.
            matches!(
                change,
                Change::Run { .. }
                    | Change::AttemptFailed { .. }
                    | Change::Cursor { .. }
                    | Change::Anchor { .. }
                    | Change::Credit { .. }
            )
        };
        let is_calm = self.durability != Durability::Full && self.trouble.is_none() && self.backlog.is_empty();
        if !is_calm || !changes.iter().all(is_plain) || !self.journal.takes() {
            return false;
        }
        let entries: Vec<Entry> = changes.iter().map(|change| self.terms().entry(change)).collect();
        match self.journal.append(&entries) {
            Ok(()) => {
                self.jotted.extend(entries);
                true
            }
            Err(error) => {
                // The commit that follows meets the same disk, and tells.
                log::debug!("{}: {error}", self.path.with_file_name(journal::JOURNAL).display());
                false
            }
        }
    }

    /// Bytes that were jotted down and are not in the database yet.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal.size()
    }

    /// Brings what was jotted down into the database.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.jotted.is_empty() { Ok(()) } else { self.commit(Vec::new(), Vec::new()) }
    }

    /// For a reading, which goes on with what is there if the disk refuses: [`Store::trouble`] tells.
    pub(super) fn caught_up(&mut self) -> &Connection {
        let _ = self.catch_up();
        &self.conn
    }

    fn terms(&self) -> RowIds<'_> {
        RowIds { job_rows: &self.job_rows, boot: &self.boot_id }
    }

    fn write(&mut self, entries: &[Entry], watches: &[WatchRecord]) -> rusqlite::Result<()> {
        let mark = self.journal.mark(&self.conn)?;
        let terms = self.terms();
        in_transaction(&self.conn, |conn| {
            entries.iter().try_for_each(|entry| apply(conn, entry))?;
            for watch in watches.iter().filter(|_| !planted::is(Bug::SeenNotWritten)) {
                seen::write(conn, terms.row_of(watch.job), &watch.batch)?;
            }
            let mark = mark.filter(|_| self.journal.size() == 0 || !planted::is(Bug::MarkNotWritten));
            mark.map_or(Ok(()), |mark| journal::set_mark(conn, mark))
        })
    }
}

/// All of it or nothing. By statements that are kept, unlike rusqlite's own transactions: this is done each turn.
pub(super) fn in_transaction(conn: &Connection, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let say = |word: &str| conn.prepare_cached(word)?.execute([]).map(drop);
    if !conn.is_autocommit() {
        // One that could not be undone when it failed.
        say("ROLLBACK")?;
    }
    say("BEGIN IMMEDIATE")?;
    let done = work(conn).and_then(|()| say("COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        // SQLite may have done so itself.
        let _ = say("ROLLBACK");
    }
    done
}

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

/// A run as it stands now.
const UPDATE_RUN: &str =
    "UPDATE runs SET state = ?2, attempt = ?3, started_at = ?4, attempt_at = coalesce(?5, attempt_at), ended_at = ?6,
        not_before = ?7, pid = ?8, pid_start = ?9, exit_code = ?10, signal = ?11, reason = ?12 WHERE id = ?1";

/// The same, if it had not ended.
const END_RUN: &str =
    "UPDATE runs SET state = ?2, attempt = ?3, started_at = ?4, attempt_at = coalesce(?5, attempt_at), ended_at = ?6,
        not_before = ?7, pid = ?8, pid_start = ?9, exit_code = ?10, signal = ?11, reason = ?12
        WHERE id = ?1 AND state IN ('pending', 'running')";

/// One entry, within a transaction.
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
        Entry::Cursor { .. } if planted::is(Bug::CursorNotWritten) => Ok(()),
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
        Entry::Credit { outcome: None, .. } if planted::is(Bug::TakeInNotWritten) => Ok(()),
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

/// Spans of time in a column; [`read_spans`] reads them.
pub(super) fn spans_text(spans: &[(WallTime, WallTime)]) -> String {
    serde_json::json!(nanos_of(spans)).to_string()
}

/// What [`spans_text`] wrote; none if that is not what it is.
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
    // A record may come twice, but the run's end counts once: when it takes a row that was alive, or makes one.
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
    // An update finds no row if the run's beginning was dropped from a full backlog: all of it is in the record.
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
        blocks::note(tx, id, row.scheduled_at.as_nanos())?;
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
