//! The tables against the reader: the same keys, the same triggers, the same defaults.

use super::super::keys;
use super::*;
#[cfg(all(feature = "s3", feature = "metrics", feature = "notify"))]
use crate::config::{Surroundings, load_text};
use crate::triggers::REGISTRY;

fn names(section: &Section) -> Vec<&'static str> {
    let mut names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    names.sort_unstable();
    names
}

fn sorted(words: &[&'static str]) -> Vec<&'static str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words
}

fn map_of(section: &'static Section, key: &str) -> &'static Section {
    let key = section.keys.iter().find(|known| known.name == key).unwrap_or_else(|| panic!("no {key}"));
    key.kind.maps().into_iter().next().unwrap_or_else(|| panic!("{} is no map", key.name))
}

#[test]
fn the_tables_and_the_reader_know_the_same_keys() {
    assert_eq!(names(&TOP), sorted(keys::TOP));
    assert_eq!(names(&JOB), sorted(keys::JOB));
    assert_eq!(names(&EXECUTION), sorted(keys::EXECUTION));
    assert_eq!(names(map_of(&EXECUTION, "executor")), sorted(keys::EXECUTOR));
    assert_eq!(names(map_of(&EXECUTION, "retry")), sorted(keys::RETRY));
    assert_eq!(names(map_of(&EXECUTION, "output")), sorted(keys::OUTPUT));
    assert_eq!(names(map_of(&EXECUTION, "limits")), sorted(keys::LIMITS));
    assert_eq!(names(map_of(&TOP, "state")), sorted(keys::STATE));
    assert_eq!(names(map_of(&TOP, "metrics")), sorted(keys::METRICS));
    assert_eq!(names(map_of(&TOP, "notify")), sorted(keys::NOTIFY));
    assert_eq!(names(map_of(map_of(&TOP, "notify"), "retry")), sorted(keys::NOTIFY_RETRY));
}

#[test]
fn the_tables_and_the_registry_know_the_same_triggers() {
    let types: Vec<&str> = REGISTRY.iter().map(|kind| kind.word).filter(|word| *word != "echo").collect();
    assert_eq!(TRIGGERS.iter().map(|section| section.name).collect::<Vec<_>>(), types);
    for section in TRIGGERS {
        let kind = crate::triggers::find_type(section.name).expect("a type");
        assert_eq!(names(section), sorted(kind.keys), "{}", section.name);
    }
}

#[test]
fn every_key_is_described_in_whole_sentences() {
    for section in all_sections() {
        assert!(section.about.ends_with('.'), "{}", section.name);
        assert!(section.needs.iter().all(|need| section.keys.iter().any(|key| key.name == *need)), "{}", section.name);
        for key in section.keys {
            assert!(key.about.ends_with('.') && !key.about.contains('|'), "{}: {}", section.name, key.name);
        }
    }
}

fn all_sections() -> Vec<&'static Section> {
    let mut sections: Vec<&'static Section> = [&TOP, &JOB, &EXECUTION].into_iter().chain(TRIGGERS.iter().copied()).collect();
    let mut at = 0;
    while let Some(section) = sections.get(at).copied() {
        let maps = section.keys.iter().flat_map(|key| key.kind.maps());
        let new: Vec<&Section> = maps.filter(|map| !sections.iter().any(|known| std::ptr::eq(*known, *map))).collect();
        sections.extend(new);
        at += 1;
    }
    sections
}

/// Configurations with a hole `@` for one more key of the section. Several where a key belongs to one kind of owner.
#[cfg(all(feature = "s3", feature = "metrics", feature = "notify"))]
fn holes(section: &Section) -> &'static [&'static str] {
    match section.name {
        "file" => &["{ jobs: [{ name: a, trigger: manual }], @ }"],
        "jobs" => &["jobs: [{ name: b, trigger: manual }, { name: a, trigger: manual, depends_on: b, @ }]"],
        "execution" => &["jobs: [{ name: a, trigger: manual, command: x, @ }]"],
        "retry" => &["jobs: [{ name: a, trigger: manual, command: x, retry: { attempts: 9, @ } }]"],
        "output" => &["jobs: [{ name: a, trigger: manual, command: x, output: { @ } }]"],
        "cron" => &["jobs: [{ name: a, trigger: { type: cron, schedule: \"0 1 * * *\", @ } }]"],
        "interval" => &["jobs: [{ name: a, trigger: { type: interval, every: 1h, @ } }]"],
        "watch" => &[
            "jobs: [{ name: a, trigger: { type: watch, source: \"s3://box/in/\", @ } }]",
            "jobs: [{ name: a, trigger: { type: watch, source: /srv, @ } }]",
            "jobs: [{ name: a, trigger: { type: watch, source: \"sqs://sqs.eu-west-1.amazonaws.com/1/in\", @ } }]",
        ],
        "plugin" => &["jobs: [{ name: a, trigger: { type: plugin, command: x, @ } }]"],
        "after_deps" => &["jobs: [{ name: b, trigger: manual }, { name: a, trigger: { type: after_deps, @ }, depends_on: b }]"],
        "source" => &["jobs: [{ name: a, trigger: { type: watch, source: { s3: box/in/, @ } } }]"],
        "metrics" => &["{ jobs: [{ name: a, trigger: manual }], metrics: { textfile: /x.prom, @ } }"],
        "notify" => &[
            "{ jobs: [{ name: a, trigger: manual }], notify: [{ url: \"https://example.org/\", @ }] }",
            "{ jobs: [{ name: a, trigger: manual }], notify: [{ ping: \"https://example.org/\", @ }] }",
        ],
        "notify-retry" => {
            &["{ jobs: [{ name: a, trigger: manual }], notify: [{ url: \"https://example.org/\", retry: { @ } }] }"]
        }
        "state" => &["{ jobs: [{ name: a, trigger: manual }], state: { sync_to: /x, @ } }"],
        _ => &[],
    }
}

