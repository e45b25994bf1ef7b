//! Wall deadlines: which instants of a schedule are still open, whatever was done to the clock.
//!
//! Three records decide whether a deadline was handled: the job's cursor (the last one, as long as the clock only goes
//! forward), the [`Timeline`] (spans of wall time that daemons covered before the clock was set), and the
//! [ranges](CaughtUp) that catch-ups ran. So a clock set back fires nothing twice, and a clock that was wrong for a moment
//! (a board without an RTC, ten years off by a typing error) does not silence a schedule until that moment comes again.

use std::collections::VecDeque;
use std::time::Duration;

use super::timing::{CATCH_UP_LIMIT, CatchUp, WallTiming};
use crate::model::WallTime;

/// Closed spans kept. Each setting of the clock adds at most one; past this the oldest is dropped.
const MAX_SPANS: usize = 16;

/// Ranges kept of one job. Each downtime or forward step of the clock adds at most one; past this the oldest is dropped.
const MAX_RANGES: usize = 8;

/// The first span in which the latest deadlines are searched, and the factor by which it grows.
const FIRST_SEARCH_SPAN: Duration = Duration::from_secs(64);
const SEARCH_GROWTH: u32 = 8;

/// Missed deadlines that get a record each; all older ones share one. A box that was off for a year must not fill its
/// history with half a million rows.
const MAX_MISSED_RECORDS: usize = 10;

/// Below this, the latency of any wake-up would make every deadline a missed one.
pub(super) const SHORTEST_GRACE: Duration = Duration::from_secs(1);

/// The spans of wall time that this daemon, or an earlier one, has covered: their deadlines were handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Spans that ended because the clock was set, both ends included, ordered and disjoint.
    closed: Vec<(WallTime, WallTime)>,
    /// The beginning of the present span.
    since: WallTime,
}

impl Timeline {
    /// A first span, from now on.
    #[must_use]
    pub fn starting(now: WallTime) -> Timeline {
        Timeline { closed: Vec::new(), since: now }
    }

    /// From stored parts, in any order.
    #[must_use]
    pub fn from_parts(closed: Vec<(WallTime, WallTime)>, since: WallTime) -> Timeline {
        let mut timeline = Timeline { closed, since };
        timeline.normalize();
        timeline
    }

    /// The closed spans and the beginning of the present one, for the store.
    #[must_use]
    pub fn parts(&self) -> (&[(WallTime, WallTime)], WallTime) {
        (&self.closed, self.since)
    }

    /// The clock showed `was` and was set to `is`: closes the present span at `was`. A step forward within `grace` does not
    /// end a span, because the deadlines that it skips still run.
    pub(super) fn clock_set(&mut self, was: WallTime, is: WallTime, grace: Duration) {
        if is >= was && is.since(was) <= grace {
            return;
        }
        if was >= self.since {
            self.closed.push((self.since, was));
        }
        self.since = if is < was { is } else { is - grace };
        self.normalize();
    }

    /// The clock was set before any deadline was handled: the present span begins at `now`.
    pub(super) fn restart(&mut self, now: WallTime) {
        self.since = now;
    }

    /// The end of the closed span in which this instant lies.
    fn covered_until(&self, at: WallTime) -> Option<WallTime> {
        let after = self.closed.partition_point(|(from, _)| *from <= at);
        let (_, to) = self.closed.get(after.checked_sub(1)?)?;
        (at <= *to).then_some(*to)
    }

    fn normalize(&mut self) {
        self.closed.retain(|(from, to)| from <= to);
        self.closed.sort_unstable();
        let mut merged: Vec<(WallTime, WallTime)> = Vec::with_capacity(self.closed.len());
        for &(from, to) in &self.closed {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        let surplus = merged.len().saturating_sub(MAX_SPANS);
        merged.drain(..surplus);
        self.closed = merged;
    }
}

/// The deadlines of one job that catch-ups ran after the fact: ranges with both ends included, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    ranges: Vec<(WallTime, WallTime)>,
}

impl CaughtUp {
    /// From stored ranges.
    #[must_use]
    pub fn from_ranges(ranges: Vec<(WallTime, WallTime)>) -> CaughtUp {
        CaughtUp { ranges }
    }

    /// The ranges, for the store.
    #[must_use]
    pub fn ranges(&self) -> &[(WallTime, WallTime)] {
        &self.ranges
    }

