//! Zones as POSIX writes them, like `CET-1CEST,M3.5.0,M10.5.0/3`: the value of `$TZ` on boxes without zoneinfo, and the footer of
//! a TZif file (RFC 9636, section 3.3.1). Pure.

use super::calendar::{DAY, date_of, days_in, first_day_of, weekday_of};
use super::period::Period;
use crate::model::WallTime;

/// Years outside of [`WallTime`] have no changes.
const END_OF_TIME: i64 = WallTime::MAX.as_secs();

/// What such a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// One offset, in seconds east of UTC.
    Fixed(i32),
    /// Two changes in each year.
    Yearly(Yearly),
}

/// Standard time, and daylight saving time from `start` to `end`. Offsets are in seconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Yearly {
    standard: i32,
    daylight: i32,
    start: Change,
    end: Change,
}

/// A day of the year, and a second counted from its midnight on the clock that is in use then; it may lie days before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    second: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `Mm.w.d`: this weekday (Sunday is 0) for the `week`th time in the month, or for the last time if that is 5.
    Weekday { month: u32, week: u32, weekday: u32 },
    /// `Jn`: 1 to 365, as if no year had a 29 February.
    Julian(u32),
    /// `n`: 0 to 365.
    Ordinal(u32),
}

impl Day {
    /// Days since 1970-01-01.
    fn in_year(self, year: i32) -> i64 {
        let january = first_day_of(year, 1);
        match self {
            Day::Weekday { month, week, weekday } => {
                let first = first_day_of(year, month);
                let wait = (7 + weekday - weekday_of(first)) % 7;
                let day = wait + 7 * (week - 1);
                first + i64::from(if day < days_in(year, month) { day } else { day - 7 })
            }
            Day::Julian(day) => {
                let leap = days_in(year, 2) == 29 && day >= 60;
                january + i64::from(day) - i64::from(!leap)
            }
            Day::Ordinal(day) => january + i64::from(day),
        }
    }
}

impl Change {
    /// The instant, given the offset before it.
    fn in_year(self, year: i32, before: i32) -> i64 {
        self.day.in_year(year) * DAY + i64::from(self.second) - i64::from(before)
    }
}

impl Rule {
    /// Reads a text of the form `std offset [dst [offset] , start [/time] , end [/time]]`.
    ///
    /// `None` for any other text, and for one that names daylight saving time without its two changes, which POSIX leaves to the
    /// implementation. Times may be -167 to 167 hours.
    pub(super) fn parse(text: &str) -> Option<Rule> {
        let rest = after_name(text)?;
        let (west, rest) = offset(rest)?;
        let standard = -west;
        if rest.is_empty() {
            return Some(Rule::Fixed(standard));
        }
        let rest = after_name(rest)?;
        let (daylight, rest) = match rest.strip_prefix(',') {
            Some(_) => (standard + 3_600, rest),
            None => offset(rest).map(|(west, rest)| (-west, rest))?,
        };
        let (start, rest) = change(rest.strip_prefix(',')?)?;
        let (end, rest) = change(rest.strip_prefix(',')?)?;
        rest.is_empty().then_some(Rule::Yearly(Yearly { standard, daylight, start, end }))
    }

    /// The period that an instant lies in.
    pub(super) fn period_at(&self, second: i64) -> Period {
        let yearly = match self {
            Rule::Fixed(offset) => return Period { start: i64::MIN, end: i64::MAX, offset: *offset, before: *offset },
            Rule::Yearly(yearly) => yearly,
        };
        let changes = yearly.changes_around(second);
        let after = changes.partition_point(|(at, _)| *at <= second);
        let end = changes.get(after).map_or(i64::MAX, |(at, _)| *at);
        match after.checked_sub(1).map(|index| changes[index]) {
            Some((start, offset)) => {
                let before = after.checked_sub(2).map_or(offset, |index| changes[index].1);
                Period { start, end, offset, before }
            }
            None => Period { start: i64::MIN, end, offset: yearly.standard, before: yearly.standard },
        }
    }
}

