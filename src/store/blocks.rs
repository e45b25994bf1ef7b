//! Blocks of run ids with the earliest scheduled time in each, so that a query for old runs need not read all newer ones.
//!
//! Runs are ordered by id, and there is no index on time: it would cost each run more writes than its row. Ids and times
//! mostly increase together, but not where a clock was set back or missed deadlines were caught up, so a bound on ids would be
//! wrong. A query skips the blocks whose earliest time is not before its end, and reads all others. A block's row is written
//! with its first run, and again for a run with an earlier time.

use rusqlite::{Connection, OptionalExtension as _};

/// Ids in a block.
const BLOCK: i64 = 1_024;

/// `first` is the block's smallest id, whether there is such a run or not.
pub(super) const TABLE: &str = "CREATE TABLE blocks (first INTEGER PRIMARY KEY, earliest INTEGER NOT NULL);";

fn first_of(run: i64) -> i64 {
    run - run.rem_euclid(BLOCK)
}

/// Adds a new run.
pub(super) fn add(tx: &Connection, run: i64, due: i64) -> rusqlite::Result<()> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO blocks VALUES (?1, ?2)
         ON CONFLICT (first) DO UPDATE SET earliest = excluded.earliest WHERE excluded.earliest < earliest",
    )?;
    upsert.execute([first_of(run), due]).map(drop)
}

/// Deletes the blocks of these deleted runs that have no run left.
pub(super) fn delete_empty(tx: &Connection, runs: &[i64]) -> rusqlite::Result<()> {
    let mut firsts: Vec<i64> = runs.iter().copied().map(first_of).collect();
    firsts.dedup();
    for first in firsts {
        tx.prepare_cached("DELETE FROM blocks WHERE first = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE id BETWEEN ?1 AND ?2)")?
            .execute([first, first + BLOCK - 1])?;
    }
    Ok(())
}

/// Adds all runs, for a migration. Block by block, because a `GROUP BY` would sort all runs in memory.
pub(super) fn fill(tx: &Connection) -> rusqlite::Result<()> {
    let mut next = tx.prepare("SELECT id FROM runs WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    let mut put = tx.prepare("INSERT INTO blocks SELECT ?1, min(scheduled_at) FROM runs WHERE id BETWEEN ?1 AND ?2")?;
    let mut from = i64::MIN;
    while let Some(run) = next.query_row([from], |row| row.get(0)).optional()? {
        let first = first_of(run);
        put.execute([first, first + BLOCK - 1])?;
        from = first + BLOCK;
    }
    Ok(())
}

/// The `FROM` clause and the condition for runs that were scheduled before an instant. `None` if the database is of a version
/// without blocks.
pub(super) fn before(conn: &Connection) -> rusqlite::Result<Option<(String, &'static str)>> {
    let known: bool =
        conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'blocks')", [], |row| row.get(0))?;
    // SQLite does not reorder a CROSS JOIN (<https://www.sqlite.org/optoverview.html#manual_control_of_query_plans_using_cross_join>).
    let from = || format!("blocks CROSS JOIN runs ON id BETWEEN first AND first + {}", BLOCK - 1);
    Ok(known.then(|| (from(), "earliest < ?")))
}
