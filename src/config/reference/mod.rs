//! Every key that a configuration may hold, told once: what may stand there, what holds without it, what it is for.
//!
//! The JSON Schema (`firelink schema`), docs/configuration.md and firelink.yaml(5) are made of these tables and of
//! nothing else. They are plain data and not types with a derive (schemars would want a struct for each map): the
//! file is read by hand, for the sake of its messages, so such structs would be a second truth that nobody uses. What
//! ties the tables to the reader are tests: both must know the same keys, and what the schema refuses and accepts is
//! tried on every wrong file of the tests and on every example.

mod jobs;
mod schema;
mod top;

pub use jobs::{EXECUTION, JOB, TRIGGERS};
pub use schema::schema;
pub use top::TOP;

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text, or a number or word that is taken as one.
    Text,
    /// `true` or `false`.
    Flag,
    /// `250ms`, `10s`, `5m`, `1h30m`, `2d`.
    Duration,
    /// `64KiB`, `10MiB`, `1MB`.
    Size,
    /// An octal number from 000 to 777.
    Octal,
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts.
    List,
    /// A map of names and texts.
    Env,
    /// A map with these keys.
    Map(&'static Section),
    /// A list of maps with these keys.
    Maps(&'static Section),
    /// A list of maps with these keys and those of the trigger.
    Jobs,
    /// The word for a trigger, or a map with its keys.
    Trigger,
    /// Any of these.
    Either(&'static [Kind]),
}

/// A command: a line for `/bin/sh -c`, or a list of words that is run directly.
pub const COMMAND: Kind = Kind::Either(&[Kind::Text, Kind::List]);

/// One text, or a list of them.
pub const TEXTS: Kind = Kind::Either(&[Kind::Text, Kind::List]);

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What may stand behind it.
    pub kind: Kind,
    /// What holds if it is not there, for people; empty if there is nothing to say.
    pub default: &'static str,
    /// What it is for, in a sentence or two.
    pub about: &'static str,
}

/// The keys of one map.
#[derive(Debug)]
pub struct Section {
    /// The map's name in headings: `retry`, `cron`.
    pub name: &'static str,
    /// What the map is for.
    pub about: &'static str,
    /// Keys without which it is refused.
    pub needs: &'static [&'static str],
    /// Its keys, in the order in which they are told.
    pub keys: &'static [Key],
}

/// A key with its default.
const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, about }
}

impl Kind {
    /// The kind in a few words, for a table.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Flag => "`true` or `false`".into(),
            Kind::Duration => "duration".into(),
            Kind::Size => "size".into(),
            Kind::Octal => "octal number".into(),
            Kind::Number(from, to) => format!("number, {from} to {to}"),
            Kind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Kind::List => "list of texts".into(),
            Kind::Env => "map of names and texts".into(),
            Kind::Map(section) => format!("map, see [{}](#{})", section.name, section.name),
            Kind::Maps(section) => format!("list of maps, see [{}](#{})", section.name, section.name),
            Kind::Jobs => "list of maps, see [jobs](#jobs)".into(),
            Kind::Trigger => "word, or map with `type`, see [triggers](#triggers)".into(),
            Kind::Either(kinds) => kinds.iter().map(Kind::in_words).collect::<Vec<_>>().join(", or "),
        }
    }

    /// The maps that it may be.
    #[must_use]
    pub fn maps(&self) -> Vec<&'static Section> {
        match self {
            Kind::Map(section) | Kind::Maps(section) => vec![section],
            Kind::Either(kinds) => kinds.iter().flat_map(Kind::maps).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
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
    fn every_key_is_told_in_whole_sentences() {
        let own = [&TOP, &JOB, &EXECUTION];
        let maps = own.iter().flat_map(|section| section.keys).flat_map(|key| key.kind.maps());
        for section in own.into_iter().chain(TRIGGERS.iter().copied()).chain(maps) {
            assert!(section.about.ends_with('.'), "{}", section.name);
            assert!(section.needs.iter().all(|need| section.keys.iter().any(|key| key.name == *need)), "{}", section.name);
            for key in section.keys {
                assert!(key.about.ends_with('.') && !key.about.contains('|'), "{}: {}", section.name, key.name);
            }
        }
    }
}
