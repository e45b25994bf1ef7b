//! Other implementations, asked where their rules are ours: in UTC, which has no gaps.

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::random::{Field, Meaning, meaning};
use crate::cron::{Schedule, Upcoming, Zone};
use crate::model::WallTime;

const COUNT: usize = 8;

fn ours(schedule: Schedule, after: i64) -> Vec<i64> {
    Upcoming::new(&[schedule], Zone::utc(), WallTime::from_secs(after)).take(COUNT).map(WallTime::as_secs).collect()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// Numbers in a list, which every grammar reads alike; a star stays one.
fn spelt_out(field: &Field) -> String {
    if field.text == "*" { "*".into() } else { field.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") }
}

/// Both days restricted, one of them by a star with a step: only Debian's cron reads that as "and".
fn starred_step(meaning: &Meaning) -> bool {
    [&meaning.day, &meaning.weekday].iter().any(|field| field.star() && field.text != "*")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn croner_finds_the_same_instants_in_utc(meaning in meaning(), after in 0_i64..4_000_000_000) {
        prop_assume!(!starred_step(&meaning));
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let seconds = meaning.second.as_ref().map_or("0".to_owned(), spelt_out);
        let text = [seconds, spelt_out(&meaning.minute), spelt_out(&meaning.hour), spelt_out(&meaning.day), spelt_out(&meaning.month), spelt_out(&meaning.weekday)].join(" ");
        let croner = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
        let cron = croner.parse(&text).unwrap();
        let theirs: Vec<i64> = cron.iter_after(at(after)).take(COUNT).map(|at| at.timestamp()).collect();
        let ours = ours(schedule, after);
        // croner gives up some decades ahead.
        prop_assert_eq!(&theirs[..], &ours[..theirs.len()], "{} ({})", meaning.text, text);
        prop_assert!(theirs.len() == COUNT || meaning.month.values == [2] || after > 3_000_000_000, "{}", text);
    }

    #[test]
    fn the_cron_crate_finds_the_same_instants_in_utc(meaning in meaning(), after in 0_i64..3_500_000_000) {
        // It always asks for both day fields, so one of them must be free.
        prop_assume!(meaning.day.text == "*" || meaning.weekday.text == "*");
        let Ok(schedule) = Schedule::parse(&meaning.text) else { return Ok(()) };
        let seconds = meaning.second.as_ref().map_or("0".to_owned(), spelt_out);
        // Its Sunday is 1, its Saturday 7.
        let mut weekdays = meaning.weekday.clone();
        weekdays.values = weekdays.values.iter().map(|day| day % 7 + 1).collect();
        weekdays.values.sort_unstable();
        weekdays.values.dedup();
        let text = [seconds, spelt_out(&meaning.minute), spelt_out(&meaning.hour), spelt_out(&meaning.day), spelt_out(&meaning.month), spelt_out(&weekdays)].join(" ");
        let cron: cron::Schedule = text.parse().unwrap();
        let theirs: Vec<i64> = cron.after(&at(after)).take(COUNT).map(|at| at.timestamp()).collect();
        let ours = ours(schedule, after);
        // Its years end with 2100.
        let ours: Vec<i64> = ours.into_iter().take_while(|at| *at < 4_102_444_800).collect();
        prop_assert_eq!(&theirs[..theirs.len().min(ours.len())], &ours[..], "{} ({})", meaning.text, text);
    }
}
