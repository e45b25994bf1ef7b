//! A check of the state, on demand: SQLite's integrity check, and the invariants of the content.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::error::StoreError;
use super::{DATABASE, VERSION, open_read_only};

/// Faults reported at most: a damaged file has thousands.
const MAX_FAULTS: usize = 20;

/// The invariants of the content: a query that finds a violation, and the message behind its name.
const INVARIANTS: [(&str, &str); 8] = [
    ("SELECT 'run ' || id FROM runs WHERE job NOT IN (SELECT id FROM jobs)", "belongs to a job that is not known"),
    (
        "SELECT 'run ' || id || ', state `' || state || '`' FROM runs WHERE state NOT IN \
         ('pending', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'lost')",
        "has an unknown state",
    ),
    (
        "SELECT 'run ' || id FROM runs WHERE (ended_at IS NULL) <> (state IN ('pending', 'running'))",
        "has ended without a time, or has an end time and has not ended",
    ),
    ("SELECT 'an attempt of run ' || run FROM attempts WHERE run NOT IN (SELECT id FROM runs)", "belongs to no run"),
    (
        "SELECT 'job ' || name FROM jobs WHERE ended <> \
         (SELECT count(*) FROM runs WHERE job = jobs.id AND state NOT IN ('pending', 'running'))",
        "has a wrong count of ended runs",
    ),
    (
        "SELECT 'job ' || name FROM jobs WHERE missed <> (SELECT count(*) FROM missed WHERE job = jobs.id)",
        "has a wrong count of missed deadlines",
    ),
    (
        "SELECT 'run ' || id FROM runs LEFT JOIN blocks ON first = id - id % 1024 WHERE earliest IS NULL OR earliest > scheduled_at",
        "has a block that starts later than its scheduled time",
    ),
    (
        "SELECT 'the seen log of job ' || job || ', row ' || seq FROM seen_log WHERE length(records) % 24 <> 0",
        "has a length that is not a multiple of a record",
    ),
];

/// Checks the state in `dir`, read-only, also while a daemon runs. Returns the faults; `None` if there is no state.
///
/// # Errors
/// When it can't be read at all, or has the schema of another version of firelink.
pub fn inspect(dir: &Path) -> Result<Option<Vec<String>>, StoreError> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Ok(None);
    }
    let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
    let conn = open_read_only(&path).map_err(wrap)?;
    match conn.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map_err(wrap)? {
        VERSION => {}
        version if version > VERSION => return Err(StoreError::Newer { path, version }),
        version => {
            let message = format!("it has schema version {version}, which the next start of a daemon migrates to {VERSION}");
            return Err(StoreError::Failed { action: format!("inspect {}", path.display()), message });
        }
    }
    // One transaction: writes of a daemon between two queries would look like faults.
    let found = conn.unchecked_transaction().and_then(|tx| faults(&tx)).map_err(wrap);
    match found {
        // Too damaged for the other checks.
        Err(StoreError::Damaged { message }) => Ok(Some(vec![message])),
        found => found.map(Some),
    }
}

fn faults(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut faults: Vec<String> = Vec::new();
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({MAX_FAULTS})"))?;
    let rows = check.query_map([], |row| row.get::<_, String>(0))?;
    for row in rows {
        match row {
            Ok(text) if text == "ok" => {}
            Ok(text) => faults.push(text),
            // A fault may end the check with an error: the faults found so far are reported.
            Err(_) if !faults.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    if !faults.is_empty() {
        return Ok(faults);
    }
    for (query, message) in INVARIANTS {
        if let Some(found) = conn.prepare(query)?.query_row([], |row| row.get::<_, String>(0)).optional()? {
            faults.push(format!("{found} {message}"));
        }
    }
    Ok(faults)
}