    /// True without any range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn add(&mut self, from: WallTime, to: WallTime) {
        let surplus = (self.ranges.len() + 1).saturating_sub(MAX_RANGES);
        self.ranges.drain(..surplus);
        self.ranges.push((from, to));
    }

    /// The end of a range in which this deadline lies.
    fn caught_up_until(&self, at: WallTime) -> Option<WallTime> {
        self.ranges.iter().filter(|(from, to)| (*from..=*to).contains(&at)).map(|(_, to)| *to).max()
    }
}

/// One job's progress on the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WallState {
    /// All deadlines up to here have been handled.
    pub cursor: WallTime,
    /// The deadline that is armed.
    pub next: Option<WallTime>,
    /// Boxed, because few jobs have any.
    caught_up: Option<Box<CaughtUp>>,
}

/// The deadlines of one job that have passed, by what follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Deadlines to run as if on time, oldest first.
    pub on_time: Vec<WallTime>,
    /// Deadlines to run late, oldest first.
    pub caught_up: Vec<WallTime>,
    /// Deadlines to record as missed, oldest first.
    pub missed: Vec<WallTime>,
    /// The first of the missed ones that are older than those in `missed` and `caught_up`, if there are any.
    pub older_since: Option<WallTime>,
}

impl WallTiming {
    /// The first instant strictly after this one, jitter included.
    #[must_use]
    pub fn next_after(&self, after: WallTime) -> Option<WallTime> {
        let after = after - self.offset;
        let next = self.schedules.iter().filter_map(|schedule| schedule.next_after(after, self.zone)).min()?;
        Some(next + self.offset)
    }
}

impl WallState {
    /// With nothing armed yet.
    pub fn new(cursor: WallTime, caught_up: CaughtUp) -> WallState {
        WallState { cursor, next: None, caught_up: Some(caught_up).filter(|caught_up| !caught_up.is_empty()).map(Box::new) }
    }

    /// The ranges that catch-ups ran, latest last.
    pub fn caught_up(&self) -> CaughtUp {
        self.caught_up.as_deref().cloned().unwrap_or_default()
    }

    /// The first open deadline after `after`.
    pub fn next_open(&self, timing: &WallTiming, timeline: &Timeline, after: WallTime) -> Option<WallTime> {
        let mut after = after;
        // Each iteration passes a span or a range for good, so there are at most MAX_SPANS + MAX_RANGES + 1.
        loop {
            let deadline = timing.next_after(after)?;
            let caught_up = self.caught_up.as_deref().and_then(|caught_up| caught_up.caught_up_until(deadline));
            match timeline.covered_until(deadline).max(caught_up) {
                Some(end) => after = end.max(deadline),
                None => return Some(deadline),
            }
        }
    }

    /// Sorts every deadline up to `now` by `grace` and `catch_up`, and arms the next.
    pub fn drain_due(&mut self, timing: &WallTiming, timeline: &Timeline, now: WallTime, grace: Duration) -> Due {
        let mut due = Due::default();
        let Some(first) = self.next.filter(|first| *first <= now) else { return due };
        // Deadlines before this line are missed, those from it on still run.
        let line = now - grace.max(SHORTEST_GRACE);
        if first < line {
            let limit = if timing.catch_up == CatchUp::All { CATCH_UP_LIMIT } else { MAX_MISSED_RECORDS };
            let (missed, more) = self.latest(timing, timeline, first, line, limit);
            due.missed = missed;
            due.older_since = more.then_some(first);
            self.next = self.next_open(timing, timeline, line - Duration::from_nanos(1));
        }
        self.cursor = due.missed.last().copied().unwrap_or(self.cursor);
        while let Some(deadline) = self.next.filter(|deadline| *deadline <= now) {
            due.on_time.push(deadline);
            self.cursor = deadline;
            self.next = self.next_open(timing, timeline, deadline);
        }
        match timing.catch_up {
            CatchUp::None => {}
            CatchUp::All => due.caught_up = std::mem::take(&mut due.missed),
            // The latest deadline of all is run once; if one is still on time, that is it.
            CatchUp::Last if due.on_time.is_empty() => due.caught_up.extend(due.missed.pop()),
            CatchUp::Last => {}
        }
        if let (Some(from), Some(to)) = (due.caught_up.first(), due.caught_up.last()) {
            self.caught_up.get_or_insert_default().add(*from, *to);
        }
        due
    }

