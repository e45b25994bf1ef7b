//! The seen log: the objects that a watch has seen, as an append-only log of fixed-size records.
//!
//! Keys are hashes, so in a table ordered by key each page of a listing would touch as many pages of the file as it has
//! keys: a first scan of a million keys would write gigabytes to a card that wears. In a log each batch is one row, of 24
//! bytes a record. The last record of a key counts; `compact.rs` drops the others.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use rusqlite::{Connection, params};

use super::Store;
use super::error::StoreError;
use crate::model::JobId;
use crate::model::{Batch, ObjectKey, ObjectVersion, SeenObject, SeenSnapshot};

/// A key of 16 bytes and a version of 8, both big-endian.
const RECORD: usize = 24;

/// The version of a tombstone: the object is gone. A real version never has its highest bit set.
pub(super) const GONE: u64 = u64::MAX;

/// Records in a row of a compacted log.
pub(super) const ROW: usize = 1_024;

/// A log is compacted once it has grown by an eighth and this many records since the last time.
const SLACK: usize = 8_192;

/// The lengths of the logs, by the job's row.
pub(super) type Lengths = HashMap<i64, Length>;

/// The number of records in a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    pub now: usize,
    /// After the last compaction.
    pub compacted: usize,
    /// The first scan is not complete: each record has a new key, except where the scan failed and was restarted.
    first_scan: bool,
}

impl Length {
    /// Whether it has grown by `times` times the slack that makes a compaction worthwhile.
    pub fn is_overgrown(&self, times: usize) -> bool {
        let share = if self.first_scan { self.compacted } else { self.compacted / 8 };
        self.now > self.compacted + times * (share + SLACK)
    }
}

impl Store {
    /// Loads the seen-set of a job's watch. If `identity` is not the stored one, the job watches something else now, and the
    /// old log is deleted.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn load_seen(&mut self, job: JobId, identity: &str) -> Result<SeenSnapshot, StoreError> {
        let row = self.row_of(job);
        let path = self.path.clone();
        let wrap = |error: rusqlite::Error| StoreError::from_sqlite(format!("read {}", path.display()), &error);
        let known: (Option<String>, bool) = self
            .conn
            .query_row("SELECT watch, baseline FROM jobs WHERE id = ?1", [row], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(wrap)?;
        self.seen_lengths.remove(&row);
        self.compaction.take_if(|compaction| compaction.job == row);
        if known.0.as_deref() != Some(identity) {
            let tx = self.conn.transaction().map_err(wrap)?;
            tx.execute("DELETE FROM seen_log WHERE job = ?1", [row]).map_err(wrap)?;
            tx.execute("UPDATE jobs SET watch = ?2, baseline = 0 WHERE id = ?1", params![row, identity]).map_err(wrap)?;
            tx.commit().map_err(wrap)?;
            return Ok(SeenSnapshot::default());
        }
        let (objects, now) = load(&self.conn, row).map_err(wrap)?;
        self.seen_lengths.insert(row, Length { now, compacted: objects.len(), first_scan: !known.1 });
        Ok(SeenSnapshot { baseline_done: known.1, objects })
    }
}

/// Loads a log; returns its objects, ordered by key, and its number of records.
fn load(conn: &Connection, job: i64) -> rusqlite::Result<(Vec<SeenObject>, usize)> {
    let bytes: i64 =
        conn.query_row("SELECT coalesce(sum(length(records)), 0) FROM seen_log WHERE job = ?1", [job], |r| r.get(0))?;
    // Counted first: a vector that doubles as it grows needs up to three times the memory for a moment.
    let mut objects: Vec<SeenObject> = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) / RECORD);
    each_record(conn, job, |object| objects.push(object))?;
    let count = objects.len();
    objects.sort_unstable_by_key(|object| object.key.0);
    // The unstable sort loses which record of a key is the last one; a second pass over the log finds it for these keys.
    let duplicate = |pair: &[SeenObject]| ({ pair[0].key.0 } == { pair[1].key.0 }).then_some(pair[0].key.0);
    let mut latest: HashMap<u128, u64> = objects.windows(2).filter_map(duplicate).map(|key| (key, GONE)).collect();
    if !latest.is_empty() {
        each_record(conn, job, |object| {
            if let Some(version) = latest.get_mut(&{ object.key.0 }) {
                *version = object.version.0;
            }
        })?;
        objects.dedup_by_key(|object| object.key.0);
        for object in &mut objects {
            if let Some(version) = latest.get(&{ object.key.0 }) {
                object.version = ObjectVersion(*version);
            }
        }
    }
    objects.retain(|object| { object.version.0 } != GONE);
    Ok((objects, count))
}

