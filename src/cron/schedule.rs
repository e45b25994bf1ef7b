//! A compiled schedule, and the search for its next match.
//!
//! The search works on *local seconds*: what a clock on the wall shows, counted since 1970-01-01 as if its day always
//! had 24 hours. The calendar alone decides which local seconds match; [`Schedule::next_after`] then asks the zone
//! whether and when the clock shows them.

use std::fmt;

use super::calendar::{DAY, Date, date_of, days_in, first_day_of, weekday_of};
use super::period::Period;
use super::zone::Zone;
use crate::model::WallTime;

/// Both day fields must match, because one of them starts with `*`; else one is enough.
pub(super) const BOTH_DAYS: u8 = 1;
/// Neither minute nor hour starts with `*`, and seconds are a single number: see [`Schedule::is_fixed`].
pub(super) const FIXED: u8 = 2;

/// A gap of this length or more is a change of calendar: a time inside it is skipped. A longer overlap is one, too: the repeated
/// hours belong to another day (Debian's cron.c has the same limit).
const CALENDAR_CHANGE: i64 = 3 * 3_600;

/// The day after the last one that a [`WallTime`] can name, in any zone.
const END_OF_DAYS: i64 = i64::MAX / 1_000_000_000 / DAY + 2;

/// A compiled schedule: one bit for each value that each field allows. 32 bytes, and copied freely.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schedule {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    /// Bits 1 to 31.
    pub(super) days: u32,
    /// Bits 1 to 12.
    pub(super) months: u16,
    /// Bits 0 (Sunday) to 6.
    pub(super) weekdays: u8,
    pub(super) flags: u8,
}

impl Schedule {
    /// The first firing strictly after an instant, or `None` if there is none before the end of [`WallTime`] in 2262.
    ///
    /// A *fixed* schedule (see [`Schedule::is_fixed`]) whose time falls into a gap of less than three hours runs
    /// once after the gap, in its first minute; where an overlap shows its time twice it fires the first time. Any
    /// other schedule fires whenever the local clock shows a matching time.
    #[must_use]
    pub fn next_after(&self, after: WallTime, zone: Zone) -> Option<WallTime> {
        // Rounded down, so nothing can fire between `second` and `after` but at `second` itself, which is not after it.
        let second = after.as_secs();
        let next = self.next_second(second, zone)?;
        debug_assert!(next > second);
        next.checked_mul(1_000_000_000).map(WallTime::from_nanos)
    }

