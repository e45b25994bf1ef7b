//! The database's schema, its migrations, and opening it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::blocks;
use super::error::StoreError;
use super::seen;
use super::{DATABASE, Durability, JOURNAL, VERSION, dir};
use crate::files::Dir;
use crate::model::{ObjectKey, ObjectVersion, SeenObject};

/// A kilobyte: the WAL has whole pages, so a small change is a small write only with small pages.
const PAGE_SIZE: u32 = 1024;

/// SQLite's page cache, in KiB.
const CACHE_KIB: i64 = 256;

/// Pages in the WAL from which on SQLite makes a checkpoint within a commit, for a loop that is never idle.
const AUTOCHECKPOINT_PAGES: u32 = 4_000;

/// How long a reader's lock may delay a write or a checkpoint.
const BUSY: Duration = Duration::from_millis(200);

/// Instants are nanoseconds since the epoch; states and triggers are the words of [`StateWord`](crate::model::StateWord) and
/// [`TriggerWord`](crate::model::TriggerWord); `not_before` is set on a pending run that waits for a retry. `jobs.ended` and
/// `jobs.missed` count a job's ended runs and missed deadlines, so that pruning need not count rows. `runs_by_job` is for
/// `history --job` and pruning.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, cursor INTEGER, timing INTEGER,
    anchor_wall INTEGER, anchor_elapsed INTEGER, anchor_boot TEXT,
    paused INTEGER NOT NULL DEFAULT 0, last_run INTEGER, watch TEXT, baseline INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0, made_up TEXT, missed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, job INTEGER NOT NULL, state TEXT NOT NULL, trigger TEXT NOT NULL, forced INTEGER NOT NULL,
    scheduled_at INTEGER NOT NULL, attempt INTEGER NOT NULL, started_at INTEGER, attempt_at INTEGER, ended_at INTEGER,
    not_before INTEGER, pid INTEGER, pid_start INTEGER, exit_code INTEGER, signal INTEGER, reason TEXT, event TEXT
);
CREATE INDEX runs_by_job ON runs (job, id);
CREATE TABLE attempts (
    run INTEGER NOT NULL, attempt INTEGER NOT NULL, started_at INTEGER, ended_at INTEGER NOT NULL,
    exit_code INTEGER, signal INTEGER, reason TEXT NOT NULL, PRIMARY KEY (run, attempt)
) WITHOUT ROWID;
CREATE TABLE missed (id INTEGER PRIMARY KEY, job INTEGER NOT NULL, at INTEGER NOT NULL, after_run INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE credits (job INTEGER NOT NULL, upstream INTEGER NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (job, upstream)) WITHOUT ROWID;
";

/// For `history --state failed` among a million that succeeded. A run that succeeds never changes it. Not `NOT IN`, for which
/// SQLite builds a table of the three words each time a run is written.
const TROUBLED: &str = "DROP INDEX IF EXISTS runs_troubled;
CREATE INDEX runs_troubled ON runs (id) WHERE state <> 'pending' AND state <> 'running' AND state <> 'succeeded';";

/// As `runs_by_job`, for missed deadlines.
const MISSED_BY_JOB: &str = "CREATE INDEX missed_by_job ON missed (job, id);";

const SEEN_LOG: &str = "CREATE TABLE seen_log (job INTEGER NOT NULL, seq INTEGER NOT NULL, records BLOB NOT NULL, PRIMARY KEY (job, seq)) WITHOUT ROWID;";

/// Migrates a database of version `from`.
fn migrate(conn: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if from < 2 {
        tx.execute_batch("ALTER TABLE jobs ADD COLUMN timing INTEGER")?;
    }
    if from < 3 {
        tx.execute_batch(SEEN_LOG)?;
        seen_into_log(&tx)?;
        tx.execute_batch("DROP TABLE seen")?;
    }
    if from < 4 {
        tx.execute_batch(
            "ALTER TABLE jobs ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
             UPDATE jobs SET ended = (SELECT count(*) FROM runs WHERE job = jobs.id AND state NOT IN ('pending', 'running'));",
        )?;
    }
    if from < 5 {
        tx.execute_batch("ALTER TABLE jobs ADD COLUMN made_up_from INTEGER; ALTER TABLE jobs ADD COLUMN made_up_to INTEGER;")?;
    }
    if from < 6 {
        tx.execute_batch(
            "ALTER TABLE jobs ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
             UPDATE jobs SET missed = (SELECT count(*) FROM missed WHERE job = jobs.id);",
        )?;
        tx.execute_batch(MISSED_BY_JOB)?;
        tx.execute_batch(TROUBLED)?;
    }
    if from < 7 {
        tx.execute_batch(blocks::TABLE)?;
        blocks::fill(&tx)?;
    }
    if from < 8 {
        tx.execute_batch(
            "ALTER TABLE jobs ADD COLUMN made_up TEXT;
             UPDATE jobs SET made_up = json_array(json_array(made_up_from, made_up_to)) WHERE made_up_from IS NOT NULL;
             ALTER TABLE jobs DROP COLUMN made_up_from; ALTER TABLE jobs DROP COLUMN made_up_to;",
        )?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

/// Up to version 2 each object seen had a row.
fn seen_into_log(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let jobs: Vec<i64> =
        tx.prepare("SELECT DISTINCT job FROM seen")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for job in jobs {
        let mut query = tx.prepare("SELECT key, version FROM seen WHERE job = ?1 ORDER BY key")?;
        let objects = query.query_map([job], |row| {
            let (key, version): ([u8; 16], i64) = (row.get(0)?, row.get(1)?);
            Ok(SeenObject { key: ObjectKey(u128::from_be_bytes(key)), version: ObjectVersion(version.cast_unsigned()) })
        })?;
        seen::append_all(tx, job, &objects.collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(())
}

/// Sets which transactions are fsynced.
pub(super) fn set_durability(conn: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Normal => "NORMAL",
        Durability::Full => "FULL",
    };
    conn.pragma_update(None, "synchronous", synchronous)
}

/// The error for a database that can't be opened.
pub(super) fn not_opened(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed { action: opening(path), message: error.to_string() }
}

fn opening(path: &Path) -> String {
    format!("open the state database {}", path.display())
}

/// Opens or creates the database.
pub(super) fn open(dir: &Dir, durability: Durability) -> Result<Connection, StoreError> {
    let path = &dir.path().join(DATABASE);
    let wrap = |error: rusqlite::Error| StoreError::from_sqlite(opening(path), &error);
    let failed = |error: io::Error| not_opened(path, &error);
    if dir.stat_of(DATABASE).map_err(failed)?.is_none() {
        // SQLite would make it with mode 0644; its other files get the mode of this one.
        dir.open_file(DATABASE, OFlag::O_WRONLY | OFlag::O_CREAT).map_err(failed)?;
    }
    let mut conn = Connection::open(path).map_err(wrap)?;
    if !dir::is_at_its_path(dir).map_err(failed)? {
        return Err(failed(io::Error::other("the state directory was replaced by another one meanwhile")));
    }
    conn.busy_timeout(BUSY).map_err(wrap)?;
    conn.set_prepared_statement_cache_capacity(32);
    // The page size only takes effect while the file is empty.
    conn.pragma_update(None, "page_size", PAGE_SIZE).map_err(wrap)?;
    conn.pragma_update(None, "journal_mode", "WAL").map_err(wrap)?;
    set_durability(&conn, durability).map_err(wrap)?;
    conn.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES).map_err(wrap)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB).map_err(wrap)?;
    conn.pragma_update(None, "temp_store", "MEMORY").map_err(wrap)?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
    match version {
        VERSION => {}
        0 => {
            let tables = [TABLES, TROUBLED, MISSED_BY_JOB, SEEN_LOG, blocks::TABLE].concat();
            let create = format!("BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION}; COMMIT;");
            conn.execute_batch(&create).map_err(wrap)?;
        }
        1..VERSION => migrate(&mut conn, version).map_err(wrap)?,
        newer => return Err(StoreError::Newer { path: path.into(), version: newer }),
    }
    Ok(conn)
}

/// Renames a damaged database, its WAL and the journal; returns the database's new name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%SZ");
    let aside = with_suffix(path, &format!(".damaged-{stamp}"));
    std::fs::rename(path, &aside).map_err(|error| StoreError::Failed {
        action: format!("set the damaged database {} aside", path.display()),
        message: error.to_string(),
    })?;
    for suffix in ["-wal", "-shm"] {
        // They may be absent. A file that can't be renamed is removed: a stale WAL would damage the new database.
        let from = with_suffix(path, suffix);
        if std::fs::rename(&from, with_suffix(&aside, suffix)).is_err() {
            let _ = std::fs::remove_file(&from);
        }
    }
    // Not with the suffix `-journal`, which SQLite would take for its own rollback journal.
    let journal = path.with_file_name(JOURNAL);
    if std::fs::rename(&journal, with_suffix(&aside, ".turns")).is_err() {
        let _ = std::fs::remove_file(&journal);
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