fn each_record(conn: &Connection, job: i64, mut take: impl FnMut(SeenObject)) -> rusqlite::Result<()> {
    each_row(conn, job, i64::MIN..=i64::MAX, usize::MAX, |_, records| records.for_each(&mut take))
}

/// Calls `take` with each row of the range, in order, until there were `enough` records.
pub(super) fn each_row(
    conn: &Connection,
    job: i64,
    seqs: RangeInclusive<i64>,
    enough: usize,
    mut take: impl FnMut(i64, &mut dyn Iterator<Item = SeenObject>),
) -> rusqlite::Result<()> {
    let mut query =
        conn.prepare_cached("SELECT seq, records FROM seen_log WHERE job = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq")?;
    let mut rows = query.query([job, *seqs.start(), *seqs.end()])?;
    let mut count = 0;
    while count < enough
        && let Some(row) = rows.next()?
    {
        let records = row.get_ref(1)?.as_blob()?;
        let (records, rest) = records.as_chunks::<RECORD>();
        if !rest.is_empty() {
            let message = "the length of a row of the seen log is not a multiple of a record's";
            return Err(rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, message.into()));
        }
        count += records.len();
        take(row.get(0)?, &mut records.iter().map(read));
    }
    Ok(())
}

fn read(record: &[u8; RECORD]) -> SeenObject {
    let (mut key, mut version) = ([0; 16], [0; 8]);
    key.copy_from_slice(&record[..16]);
    version.copy_from_slice(&record[16..]);
    SeenObject { key: ObjectKey(u128::from_be_bytes(key)), version: ObjectVersion(u64::from_be_bytes(version)) }
}

/// Appends a batch's objects to the log.
pub(super) fn write(tx: &Connection, job: i64, batch: &Batch) -> rusqlite::Result<()> {
    let gone = batch.gone.iter().map(|key| SeenObject { key: *key, version: ObjectVersion(GONE) });
    let records: Vec<SeenObject> = batch.seen.iter().copied().chain(gone).collect();
    if !records.is_empty() {
        append(tx, job, &records)?;
    }
    if batch.baseline_done {
        tx.prepare_cached("UPDATE jobs SET baseline = 1 WHERE id = ?1")?.execute([job])?;
    }
    Ok(())
}

/// Adds a batch that was committed to the log's length.
pub(super) fn add_length(lengths: &mut Lengths, job: i64, batch: &Batch) {
    let length = lengths.entry(job).or_insert(Length { now: 0, compacted: 0, first_scan: true });
    length.now += batch.seen.len() + batch.gone.len();
    if batch.baseline_done {
        (length.compacted, length.first_scan) = (length.now, false);
    }
}

/// Appends to a log in rows of a bounded size.
pub(super) fn append_all(tx: &Connection, job: i64, records: &[SeenObject]) -> rusqlite::Result<()> {
    records.chunks(ROW).try_for_each(|records| append(tx, job, records))
}

fn append(tx: &Connection, job: i64, records: &[SeenObject]) -> rusqlite::Result<()> {
    let mut put = tx.prepare_cached(
        "INSERT INTO seen_log VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM seen_log WHERE job = ?1), ?2)",
    )?;
    put.execute(params![job, bytes_of(records)]).map(drop)
}

pub(super) fn bytes_of(records: &[SeenObject]) -> Vec<u8> {
    let bytes = |object: &SeenObject| { object.key.0 }.to_be_bytes().into_iter().chain({ object.version.0 }.to_be_bytes());
    records.iter().flat_map(bytes).collect()
}
