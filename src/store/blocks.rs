//! When the runs of each thousand numbers were due at the earliest, so that a search for old runs need not look at all newer
//! ones.
//!
//! Runs are ordered by their numbers, and there is no index on time: it would cost each run more writes than its row. Numbers
//! and instants mostly go together, but not where a clock was set back or deadlines were made up for, so a bound on the
//! numbers would not do. A block that begins at or after the end of what is asked for is skipped, and any other is looked
//! through. A block's row is written with its first run, and again when one comes that was due earlier.

use rusqlite::{Connection, OptionalExtension as _};

/// Numbers in a block.
const BLOCK: i64 = 1_024;

/// `first` is the block's smallest number, whether there is a run of it or not.
pub(super) const TABLE: &str = "CREATE TABLE blocks (first INTEGER PRIMARY KEY, earliest INTEGER NOT NULL);";

fn first_of(run: i64) -> i64 {
    run - run.rem_euclid(BLOCK)
}

/// Notes a run that is new.
pub(super) fn note(tx: &Connection, run: i64, due: i64) -> rusqlite::Result<()> {
    let mut note = tx.prepare_cached(
        "INSERT INTO blocks VALUES (?1, ?2)
         ON CONFLICT (first) DO UPDATE SET earliest = excluded.earliest WHERE excluded.earliest < earliest",
    )?;
    note.execute([first_of(run), due]).map(drop)
}

/// Forgets the blocks of these runs, which are gone, where nothing else is left in them.
pub(super) fn forget(tx: &Connection, runs: &[i64]) -> rusqlite::Result<()> {
    let mut firsts: Vec<i64> = runs.iter().copied().map(first_of).collect();
    firsts.dedup();
    for first in firsts {
        tx.prepare_cached("DELETE FROM blocks WHERE first = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE id BETWEEN ?1 AND ?2)")?
            .execute([first, first + BLOCK - 1])?;
    }
    Ok(())
}

/// Notes all runs of a state that knows no blocks yet; one after the other, because SQLite would sort them all in memory.
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

/// What to select from, and a condition, for runs that were due before an instant. A state that no daemon of this version has
/// opened yet has no blocks.
pub(super) fn before(conn: &Connection) -> rusqlite::Result<Option<(String, &'static str)>> {
    let known: bool =
        conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'blocks')", [], |row| row.get(0))?;
    // A CROSS JOIN keeps its order (<https://www.sqlite.org/optoverview.html#manual_control_of_query_plans_using_cross_join>).
    let from = || format!("blocks CROSS JOIN runs ON id BETWEEN first AND first + {}", BLOCK - 1);
    Ok(known.then(|| (from(), "earliest < ?")))
}