impl Yearly {
    /// The changes from two years before an instant to a year after it, each with the offset from then on, ordered and without
    /// those that change nothing: where one ends at the instant at which the other starts, the year has none.
    fn changes_around(&self, second: i64) -> Vec<(i64, i32)> {
        let year = date_of(second.clamp(-END_OF_TIME, END_OF_TIME).div_euclid(DAY)).year;
        let mut changes: Vec<(i64, i32)> = (year - 2..=year + 2)
            .flat_map(|year| {
                let end = (self.end.in_year(year, self.daylight), self.standard);
                [end, (self.start.in_year(year, self.standard), self.daylight)]
            })
            .collect();
        // Of two at one instant the start is the later one, also if the end belongs to the year before.
        changes.sort_by_key(|(at, offset)| (*at, *offset == self.daylight));
        let mut kept: Vec<(i64, i32)> = Vec::with_capacity(changes.len());
        // The last of all is left out, since the next one is not known.
        for pair in changes.windows(2) {
            let (change, next) = (pair[0], pair[1]);
            if next.0 != change.0 && kept.last().is_none_or(|last| last.1 != change.1) {
                kept.push(change);
            }
        }
        kept
    }
}

/// The text behind a name: three letters or more, or anything of letters, digits and signs in angle brackets.
fn after_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        let (name, rest) = quoted.split_once('>')?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-');
        return (!name.is_empty() && name.chars().all(is_plain)).then_some(rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    (text.len() - rest.len() >= 3).then_some(rest)
}

/// `[+-]hh[:mm[:ss]]` at the beginning, in seconds, and the text behind it; at most 24 hours and what is below an hour.
fn offset(text: &str) -> Option<(i32, &str)> {
    time(text).filter(|(seconds, _)| seconds.abs() < 25 * 3_600)
}

/// The same, up to 167 hours.
fn time(text: &str) -> Option<(i32, &str)> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, mut rest) = number(rest, 0, 167)?;
    let mut seconds = hours * 3_600;
    for unit in [60, 1] {
        if let Some(more) = rest.strip_prefix(':') {
            let (count, behind) = number(more, 0, 59)?;
            (seconds, rest) = (seconds + count * unit, behind);
        } else {
            break;
        }
    }
    Some((sign * i32::try_from(seconds).ok()?, rest))
}

/// Digits at the beginning, and the text behind them.
fn number(text: &str, low: u32, high: u32) -> Option<(u32, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - rest.len()].parse().ok()?;
    (low..=high).contains(&number).then_some((number, rest))
}