    /// The latest `limit` open deadlines in `from..until`, oldest first, and whether there are older ones.
    ///
    /// A schedule only yields the next instant, so the latest ones are searched in spans that grow backwards: the cost is
    /// bounded by `limit`, not by the downtime.
    fn latest(
        &self,
        timing: &WallTiming,
        timeline: &Timeline,
        from: WallTime,
        until: WallTime,
        limit: usize,
    ) -> (Vec<WallTime>, bool) {
        let mut span = FIRST_SEARCH_SPAN;
        loop {
            let start = (until - span).max(from);
            let mut found = VecDeque::with_capacity(limit.min(64));
            let mut dropped = false;
            // `from` itself is a deadline and counts; next_open looks strictly after.
            let mut next = self.next_open(timing, timeline, start - Duration::from_nanos(1));
            while let Some(deadline) = next.filter(|deadline| *deadline < until) {
                if found.len() == limit {
                    found.pop_front();
                    dropped = true;
                }
                found.push_back(deadline);
                next = self.next_open(timing, timeline, deadline);
            }
            if found.len() >= limit || start <= from {
                return (found.into(), dropped || start > from);
            }
            span = span.saturating_mul(SEARCH_GROWTH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(secs: i64) -> WallTime {
        WallTime::from_secs(secs)
    }

    const GRACE: Duration = Duration::from_secs(60);

    #[test]
    fn a_step_within_grace_does_not_end_the_span() {
        let mut line = Timeline::starting(t(1_000));
        line.clock_set(t(2_000), t(2_060), GRACE);
        assert_eq!(line, Timeline::starting(t(1_000)));
    }

    #[test]
    fn a_clock_set_back_closes_the_covered_span() {
        let mut line = Timeline::starting(t(1_000));
        line.clock_set(t(2_000), t(1_500), GRACE);
        assert_eq!(line.covered_until(t(1_500)), Some(t(2_000)));
        assert_eq!(line.covered_until(t(1_000)), Some(t(2_000)));
        assert_eq!(line.covered_until(t(999)), None);
        assert_eq!(line.covered_until(t(2_001)), None);
        // Set back once more, after a while: the two spans are one.
        line.clock_set(t(1_700), t(900), GRACE);
        assert_eq!(line.parts(), (&[(t(1_000), t(2_000))][..], t(900)));
    }

    #[test]
    fn a_wrong_clock_leaves_the_time_between_open() {
        let mut line = Timeline::starting(t(1_000));
        line.clock_set(t(2_000), t(900_000), GRACE);
        line.clock_set(t(900_010), t(2_010), GRACE);
        assert_eq!(line.covered_until(t(2_000)), Some(t(2_000)));
        assert_eq!(line.covered_until(t(2_010)), None);
        assert_eq!(line.covered_until(t(899_939)), None);
        assert_eq!(line.covered_until(t(899_940)), Some(t(900_010)), "what was within grace has run");
    }

    #[test]
    fn the_latest_ranges_that_were_caught_up_are_kept() {
        let mut caught_up = CaughtUp::default();
        caught_up.add(t(100), t(200));
        caught_up.add(t(900_000), t(900_000));
        caught_up.add(t(300), t(300));
        assert_eq!(caught_up.caught_up_until(t(150)), Some(t(200)));
        assert_eq!(caught_up.caught_up_until(t(900_000)), Some(t(900_000)));
        assert_eq!(
            (caught_up.caught_up_until(t(250)), caught_up.caught_up_until(t(500_000))),
            (None, None),
            "what is between runs on time"
        );
        (0..20).for_each(|step| caught_up.add(t(1_000 + step), t(1_000 + step)));
        assert_eq!(caught_up.ranges().len(), MAX_RANGES);
        assert_eq!(caught_up.caught_up_until(t(1_019)), Some(t(1_019)), "the latest stay");
    }

    #[test]
    fn the_number_of_spans_is_bounded() {
        let mut line = Timeline::starting(t(0));
        for step in 1..100 {
            line.clock_set(t(step * 1_000), t(step * 1_000 + 500), GRACE);
        }
        assert_eq!(line.closed.len(), MAX_SPANS);
    }
}
