//! Cron schedules compared with other Rust implementations: parsing, finding the next instant, and size in bytes.
//! `cargo bench --bench cron -- --quick` for a first impression.
//!
//! Each `next` starts from the last instant found, as a scheduler does. saffron has no zones, and cron and saffron number days
//! of the week differently, so their texts differ where that matters. A cell is missing where an implementation can't express
//! the schedule.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench talks to a person, and its inputs are its own")]

use std::hint::black_box;

use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime as Wall};
use firelink::cron::{Schedule, Zone};
use firelink::model::WallTime;

/// A kind of schedule: its name, its text, and the text for the `cron` crate and for saffron where they have one.
type Kind = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

const KINDS: &[Kind] = &[
    ("each_minute", "* * * * *", Some("0 * * * * *"), Some("* * * * *")),
    ("each_5_seconds", "*/5 * * * * *", Some("*/5 * * * * *"), None),
    ("daily", "0 18 * * *", Some("0 0 18 * * *"), Some("0 18 * * *")),
    ("workdays", "30 8 * * 1-5", Some("0 30 8 * * 2-6"), Some("30 8 * * 2-6")),
    ("lists", "5,20,35,50 8-18/2 1,15 3-10 *", Some("0 5,20,35,50 8-18/2 1,15 3-10 *"), Some("5,20,35,50 8-18/2 1,15 3-10 *")),
    ("yearly", "0 0 1 1 *", Some("0 0 0 1 1 *"), Some("0 0 1 1 *")),
    ("leap_day", "0 0 29 2 *", Some("0 0 0 29 2 *"), Some("0 0 29 2 *")),
];

/// 2026-01-01T00:00:00Z; after some decades, where the calendars of the others end, a `next` starts here again.
const START: i64 = 1_767_225_600;
const END: i64 = 3_000_000_000;

fn restart(second: i64) -> i64 {
    if second > END { START } else { second }
}

fn instant<Z: TimeZone>(zone: &Z, second: i64) -> DateTime<Z> {
    DateTime::from_timestamp(second, 0).expect("within the calendar").with_timezone(zone)
}

fn ours(group: &mut BenchmarkGroup<'_, Wall>, text: &str, zone: &str) {
    let (schedule, zone) = (Schedule::parse(text).expect(text), Zone::parse(zone).expect(zone));
    let mut at = START;
    group.bench_function("firelink", |b| {
        b.iter(|| at = restart(schedule.next_after(black_box(WallTime::from_secs(at)), zone).expect("a next").as_secs()));
    });
}

fn croner(group: &mut BenchmarkGroup<'_, Wall>, text: &str, zone: Tz) {
    let schedule: croner::Cron = text.parse().expect(text);
    let mut at = START;
    group.bench_function("croner", |b| {
        b.iter(|| {
            let next = schedule.find_next_occurrence(black_box(&instant(&zone, at)), false);
            at = restart(next.expect("a next").timestamp());
        });
    });
}

fn cron(group: &mut BenchmarkGroup<'_, Wall>, text: &str, zone: Tz) {
    let schedule: cron::Schedule = text.parse().expect(text);
    let mut at = START;
    group.bench_function("cron", |b| {
        b.iter(|| at = restart(schedule.after(black_box(&instant(&zone, at))).next().expect("a next").timestamp()));
    });
}

fn saffron(group: &mut BenchmarkGroup<'_, Wall>, text: &str) {
    let schedule: saffron::Cron = text.parse().expect(text);
    let mut at = START;
    group.bench_function("saffron", |b| {
        b.iter(|| at = restart(schedule.next_after(black_box(instant(&Utc, at))).expect("a next").timestamp()));
    });
}

fn next(c: &mut Criterion) {
    for (zone, tz) in [("UTC", Tz::UTC), ("Europe/Berlin", Tz::Europe__Berlin)] {
        for (kind, text, for_cron, for_saffron) in KINDS {
            let mut group = c.benchmark_group(format!("next/{zone}/{kind}"));
            ours(&mut group, text, zone);
            croner(&mut group, text, tz);
            if let Some(text) = for_cron {
                cron(&mut group, text, tz);
            }
            if let Some(text) = for_saffron.filter(|_| tz == Tz::UTC) {
                saffron(&mut group, text);
            }
            group.finish();
        }
    }
}

fn compile(c: &mut Criterion) {
    for (kind, text, for_cron, for_saffron) in KINDS {
        let mut group = c.benchmark_group(format!("compile/{kind}"));
        group.bench_function("firelink", |b| b.iter(|| Schedule::parse(black_box(text)).expect("sound")));
        group.bench_function("croner", |b| b.iter(|| black_box(text).parse::<croner::Cron>().expect("sound")));
        if let Some(text) = for_cron {
            group.bench_function("cron", |b| b.iter(|| black_box(text).parse::<cron::Schedule>().expect("sound")));
        }
        if let Some(text) = for_saffron {
            group.bench_function("saffron", |b| b.iter(|| black_box(text).parse::<saffron::Cron>().expect("sound")));
        }
        group.finish();
    }
}

/// What a daemon does for each job at start.
fn arm(c: &mut Criterion) {
    let berlin = Zone::parse("Europe/Berlin").expect("a zone");
    c.bench_function("parse_and_first_next/Europe/Berlin/daily/firelink", |b| {
        b.iter(|| Schedule::parse(black_box("0 18 * * *")).expect("sound").next_after(WallTime::from_secs(START), berlin));
    });
}

fn sizes(_: &mut Criterion) {
    println!("bytes of a compiled schedule, without what it points to on the heap:");
    println!("  firelink {:>4} (nothing on the heap)", size_of::<Schedule>());
    println!("  saffron  {:>4}", size_of::<saffron::Cron>());
    println!("  croner   {:>4}", size_of::<croner::Cron>());
    println!("  cron     {:>4}", size_of::<cron::Schedule>());
}

criterion_group!(benches, sizes, compile, arm, next);
criterion_main!(benches);
