//! Compaction of the seen logs: drops records that later ones supersede, in bounded steps.
//!
//! A compaction goes through the rows that the log has when it starts, oldest first, in segments of rows: it notes the last
//! record of each key in the segment, scans all rows behind the segment for later records of these keys, and then rewrites the
//! segment's rows, each part in a transaction of its own, or skips them if nothing is to be dropped. So it needs the memory of
//! one segment, however long the log is.
//!
//! Loading the log gives the same result after each step. A record is dropped only if a later one of its key stays. A
//! tombstone is dropped only if it is the last record of its key among the rows of the compaction, when all earlier ones are
//! dropped already: rows are handled in their order, and a compaction that fails is abandoned as a whole. Records that are
//! written meanwhile are appended behind its last row.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::Store;
use super::apply::in_transaction;
use super::seen::{GONE, ROW, bytes_of, each_row};

/// Records in a segment: some MB of keys.
const MAX_IN_MEMORY: usize = 32_768;

/// Records scanned in one step: a millisecond or two.
const SCAN: usize = 65_536;

/// Records rewritten in one transaction.
const PART: usize = 8_192;

/// Rows are joined if they have fewer records than this on average.
const SHORT_ROW: usize = ROW / 8;

/// A compaction between two steps.
#[derive(Debug)]
pub(super) struct Compaction {
    pub job: i64,
    /// Records in the log when it started.
    length_at_start: usize,
    /// The last row of the log when it started.
    end: i64,
    dropped: usize,
    /// The next row to rewrite.
    at: i64,
    /// The last row of the segment.
    until: i64,
    /// The next row to scan for later records.
    ahead: i64,
    /// The index in the segment of each key's last record; `None` if a row behind the segment has a later one.
    latest: HashMap<u128, Option<usize>>,
    /// The index in the segment of the first record of the row `at`.
    place: usize,
}

impl Compaction {
    fn start(conn: &Connection, job: i64, length_at_start: usize) -> rusqlite::Result<Compaction> {
        let mut last = conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM seen_log WHERE job = ?1")?;
        let end = last.query_row([job], |row| row.get(0))?;
        Ok(Compaction { job, length_at_start, end, dropped: 0, at: 0, until: 0, ahead: 0, latest: HashMap::new(), place: 0 })
    }

    /// Does a bounded part of the work. Returns the number of records dropped, `None` when all is done.
    fn step(&mut self, conn: &Connection) -> rusqlite::Result<Option<usize>> {
        if self.at > self.end {
            return Ok(None);
        }
        if self.latest.is_empty() {
            self.open_segment(conn)?;
        } else if self.ahead <= self.end {
            self.scan_ahead(conn)?;
        } else {
            return self.rewrite_part(conn).map(Some);
        }
        Ok(Some(0))
    }

    fn open_segment(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let (mut places, mut until) = (0.., self.end);
        each_row(conn, self.job, self.at..=self.end, MAX_IN_MEMORY, |seq, records| {
            self.latest.extend(records.map(|object| object.key.0).zip(places.by_ref().map(Some)));
            until = seq;
        })?;
        (self.until, self.ahead, self.place) = (until, until + 1, 0);
        if self.latest.is_empty() {
            self.at = self.ahead;
        }
        Ok(())
    }

    fn scan_ahead(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut seen = self.end;
        each_row(conn, self.job, self.ahead..=self.end, SCAN, |seq, records| {
            for object in records {
                if let Some(place) = self.latest.get_mut(&{ object.key.0 }) {
                    *place = None;
                }
            }
            seen = seq;
        })?;
        self.ahead = seen + 1;
        Ok(())
    }

    fn rewrite_part(&mut self, conn: &Connection) -> rusqlite::Result<usize> {
        let (mut rows, mut place, mut last) = (0, self.place, self.until);
        let mut kept = Vec::new();
        each_row(conn, self.job, self.at..=self.until, PART, |seq, records| {
            for object in records {
                if self.latest.get(&{ object.key.0 }) == Some(&Some(place)) && { object.version.0 } != GONE {
                    kept.push(object);
                }
                place += 1;
            }
            (rows, last) = (rows + 1, seq);
        })?;
        let read = place - self.place;
        let dropped = read - kept.len();
        if dropped > 0 || (rows > 8 && rows * SHORT_ROW > read) {
            in_transaction(conn, |conn| {
                conn.prepare_cached("DELETE FROM seen_log WHERE job = ?1 AND seq BETWEEN ?2 AND ?3")?
                    .execute([self.job, self.at, last])?;
                // With the numbers of the old rows; there may be too few of them for rows of the usual length.
                for (seq, records) in (self.at..).zip(kept.chunks(ROW.max(kept.len().div_ceil(rows)))) {
                    conn.prepare_cached("INSERT INTO seen_log VALUES (?1, ?2, ?3)")?.execute(params![
                        self.job,
                        seq,
                        bytes_of(records)
                    ])?;
                }
                Ok(())
            })?;
        }
        (self.at, self.place) = (last + 1, place);
        self.dropped += dropped;
        if self.at > self.until {
            self.latest.clear();
        }
        Ok(dropped)
    }
}

impl Store {
    /// Does a step of compaction if a log has grown by `times` times the usual slack, or continues one if `times` is 1. An error
    /// only leaves the log longer.
    pub(super) fn compact_seen(&mut self, times: usize) {
        let due = self.seen_lengths.iter().find(|(_, length)| length.is_overgrown(times)).map(|(job, length)| (*job, length.now));
        if due.is_none() && (times > 1 || self.compaction.is_none()) {
            return;
        }
        let compaction = match (self.compaction.take(), due) {
            (Some(compaction), _) => Ok(compaction),
            (None, Some((job, now))) => Compaction::start(&self.conn, job, now),
            (None, None) => return,
        };
        let stepped = compaction.and_then(|mut compaction| compaction.step(&self.conn).map(|dropped| (compaction, dropped)));
        match stepped {
            Ok((compaction, dropped)) => {
                let Some(length) = self.seen_lengths.get_mut(&compaction.job) else { return };
                match dropped {
                    Some(dropped) => {
                        length.now = length.now.saturating_sub(dropped);
                        self.checkpoint_due |= dropped > 0;
                        self.compaction = Some(compaction);
                    }
                    None => length.compacted = compaction.length_at_start.saturating_sub(compaction.dropped),
                }
            }
            Err(error) => {
                log::debug!("seen log not compacted: {error}");
                // Not retried until it has grown again.
                self.seen_lengths
                    .values_mut()
                    .filter(|length| length.is_overgrown(1))
                    .for_each(|length| length.compacted = length.now);
            }
        }
    }
}
