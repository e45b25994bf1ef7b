//! What must hold for every schedule, zone and instant.

use chrono::{DateTime, Datelike, Timelike};
use proptest::prelude::*;

use super::random::{ZONES, meaning};
use crate::cron::{Schedule, Zone, next_of};
use crate::model::WallTime;

fn zone() -> impl Strategy<Value = Zone> {
    proptest::sample::select(ZONES.to_vec()).prop_map(|name| Zone::parse(name).unwrap())
}

/// Any instant, most of them within a century.
fn instant() -> impl Strategy<Value = WallTime> {
    let likely = 0_i64..4_000_000_000_000_000_000;
    prop_oneof![4 => likely.boxed(), 1 => any::<i64>().boxed()].prop_map(WallTime::from_nanos)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_next_firing_is_later_and_the_same_for_every_instant_up_to_it(
        meaning in meaning(), zone in zone(), after in instant(), share in 0.0_f64..1.0,
    ) {
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let Some(next) = schedule.next_after(after, zone) else {
            // Only at the end of time is there none: a leap day on one weekday is 40 years off at most.
            prop_assert!(after.as_secs() > WallTime::MAX.as_secs() - 41 * 366 * 86_400, "{}", meaning.text);
            return Ok(());
        };
        prop_assert!(next > after);
        let before = WallTime::from_nanos(next.as_nanos() - 1);
        prop_assert_eq!(schedule.next_after(before, zone), Some(next));
        let between = i128::from(after.as_nanos()) + ((next.as_nanos() as f64 - after.as_nanos() as f64) * share) as i128;
        let between = WallTime::from_nanos(i64::try_from(between).unwrap().clamp(after.as_nanos(), before.as_nanos()));
        prop_assert_eq!(schedule.next_after(between, zone), Some(next), "{} in {} between", meaning.text, zone);
    }

    #[test]
    fn a_later_question_never_has_an_earlier_answer(
        meaning in meaning(), zone in zone(), one in instant(), other in instant(),
    ) {
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let (early, late) = (one.min(other), one.max(other));
        let early = schedule.next_after(early, zone).unwrap_or(WallTime::MAX);
        let late = schedule.next_after(late, zone).unwrap_or(WallTime::MAX);
        prop_assert!(early <= late, "{} in {}", meaning.text, zone);
    }

    #[test]
    fn the_clock_on_the_wall_shows_what_the_fields_of_a_wildcard_schedule_say(
        meaning in meaning(), zone in zone(), after in instant(),
    ) {
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        prop_assert_eq!(schedule.is_fixed(), meaning.fixed());
        let Some(next) = schedule.next_after(after, zone) else { return Ok(()) };
        let local = DateTime::from_timestamp(next.as_secs() + i64::from(zone.offset(next)), 0).unwrap().naive_utc();
        prop_assert!(meaning.matches_second(local.second()));
        prop_assert_eq!(next.as_nanos() % 1_000_000_000, 0);
        if !meaning.fixed() {
            prop_assert!(meaning.matches_minute(local.hour(), local.minute()));
            prop_assert!(meaning.matches_day(local.month(), local.day(), local.weekday().num_days_from_sunday()));
        }
    }

    #[test]
    fn a_list_of_schedules_fires_when_the_first_of_them_does(
        one in meaning(), other in meaning(), zone in zone(), after in instant(),
    ) {
        let (Ok(one), Ok(other)) = (Schedule::parse(&one.text), Schedule::parse(&other.text)) else { return Ok(()) };
        let each: Vec<WallTime> = [one, other].iter().filter_map(|schedule| schedule.next_after(after, zone)).collect();
        prop_assert_eq!(next_of(&[one, other], zone, after), each.iter().min().copied());
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_every_error_points_into_the_text(text in "[0-9*,/@a-zA-Z \\t٣é-]{0,24}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{error:?}");
            prop_assert!(error.span.start < error.span.end || text.trim().is_empty(), "{error:?}");
            prop_assert!(error.render(&text).contains(&error.message));
        }
    }

    #[test]
    fn no_unicode_makes_the_parser_panic(text in "\\PC{0,40}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{error:?}");
        }
    }
}

#[test]
fn at_the_ends_of_time_there_is_an_answer_or_none_but_no_panic() {
    for text in ["* * * * * *", "0 0 29 2 *", "0 0 1 1 *", "30 2 * * *"] {
        let schedule = Schedule::parse(text).unwrap();
        for name in ZONES {
            let zone = Zone::parse(name).unwrap();
            assert_eq!(schedule.next_after(WallTime::MAX, zone), None, "{text} in {name}");
            assert!(schedule.next_after(WallTime::from_nanos(i64::MIN), zone).is_some(), "{text} in {name}");
        }
    }
}

#[test]
fn a_fraction_of_a_second_counts() {
    let schedule = Schedule::parse("* * * * * *").unwrap();
    let next = |nanos| schedule.next_after(WallTime::from_nanos(nanos), Zone::utc()).map(WallTime::as_nanos);
    assert_eq!(next(0), Some(1_000_000_000));
    assert_eq!(next(999_999_999), Some(1_000_000_000));
    assert_eq!(next(-1), Some(0));
    assert_eq!(next(-1_000_000_000), Some(0));
    assert_eq!(next(-1_000_000_001), Some(-1_000_000_000));
}
