//! What each watch has seen.

use rusqlite::{Transaction, params};

use super::Store;
use super::schema::StoreError;
use crate::model::JobId;
use crate::triggers::{Batch, ObjectKey, ObjectVersion, SeenObject, SeenSnapshot};

impl Store {
    /// What is known of a job's watch. When `identity` is not the one stored, the watch is another one: what the old
    /// one saw is forgotten.
    ///
    /// # Errors
    /// What the disk or SQLite said.
    pub fn load_seen(&mut self, job: JobId, identity: &str) -> Result<SeenSnapshot, StoreError> {
        let row = self.row_of(job);
        let path = self.path.clone();
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
        let known: (Option<String>, bool) = self
            .conn
            .query_row("SELECT watch, baseline FROM jobs WHERE id = ?1", [row], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(wrap)?;
        if known.0.as_deref() != Some(identity) {
            let tx = self.conn.transaction().map_err(wrap)?;
            tx.execute("DELETE FROM seen WHERE job = ?1", [row]).map_err(wrap)?;
            tx.execute("UPDATE jobs SET watch = ?2, baseline = 0 WHERE id = ?1", params![row, identity]).map_err(wrap)?;
            tx.commit().map_err(wrap)?;
            return Ok(SeenSnapshot::default());
        }
        // Counted first: an array that doubles as it grows needs up to three times the room, for a moment.
        let count: i64 =
            self.conn.query_row("SELECT count(*) FROM seen WHERE job = ?1", [row], |row| row.get(0)).map_err(wrap)?;
        let mut objects = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        // In the order of the key: the table is clustered by it, and big-endian bytes sort as the number does.
        let mut query = self.conn.prepare("SELECT key, version FROM seen WHERE job = ?1 ORDER BY key").map_err(wrap)?;
        let found = query.query_map([row], |row| {
            let key: [u8; 16] = row.get(0)?;
            let version: i64 = row.get(1)?;
            Ok(SeenObject { key: ObjectKey(u128::from_be_bytes(key)), version: ObjectVersion(version.cast_unsigned()) })
        });
        for object in found.map_err(wrap)? {
            objects.push(object.map_err(wrap)?);
        }
        Ok(SeenSnapshot { baseline_done: known.1, objects })
    }
}

/// Writes what a batch says of the seen-set.
pub(super) fn write(tx: &Transaction<'_>, job: i64, batch: &Batch) -> rusqlite::Result<()> {
    let mut put = tx.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3)")?;
    for object in &batch.seen {
        put.execute(params![job, object.key.0.to_be_bytes(), object.version.0.cast_signed()])?;
    }
    let mut forget = tx.prepare_cached("DELETE FROM seen WHERE job = ?1 AND key = ?2")?;
    for key in &batch.gone {
        forget.execute(params![job, key.0.to_be_bytes()])?;
    }
    if batch.baseline_done {
        tx.prepare_cached("UPDATE jobs SET baseline = 1 WHERE id = ?1")?.execute([job])?;
    }
    Ok(())
}
