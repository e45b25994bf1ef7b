//! Drops from the logs of what watches have seen what later records have overtaken, a piece at a time.
//!
//! A fold goes through the rows that the log has when it begins, from the oldest on, in windows: it remembers the latest
//! record of each key of a window, looks through all rows behind it for later ones, and then writes the window's rows anew,
//! each piece in a transaction of its own, or leaves them where nothing is to be dropped. So it needs the memory of a window,
//! however long the log is.
//!
//! After each piece the log says the same as before it. A record goes only when a later one of its key stays; and one that
//! says that its key is gone goes only as the last of its key among the rows of the fold, when all before it have gone: rows
//! are taken in their order, and a fold that fails anywhere is given up as a whole. What comes meanwhile stands behind.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::Store;
use super::apply::in_transaction;
use super::seen::{GONE, ROW, bytes_of, each_row};

/// Records whose keys are remembered at a time: some MB.
const MAX_IN_MEMORY: usize = 32_768;

/// Records looked at in one step: a millisecond or two.
const LOOK: usize = 65_536;

/// Records in one transaction.
const PIECE: usize = 8_192;

/// Rows with fewer records than this, taken together, are worth joining.
const SHORT_ROW: usize = ROW / 8;

/// A fold on its way.
#[derive(Debug)]
pub(super) struct Folding {
    pub job: i64,
    /// Records of the log when it began.
    begun: usize,
    /// The last row of them.
    end: i64,
    dropped: usize,
    /// The next row that is to be written anew.
    at: i64,
    /// The last row of the window.
    until: i64,
    /// The next row to look at for later records.
    ahead: i64,
    /// The place in the window of each key's last record; none if a row behind the window has a later one.
    latest: HashMap<u128, Option<usize>>,
    /// The place in the window of the first record of the row `at`.
    place: usize,
}

impl Folding {
    fn begin(conn: &Connection, job: i64, begun: usize) -> rusqlite::Result<Folding> {
        let mut last = conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM seen_log WHERE job = ?1")?;
        let end = last.query_row([job], |row| row.get(0))?;
        Ok(Folding { job, begun, end, dropped: 0, at: 0, until: 0, ahead: 0, latest: HashMap::new(), place: 0 })
    }

    /// Does a bounded part. Returns how many records were dropped, nothing when there is nothing left to do.
    fn step(&mut self, conn: &Connection) -> rusqlite::Result<Option<usize>> {
        if self.at > self.end {
            return Ok(None);
        }
        if self.latest.is_empty() {
            self.open_window(conn)?;
        } else if self.ahead <= self.end {
            self.look_ahead(conn)?;
        } else {
            return self.write_piece(conn).map(Some);
        }
        Ok(Some(0))
    }

    fn open_window(&mut self, conn: &Connection) -> rusqlite::Result<()> {
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

    fn look_ahead(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut seen = self.end;
        each_row(conn, self.job, self.ahead..=self.end, LOOK, |seq, records| {
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

    fn write_piece(&mut self, conn: &Connection) -> rusqlite::Result<usize> {
        let (mut rows, mut place, mut last) = (0, self.place, self.until);
        let mut stays = Vec::new();
        each_row(conn, self.job, self.at..=self.until, PIECE, |seq, records| {
            for object in records {
                if self.latest.get(&{ object.key.0 }) == Some(&Some(place)) && { object.version.0 } != GONE {
                    stays.push(object);
                }
                place += 1;
            }
            (rows, last) = (rows + 1, seq);
        })?;
        let read = place - self.place;
        let dropped = read - stays.len();
        if dropped > 0 || (rows > 8 && rows * SHORT_ROW > read) {
            in_transaction(conn, |conn| {
                conn.prepare_cached("DELETE FROM seen_log WHERE job = ?1 AND seq BETWEEN ?2 AND ?3")?
                    .execute([self.job, self.at, last])?;
                // In the places of the old rows, of which there may be fewer than of the usual length.
                for (seq, records) in (self.at..).zip(stays.chunks(ROW.max(stays.len().div_ceil(rows)))) {
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
    /// Does a bounded part of what logs have outgrown what they hold; with `times`, only where one has outgrown it so many
    /// times. A failure costs nothing but their length.
    pub(super) fn fold_seen(&mut self, times: usize) {
        let due = self.seen_lengths.iter().find(|(_, length)| length.is_overgrown(times)).map(|(job, length)| (*job, length.now));
        if due.is_none() && (times > 1 || self.folding.is_none()) {
            return;
        }
        let folding = match (self.folding.take(), due) {
            (Some(folding), _) => Ok(folding),
            (None, Some((job, now))) => Folding::begin(&self.conn, job, now),
            (None, None) => return,
        };
        let stepped = folding.and_then(|mut folding| folding.step(&self.conn).map(|dropped| (folding, dropped)));
        match stepped {
            Ok((folding, dropped)) => {
                let Some(length) = self.seen_lengths.get_mut(&folding.job) else { return };
                match dropped {
                    Some(dropped) => {
                        length.now = length.now.saturating_sub(dropped);
                        self.checkpoint_due |= dropped > 0;
                        self.folding = Some(folding);
                    }
                    None => length.folded = folding.begun.saturating_sub(folding.dropped),
                }
            }
            Err(error) => {
                log::debug!("what was seen is not folded: {error}");
                // Not again at each turn.
                self.seen_lengths
                    .values_mut()
                    .filter(|length| length.is_overgrown(1))
                    .for_each(|length| length.folded = length.now);
            }
        }
    }
}
