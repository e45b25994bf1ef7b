//! A reference that does what cron(8) describes: it wakes up each minute, compares the local clock with the minute it
//! has worked up to, and decides by the difference. It shares nothing with the search but the zones' names.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Offset, TimeZone, Timelike};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::random::{Meaning, ZONES, meaning};
use crate::cron::{Schedule, Upcoming, Zone};
use crate::model::WallTime;

/// The minutes by which the clock may jump before it counts as set to another calendar.
const THREE_HOURS: i64 = 180;

/// Every firing in `after + 1 ..= until`, in seconds; `after` is a whole minute.
fn walk(meaning: &Meaning, zone: Tz, after: i64, until: i64) -> Vec<i64> {
    let mut fired = BTreeSet::new();
    // A day earlier, so that an overlap or a gap just before `after` is behind the walker.
    let mut at = after - 86_400;
    let mut worked_up_to = local_minute(zone, at);
    while at <= until {
        at += 60;
        let clock = local_minute(zone, at);
        let jump = clock - worked_up_to;
        let passed = if jump > THREE_HOURS || jump <= -THREE_HOURS {
            clock..=clock
        } else {
            // Empty when the clock was set back: those minutes were worked off already.
            worked_up_to + 1..=clock
        };
        let due = if meaning.fixed() { passed.clone().any(|minute| matches(meaning, minute)) } else { matches(meaning, clock) };
        if due {
            fired.extend(meaning.seconds().iter().map(|second| at + i64::from(*second)));
        }
        if !passed.is_empty() {
            worked_up_to = clock;
        }
    }
    fired.into_iter().filter(|at| *at > after && *at <= until).collect()
}

fn local_minute(zone: Tz, at: i64) -> i64 {
    let utc = DateTime::from_timestamp(at, 0).unwrap().naive_utc();
    (at + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())).div_euclid(60)
}

fn matches(meaning: &Meaning, minute: i64) -> bool {
    let local = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
    meaning.matches_minute(local.hour(), local.minute())
        && meaning.matches_day(local.month(), local.day(), local.weekday().num_days_from_sunday())
}

/// The changes of a zone's offset from 1975 to 2090.
fn changes(zone: Zone) -> Vec<i64> {
    let mut starts = Vec::new();
    let mut period = zone.period_at(157_766_400);
    while period.end < 3_786_912_000 {
        starts.push(period.end);
        period = zone.period_at(period.end);
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn near_every_change_of_every_zone_the_search_finds_what_a_walking_cron_runs(
        meaning in meaning(),
        zone in proptest::sample::select(ZONES.to_vec()),
        change in any::<proptest::sample::Index>(),
        hours_before in 0_i64..30,
        minutes_before in 0_i64..60,
    ) {
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let tz: Tz = zone.parse().unwrap();
        let zone = Zone::parse(zone).unwrap();
        let changes = changes(zone);
        let change = changes.get(change.index(changes.len().max(1))).copied().unwrap_or(1_700_000_040);
        // Half of the instants lie after the change, inside of what it repeats.
        let after = (change - hours_before * 3_600 + 4 * 3_600 + minutes_before * 60).div_euclid(60) * 60;
        let until = after + 2 * 86_400;
        let expect = walk(&meaning, tz, after, until);
        let found: Vec<i64> = Upcoming::new(&[schedule], zone, WallTime::from_secs(after))
            .map(WallTime::as_secs)
            .take_while(|at| *at <= until)
            .collect();
        prop_assert_eq!(found, expect, "{} in {} after {}", meaning.text, zone, zone.rfc3339(WallTime::from_secs(after)));
    }

    #[test]
    fn an_answer_asked_from_the_middle_of_a_minute_is_the_walkers_too(
        meaning in meaning(),
        zone in proptest::sample::select(ZONES.to_vec()),
        change in any::<proptest::sample::Index>(),
        second in -7_200_i64..10_800,
    ) {
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let tz: Tz = zone.parse().unwrap();
        let zone = Zone::parse(zone).unwrap();
        let changes = changes(zone);
        let change = changes.get(change.index(changes.len().max(1))).copied().unwrap_or(1_700_000_040);
        let after = change + second;
        let until = after.div_euclid(60) * 60 + 86_400;
        let expect = walk(&meaning, tz, after.div_euclid(60) * 60 - 60, until).into_iter().find(|at| *at > after);
        let found = schedule.next_after(WallTime::from_secs(after), zone).map(WallTime::as_secs).filter(|at| *at <= until);
        prop_assert_eq!(found, expect, "{} in {} after {}", meaning.text, zone, zone.rfc3339(WallTime::from_secs(after)));
    }
}