/// What a configuration with this in its hole loads to; `None` if it is refused.
#[cfg(all(feature = "s3", feature = "metrics", feature = "notify"))]
fn loaded(hole: &str, filling: &str) -> Option<String> {
    let around = Surroundings { start_dir: "/".into(), machine_seed: 1, uid: 65_534 };
    let mut config = load_text("f".as_ref(), &hole.replace('@', filling), &around).ok()?;
    config.warnings.clear();
    Some(format!("{config:#?}"))
}

/// Keys whose absence is kept as such and resolved where it is used, by the constant that their tables name.
#[cfg(all(feature = "s3", feature = "metrics", feature = "notify"))]
const RESOLVED_LATE: &[(&str, &str)] = &[
    // An empty list means 0 alone.
    ("execution", "success_exit_codes"),
    ("source", "timeout"),
    ("queue", "timeout"),
];

#[test]
#[cfg(all(feature = "s3", feature = "metrics", feature = "notify"))]
fn a_key_with_its_default_loads_to_what_its_absence_does() {
    let mut unread = Vec::new();
    let mut compared = 0;
    for section in all_sections() {
        for key in section.keys {
            let (Unset::Value(default) | Unset::Mostly(default, _)) = key.unset else { continue };
            let filling = format!("{}: {}", key.name, default.as_written());
            if RESOLVED_LATE.contains(&(section.name, key.name)) {
                continue;
            }
            let mut read = false;
            for hole in holes(section) {
                if let (Some(with), Some(without)) = (loaded(hole, &filling), loaded(hole, "")) {
                    // `poll_interval` of a folder replaces inotify; its default is about buckets.
                    if key.name != "poll_interval" || hole.contains("s3:") {
                        assert_eq!(with, without, "{} of {}", filling, section.name);
                        compared += 1;
                    }
                    read = true;
                }
            }
            if !read {
                unread.push(format!("{} of {}", filling, section.name));
            }
        }
    }
    let queues_only: &[&str] = if cfg!(feature = "sqs") { &[] } else { &["ack: stored of watch"] };
    assert_eq!(unread, queues_only);
    assert!(compared > 25, "{compared} defaults were compared");
}

#[test]
#[cfg(feature = "notify")]
fn a_default_in_words_is_the_one_in_force() {
    let job = |trigger: &str| format!("jobs: [{{ name: b, trigger: manual }}, {{ name: a, command: x, {trigger}, @ }}]");
    let notify = |to: &str| format!("{{ jobs: [], notify: [{{ {to}: \"https://example.org/\", @ }}] }}");
    for (hole, filling) in [
        (job("trigger: interval, every: 1h"), "concurrency: forbid"),
        (job("trigger: cron, schedule: \"0 1 * * *\""), "concurrency: forbid"),
        (job("trigger: manual"), "concurrency: queue"),
        (job("depends_on: b"), "concurrency: queue"),
        (job("depends_on: b"), "trigger: after_deps"),
        (job("enabled: true"), "trigger: manual"),
        (notify("url"), "retry: 5"),
        (notify("url"), "retry: { attempts: 5 }"),
        (notify("ping"), "retry: 2"),
        (notify("ping"), "retry: { attempts: 2 }"),
    ] {
        assert_eq!(loaded(&hole, filling).expect("a right file"), loaded(&hole, "").expect("a right file"), "{hole}: {filling}");
    }
    let retry = TOP.keys.iter().find(|key| key.name == "notify").map(|key| map_of(key.kind.maps()[0], "retry"));
    let attempts = retry.and_then(|retry| retry.keys.iter().find(|key| key.name == "attempts")).expect("attempts");
    assert_eq!(attempts.unset.in_words().as_deref(), Some("`5`, `2` of a ping"));
}
