//! Every key that a configuration may hold: its type, its default, its purpose.
//!
//! The JSON Schema (`firelink schema`), docs/configuration.md and firelink.yaml(5) are generated from these tables and from
//! nothing else. They are plain data and not types with a derive (schemars would want a struct for each map): the file is
//! read by hand, for the sake of its messages, so such structs would be a second truth that nobody uses. Defaults are the
//! constants that the reader uses, see `config::defaults`. Tests tie the rest to the reader: both must know the same keys,
//! each default must load to what its absence does, and the schema is tried on every wrong file of the tests and on every
//! example.

mod jobs;
mod schema;
mod top;

pub use jobs::{EXECUTION, JOB, TRIGGERS};
pub use schema::schema;
pub use top::TOP;

use std::time::Duration;

use crate::model::{format_duration, format_size};

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any scalar, taken as text.
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
    /// A list of maps with the keys of a job and those of its trigger.
    Jobs,
    /// A trigger's type, or a map with its keys.
    Trigger,
    /// Any of these.
    Either(&'static [Kind]),
}

/// A command: a line for `/bin/sh -c`, or a list of words that is run directly.
pub const COMMAND: Kind = Kind::Either(&[Kind::Text, Kind::List]);

/// One text, or a list of them.
pub const TEXTS: Kind = Kind::Either(&[Kind::Text, Kind::List]);

/// A value as a configuration writes it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each variant is the type of its value")]
pub enum Literal {
    Duration(Duration),
    Size(u64),
    Number(u32),
    Flag(bool),
    /// A word or a list of words, looked up among those that the reader knows.
    Word(fn() -> String),
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug)]
pub enum Unset {
    /// The key is required, or its absence needs no explanation.
    Nothing,
    /// This value.
    Value(Literal),
    /// This value, and in words where another one holds.
    Mostly(Literal, &'static str),
    /// In words: it depends on other keys or on the system.
    Words(&'static str),
    /// In words that hold values.
    Computed(fn() -> String),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// What holds without it.
    pub unset: Unset,
    /// Its description, in a sentence or two of Markdown.
    pub about: &'static str,
}

/// The keys of one map.
#[derive(Debug)]
pub struct Section {
    /// The map's name in headings: `retry`, `cron`.
    pub name: &'static str,
    /// Its description.
    pub about: &'static str,
    /// Required keys.
    pub needs: &'static [&'static str],
    /// Its keys, in the order of the documents.
    pub keys: &'static [Key],
}

const fn key(name: &'static str, kind: Kind, unset: Unset, about: &'static str) -> Key {
    Key { name, kind, unset, about }
}

const NOTHING: Unset = Unset::Nothing;

const fn words(text: &'static str) -> Unset {
    Unset::Words(text)
}

const fn duration(value: Duration) -> Unset {
    Unset::Value(Literal::Duration(value))
}

const fn number(value: u32) -> Unset {
    Unset::Value(Literal::Number(value))
}

const fn flag(value: bool) -> Unset {
    Unset::Value(Literal::Flag(value))
}

const fn word(value: fn() -> String) -> Unset {
    Unset::Value(Literal::Word(value))
}

/// The word of a value among those that the reader knows.
fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> String {
    words.iter().find(|(_, known)| known == value).map_or_else(String::new, |(word, _)| (*word).to_owned())
}

impl Literal {
    /// As a configuration writes it.
    #[must_use]
    pub fn as_written(&self) -> String {
        match self {
            Literal::Duration(value) => format_duration(*value),
            Literal::Size(value) => format_size(*value),
            Literal::Number(value) => value.to_string(),
            Literal::Flag(value) => value.to_string(),
            Literal::Word(value) => value(),
        }
    }
}

impl Unset {
    /// In words, with values in backticks; `None` if there is nothing to say.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        match self {
            Unset::Nothing => None,
            Unset::Value(value) => Some(format!("`{}`", value.as_written())),
            Unset::Mostly(value, rest) => Some(format!("`{}`{rest}", value.as_written())),
            Unset::Words(text) => Some((*text).to_owned()),
            Unset::Computed(text) => Some(text()),
        }
    }
}

impl Kind {
    /// The type in a few words, for a table.
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
            Kind::Trigger => "type, or map with `type`, see [triggers](#triggers)".into(),
            Kind::Either(kinds) => kinds.iter().map(Kind::in_words).collect::<Vec<_>>().join(", or "),
        }
    }

    /// The maps among its alternatives.
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
mod tests;
