//! The system's own rules, through `chrono`: zoneinfo files and POSIX strings, which can be asked for the offset at an
//! instant but not for the next change. The change is found by asking twice and halving between.

use chrono::{DateTime, Local, TimeZone};

use super::zone::Period;

/// Between two changes of any zone of the database lies a week less an hour at least, so offsets that are equal four
/// days apart hold between.
const SPAN: i64 = 4 * 86_400;

/// Seconds east of UTC; zero for an instant that no calendar has.
pub(super) fn offset_at(second: i64) -> i32 {
    DateTime::from_timestamp(second, 0).map_or(0, |at| Local.offset_from_utc_datetime(&at.naive_utc()).local_minus_utc())
}

/// What is known of the period around an instant: its bounds where they are within four days, else those four days.
pub(super) fn period_at(second: i64) -> Period {
    period(second, offset_at)
}

fn period(second: i64, offset_at: impl Fn(i64) -> i32) -> Period {
    let offset = offset_at(second);
    let (earlier, later) = (second - SPAN, second + SPAN);
    let end = if offset_at(later) == offset { later } else { boundary(second, later, |at| offset_at(at) == offset) };
    let start = if offset_at(earlier) == offset { earlier } else { boundary(earlier, second, |at| offset_at(at) != offset) };
    Period { start, end, offset, before: offset_at(start - 1) }
}

/// The first instant for which `holds` does not, given that it does for `low` and does not for `high`.
fn boundary(mut low: i64, mut high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::Zone;

    #[test]
    fn rules_that_can_only_be_asked_yield_the_periods_of_the_tables() {
        for name in ["Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Asia/Gaza", "Pacific/Apia"] {
            let zone = Zone::parse(name).unwrap();
            let mut at = 946_684_800;
            while at < 2_524_608_000 {
                let exact = zone.period_at(at);
                let asked = period(at, |second| zone.period_at(second).offset);
                assert_eq!(asked.offset, exact.offset);
                assert_eq!(asked.end, exact.end.min(at + SPAN), "{name} {at}");
                assert_eq!(asked.start, exact.start.max(at - SPAN), "{name} {at}");
                assert_eq!(asked.before, if exact.start > at - SPAN { exact.before } else { asked.before }, "{name} {at}");
                at = asked.end;
            }
        }
    }
}