/// `day[/time]` at the beginning, and the text behind it. Without a time it is 02:00.
fn change(text: &str) -> Option<(Change, &str)> {
    let (day, rest) = match text.as_bytes().first()? {
        b'M' => {
            let (month, rest) = number(&text[1..], 1, 12)?;
            let (week, rest) = number(rest.strip_prefix('.')?, 1, 5)?;
            let (weekday, rest) = number(rest.strip_prefix('.')?, 0, 6)?;
            (Day::Weekday { month, week, weekday }, rest)
        }
        b'J' => {
            let (day, rest) = number(&text[1..], 1, 365)?;
            (Day::Julian(day), rest)
        }
        _ => {
            let (day, rest) = number(text, 0, 365)?;
            (Day::Ordinal(day), rest)
        }
    };
    let (second, rest) = match rest.strip_prefix('/') {
        Some(text) => time(text)?,
        None => (2 * 3_600, rest),
    };
    Some((Change { day, second }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::{Zone, parse_rfc3339};

    fn offset_at(text: &str, at: &str) -> i32 {
        Rule::parse(text).unwrap().period_at(parse_rfc3339(at).unwrap().as_secs()).offset
    }

    #[test]
    fn a_posix_text_has_the_periods_of_the_named_zone_that_it_describes() {
        for (text, name, since) in [
            ("CET-1CEST,M3.5.0,M10.5.0/3", "Europe/Berlin", "1997-01-01T00:00:00Z"),
            ("EST5EDT,M3.2.0,M11.1.0", "America/New_York", "2008-01-01T00:00:00Z"),
            ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "Australia/Lord_Howe", "2009-01-01T00:00:00Z"),
            ("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "America/Nuuk", "2025-01-01T00:00:00Z"),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", "Europe/Dublin", "1997-01-01T00:00:00Z"),
            ("JST-9", "Asia/Tokyo", "1960-01-01T00:00:00Z"),
            ("<+0545>-5:45", "Asia/Kathmandu", "1990-01-01T00:00:00Z"),
        ] {
            let (rule, zone) = (Rule::parse(text).unwrap(), Zone::parse(name).unwrap());
            let mut at = parse_rfc3339(since).unwrap().as_secs();
            while at < END_OF_TIME {
                let (ours, named) = (rule.period_at(at), zone.period_at(at));
                assert_eq!((ours.end, ours.offset), (named.end, named.offset), "{text} {at}");
                if at > parse_rfc3339(since).unwrap().as_secs() {
                    assert_eq!(ours, named, "{text} {at}");
                }
                at = ours.end;
            }
        }
    }

    #[test]
    fn days_are_counted_with_and_without_the_leap_day() {
        for (text, change) in [
            ("AAA0BBB,J59/0,J300", "2024-02-28T00:00:00Z"),
            ("AAA0BBB,J60/0,J300", "2024-03-01T00:00:00Z"),
            ("AAA0BBB,59/0,300", "2024-02-29T00:00:00Z"),
            ("AAA0BBB,60/0,300", "2024-03-01T00:00:00Z"),
            ("AAA0BBB,J60/0,J300", "2023-03-01T00:00:00Z"),
            ("AAA0BBB,59/0,300", "2023-03-01T00:00:00Z"),
            ("AAA0BBB,M2.5.0/0,300", "2024-02-25T00:00:00Z"),
            ("AAA0BBB,M2.5.4/0,300", "2024-02-29T00:00:00Z"),
            ("AAA0BBB,M2.5.4/0,300", "2023-02-23T00:00:00Z"),
            ("AAA0BBB,M3.1.5/-24,300", "2024-02-29T00:00:00Z"),
        ] {
            let at = parse_rfc3339(change).unwrap().as_secs();
            let period = Rule::parse(text).unwrap().period_at(at);
            assert_eq!((period.start, period.before, period.offset), (at, 0, 3_600), "{text} {change}");
        }
    }

    #[test]
    fn daylight_saving_time_may_span_the_turn_of_the_year_or_all_of_it() {
        let chile = "<-04>4<-03>,M9.1.6/24,M4.1.6/24";
        assert_eq!(offset_at(chile, "2150-12-31T23:59:59Z"), -10_800);
        assert_eq!(offset_at(chile, "2150-07-01T00:00:00Z"), -14_400);
        // RFC 9636, section 3.3.1: how a zone says that it never leaves daylight saving time.
        let all_year = Rule::parse("XXX3EDT4,0/0,J365/23").unwrap();
        let start = parse_rfc3339("2023-01-01T00:00:00Z").unwrap().as_secs();
        for at in (start..start + 800 * DAY).step_by(1_801) {
            let period = all_year.period_at(at);
            assert_eq!((period.offset, period.before, period.end), (-4 * 3_600, -4 * 3_600, i64::MAX), "{at}");
        }
    }

    #[test]
    fn any_instant_lies_in_its_period() {
        let rule = Rule::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for at in [i64::MIN, -END_OF_TIME - 1, -END_OF_TIME, 0, END_OF_TIME, END_OF_TIME + 1, i64::MAX] {
            let period = rule.period_at(at);
            assert!(period.start <= at && (at < period.end || at == i64::MAX), "{at} {period:?}");
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        for text in [
            "",
            "A",
            "AB1",
            "CET",
            "CET-1CEST",
            "CET-25",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M3.5.0,",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1CEST,M3.6.0,M10.5.0",
            "CET-1CEST,M3.5.7,M10.5.0",
            "CET-1CEST,J0,J365",
            "CET-1CEST,0,366",
            "CET-1,",
            "CET-1CEST,M3.5.0/168,M10.5.0",
            "CET-1CEST,M3.5.0,M10.5.0x",
            "<>1",
            "<a b>1",
            "<abc1",
            "CET-1:60",
            "ÄÖÜ1",
        ] {
            assert_eq!(Rule::parse(text), None, "{text}");
        }
    }
}