    /// True if the schedule names times of day, rather than a rhythm: neither its minute nor its hour starts with `*`
    /// and its seconds, if it has that field, are a single number. Daylight saving neither skips nor doubles such a
    /// time.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.flags & FIXED != 0
    }

    fn next_second(&self, after: i64, zone: Zone) -> Option<i64> {
        let mut period = zone.period_at(after);
        let mut from = after + i64::from(period.offset);
        if self.is_fixed() && after.saturating_sub(period.start) < CALENDAR_CHANGE {
            if let Some(at) = self.after_gap(&period).filter(|at| *at > after) {
                return Some(at);
            }
            from = from.max(self.last_repeated(&period));
        }
        let mut matched = self.next_match(from)?;
        loop {
            let at = matched - i64::from(period.offset);
            if at < period.end {
                return Some(at);
            }
            period = zone.period_at(period.end);
            if period.offset == period.before {
                continue;
            }
            if self.is_fixed()
                && let Some(at) = self.after_gap(&period)
            {
                return Some(at);
            }
            let mut resumed = period.start + i64::from(period.offset) - 1;
            if self.is_fixed() {
                resumed = resumed.max(self.last_repeated(&period));
            }
            // There is no match between `from` and `matched`, so only a clock that was set back to before `from`, or
            // ahead to past `matched`, can change what comes next.
            if resumed < from || resumed >= matched {
                from = resumed;
                matched = self.next_match(from)?;
            }
        }
    }

    /// When a fixed schedule runs once after the gap at the start of a period, if a time of it is inside the gap: at the
    /// schedule's second of the first minute after the gap.
    fn after_gap(&self, period: &Period) -> Option<i64> {
        let gap = i64::from(period.offset) - i64::from(period.before);
        if gap <= 0 || gap >= CALENDAR_CHANGE {
            return None;
        }
        let resumed = period.start + i64::from(period.offset);
        let skipped = self.next_match(resumed - gap - 1)?;
        let second = i64::from(self.seconds.trailing_zeros());
        (skipped < resumed).then(|| period.start + (second - resumed).rem_euclid(60))
    }

    /// The last local second that the overlap at the start of a period shows a second time; long past if there is no
    /// overlap, or one so long that it is a change of calendar.
    fn last_repeated(&self, period: &Period) -> i64 {
        let overlap = i64::from(period.before) - i64::from(period.offset);
        if (1..=CALENDAR_CHANGE).contains(&overlap) { period.start + i64::from(period.before) - 1 } else { i64::MIN }
    }

    /// The first local second after `from` that matches every field.
    pub(super) fn next_match(&self, from: i64) -> Option<i64> {
        let first = from + 1;
        let today = first.div_euclid(DAY);
        let date = date_of(today);
        let month_start = today - i64::from(date.day) + 1;
        let matching = self.days_of_month(date.year, date.month, month_start);
        if matching & (1 << date.day) != 0
            && let Some(time) = self.next_time_of_day(first.rem_euclid(DAY) as u32)
        {
            return Some(today * DAY + i64::from(time));
        }
        let day = self.next_day(date, matching, month_start)?;
        Some(day * DAY + i64::from(self.first_time_of_day()))
    }

    /// The first matching day after `date`, whose month's matching days are known already.
    fn next_day(&self, date: Date, matching: u32, month_start: i64) -> Option<i64> {
        if let Some(day) = bit_from(u64::from(matching), date.day + 1) {
            return Some(month_start + i64::from(day) - 1);
        }
        let (mut year, mut month) = (date.year, date.month);
        loop {
            match bit_from(u64::from(self.months), month + 1) {
                Some(next) => month = next,
                None => {
                    year += 1;
                    month = self.months.trailing_zeros();
                }
            }
            let month_start = first_day_of(year, month);
            if month_start > END_OF_DAYS {
                return None;
            }
            let matching = self.days_of_month(year, month, month_start);
            if matching != 0 {
                return Some(month_start + i64::from(matching.trailing_zeros()) - 1);
            }
        }
    }

    /// The days of a month that match, as bits 1 to 31; none if the month does not.
    fn days_of_month(&self, year: i32, month: u32, month_start: i64) -> u32 {
        /// A week's bits times this are six weeks of them: enough for a month that starts on any day of the week.
        const SIX_WEEKS: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28 | 1 << 35;
        if self.months & (1 << month) == 0 {
            return 0;
        }
        let by_weekday = (((u64::from(self.weekdays) * SIX_WEEKS) >> weekday_of(month_start)) << 1) as u32;
        let days = if self.flags & BOTH_DAYS != 0 { self.days & by_weekday } else { self.days | by_weekday };
        days & (u32::MAX >> (31 - days_in(year, month))) & !1
    }

    /// The first matching second of the day that is not before this one.
    fn next_time_of_day(&self, from: u32) -> Option<u32> {
        let (mut hour, mut minute, mut second) = (from / 3_600, from / 60 % 60, from % 60);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(next) = bit_from(self.seconds, second)
            {
                return Some(hour * 3_600 + minute * 60 + next);
            }
            second = self.seconds.trailing_zeros();
            if let Some(next) = bit_from(self.minutes, minute + 1) {
                return Some(hour * 3_600 + next * 60 + second);
            }
        }
        hour = bit_from(u64::from(self.hours), hour + 1)?;
        minute = self.minutes.trailing_zeros();
        second = self.seconds.trailing_zeros();
        Some(hour * 3_600 + minute * 60 + second)
    }

    fn first_time_of_day(&self) -> u32 {
        self.hours.trailing_zeros() * 3_600 + self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros()
    }
}

/// The lowest bit that is set, from bit `from` (at most 63) on.
fn bit_from(bits: u64, from: u32) -> Option<u32> {
    let rest = bits >> from;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

impl fmt::Debug for Schedule {
    /// The bit sets in the order of a six-field schedule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Schedule({:x} {:x} {:x} {:x} {:x} {:x} {})",
            self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays, self.flags
        )
    }
}

const _: () = assert!(size_of::<Schedule>() == 32);
