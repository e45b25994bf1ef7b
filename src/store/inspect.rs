//! Whether a state is sound, on demand: what SQLite can tell of the file, and what must hold of its content.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::error::StoreError;
use super::{DATABASE, VERSION, open_read_only};

/// Faults told at most: a broken file has thousands.
const TOLD: usize = 20;

/// What must hold of the content, as a query that finds an instance of what must not, and the words for it.
const LAWS: [(&str, &str); 8] = [
    ("SELECT 'run ' || id FROM runs WHERE job NOT IN (SELECT id FROM jobs)", "belongs to a job that is not known"),
    (
        "SELECT 'run ' || id || ', state `' || state || '`' FROM runs WHERE state NOT IN \
         ('pending', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'lost')",
        "has a state that is none",
    ),
    (
        "SELECT 'run ' || id FROM runs WHERE (ended_at IS NULL) <> (state IN ('pending', 'running'))",
        "has an end without an instant, or an instant without an end",
    ),
    ("SELECT 'an attempt of run ' || run FROM attempts WHERE run NOT IN (SELECT id FROM runs)", "belongs to no run"),
    (
        "SELECT 'job ' || name FROM jobs WHERE ended <> \
         (SELECT count(*) FROM runs WHERE job = jobs.id AND state NOT IN ('pending', 'running'))",
        "has another number of ended runs than is counted",
    ),
    (
        "SELECT 'job ' || name FROM jobs WHERE missed <> (SELECT count(*) FROM missed WHERE job = jobs.id)",
        "has another number of missed deadlines than is counted",
    ),
    (
        "SELECT 'run ' || id FROM runs LEFT JOIN blocks ON first = id - id % 1024 WHERE earliest IS NULL OR earliest > scheduled_at",
        "is not found by when it was due",
    ),
    (
        "SELECT 'what job ' || job || ' has seen, part ' || seq FROM seen_log WHERE length(records) % 24 <> 0",
        "is no whole number of records",
    ),
];

/// Looks at the state in `dir`, without changing anything, also while a daemon runs. Answers with what is wrong, nothing
/// if all is well; `None` if there is no state.
///
/// # Errors
/// When it can't be read at all, or is of another version of firelink.
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
            let said = format!("it is of version {version}, which the next start of a daemon brings to {VERSION}");
            return Err(StoreError::Refused { tried: format!("inspect {}", path.display()), said });
        }
    }
    // One transaction: a daemon that writes meanwhile must not look like a fault.
    let found = conn.unchecked_transaction().and_then(|tx| faults(&tx)).map_err(wrap);
    match found {
        // Too broken to be looked at any further.
        Err(StoreError::Damaged { said }) => Ok(Some(vec![said])),
        found => found.map(Some),
    }
}

fn faults(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut said: Vec<String> = Vec::new();
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let rows = check.query_map([], |row| row.get::<_, String>(0))?;
    for row in rows {
        match row {
            Ok(text) if text == "ok" => {}
            Ok(text) => said.push(text),
            // A fault of the file may stop the search for others: it is then the last thing told.
            Err(_) if !said.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    if !said.is_empty() {
        return Ok(said);
    }
    for (query, words) in LAWS {
        if let Some(found) = conn.prepare(query)?.query_row([], |row| row.get::<_, String>(0)).optional()? {
            said.push(format!("{found} {words}"));
        }
    }
    Ok(said)
}
