use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::triggers::Place;

/// Fake keys; the places of values are a hundred bytes apart.
#[derive(Default)]
struct Written {
    values: HashMap<&'static str, Vec<Text>>,
    jitter: Option<Duration>,
    errors: Vec<(Place, String, String)>,
    warnings: Vec<(Place, String, String)>,
}

impl Written {
    fn with(mut self, key: &'static str, values: &[&str]) -> Written {
        let texts = values.iter().enumerate().map(|(n, value)| {
            let start = 100 * n;
            let place = Place { start, end: start + value.len() + 2 };
            Text { value: (*value).into(), place, verbatim_at: Some(start + 1) }
        });
        self.values.insert(key, texts.collect());
        self
    }

    fn build(&mut self) -> Option<Box<dyn Trigger>> {
        let cx = JobContext { job: "backup", zone: Zone::utc(), cwd: Path::new("/"), machine_seed: 7 };
        build(self, &cx)
    }

    fn timing(&mut self) -> WallTiming {
        match self.build().expect("a sound trigger").timing() {
            Timing::Wall(timing) => timing.as_ref().clone(),
            other => panic!("{other:?}"),
        }
    }
}

impl Keys for Written {
    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key) || key == "jitter" && self.jitter.is_some()
    }

    fn place(&self, key: &str) -> Place {
        self.values.get(key).and_then(|texts| texts.first()).map_or(Place { start: 0, end: 1 }, |text| text.place)
    }

    fn text(&mut self, key: &str) -> Option<Text> {
        self.values.get(key)?.first().cloned()
    }

    fn texts(&mut self, key: &str) -> Vec<Text> {
        self.values.get(key).cloned().unwrap_or_default()
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        self.jitter.filter(|_| key == "jitter")
    }

    fn flag(&mut self, _: &str) -> Option<bool> {
        None
    }

    fn command(&mut self, _: &str) -> Option<crate::exec::spec::Action> {
        None
    }

    fn map(&mut self, _: &str, _: &[&str]) -> Option<Box<dyn Keys + '_>> {
        None
    }

    fn error(&mut self, place: Place, message: String, help: String) {
        self.errors.push((place, message, help));
    }

    fn warn(&mut self, place: Place, message: String, help: String) {
        self.warnings.push((place, message, help));
    }
}

#[test]
fn one_schedule_is_read_in_the_zone_of_the_job() {
    let mut keys = Written::default().with("schedule", &["0 18 * * *"]);
    let trigger = keys.build().expect("a sound trigger");
    assert_eq!(trigger.summary(), "cron 0 18 * * *");
    assert_eq!(trigger.kind(), TriggerWord::Cron);
    assert_eq!(trigger.default_concurrency(), Concurrency::Forbid);
    let timing = keys.timing();
    assert_eq!(*timing.schedules, [Schedule::parse("0 18 * * *").unwrap()]);
    assert_eq!((timing.zone, timing.offset), (Zone::utc(), Duration::ZERO));
    assert_eq!((timing.catch_up, timing.at_startup), (CatchUp::None, false));
}

#[test]
fn duplicate_schedules_in_a_list_are_warnings() {
    let mut keys = Written::default().with("schedule", &["@daily", "0 18 * * *", "0 0 * * *"]);
    assert_eq!(keys.build().expect("a sound trigger").summary(), "cron @daily, 0 18 * * *");
    let [(place, message, _)] = &keys.warnings[..] else { panic!("{:?}", keys.warnings) };
    assert_eq!((place.start, message.as_str()), (200, "`0 0 * * *` is the same schedule as one before it"));
    assert_eq!(keys.timing().schedules.len(), 2);
}

#[test]
fn reboot_alone_fires_at_startup_and_at_no_instant() {
    let mut keys = Written::default().with("schedule", &["@reboot"]);
    assert_eq!(keys.build().expect("a sound trigger").summary(), "cron @reboot");
    let timing = keys.timing();
    assert!(timing.at_startup);
    assert!(timing.schedules.is_empty());
}

#[test]
fn reboot_can_be_combined_with_other_schedules() {
    let timing = Written::default().with("schedule", &["@reboot", "@hourly"]).timing();
    assert!(timing.at_startup);
    assert_eq!(timing.schedules.len(), 1);
}

#[test]
fn the_job_s_own_zone_takes_precedence() {
    let timing = Written::default().with("schedule", &["@daily"]).with("timezone", &["Asia/Tokyo"]).timing();
    assert_eq!(timing.zone.name(), "Asia/Tokyo");
}

#[test]
fn each_value_of_catch_up_is_read() {
    for (word, expect) in [("none", CatchUp::None), ("last", CatchUp::Last), ("all", CatchUp::All)] {
        assert_eq!(Written::default().with("schedule", &["@daily"]).with("catch_up", &[word]).timing().catch_up, expect);
    }
}

#[test]
fn jitter_is_the_stable_offset_of_the_job() {
    let mut keys = Written::default().with("schedule", &["@daily"]);
    keys.jitter = Some(Duration::from_secs(3_600));
    let offset = keys.timing().offset;
    assert!(offset < Duration::from_secs(3_600) && !offset.is_zero());
    assert_eq!(keys.timing().offset, offset);
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
    let mut keys = Written::default()
        .with("schedule", &["0 60 * * *", "@daily", "1,,2 * * * *"])
        .with("timezone", &["Europe/Berln"])
        .with("catch_up", &["some"]);
    assert!(keys.build().is_none());
    let seen: Vec<(usize, usize, &str)> =
        keys.errors.iter().map(|(place, message, _)| (place.start, place.end, message.as_str())).collect();
    assert_eq!(
        seen,
        [
            (3, 5, "hour: `60` is too large"),
            (202, 204, "minute: `1,,2` has an empty element"),
            (0, 14, "`Europe/Berln` is not a time zone"),
            (0, 6, "invalid value `some` for `catch_up`: expected `none`, `last` or `all`"),
        ]
    );
}

#[test]
fn a_trigger_without_a_schedule_is_an_error_with_an_example() {
    let mut keys = Written::default();
    assert!(keys.build().is_none());
    let [(_, message, help)] = &keys.errors[..] else { panic!("{:?}", keys.errors) };
    assert_eq!(message, "a `cron` trigger needs a `schedule`");
    assert!(help.contains("0 18 * * *"));
}

#[test]
fn an_empty_list_is_not_a_schedule() {
    let mut keys = Written::default().with("schedule", &[]);
    assert!(keys.build().is_none());
    assert!(keys.errors.is_empty(), "the reader of the keys has reported it already");
}
