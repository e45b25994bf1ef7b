//! Reading a map by hand: known keys by name, unknown keys reported, each value parsed into its type.
//!
//! A reader returns `None` both for an absent key and for a wrong value, which it has reported; [`Fields::has`] tells the
//! two apart. So every error is found in one pass, and no wrong value is ever used.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::findings::{Also, Findings};
use super::keys;
use super::yaml::{Document, NodeId, Scalar, Value};
use crate::model::{UnitError, parse_duration, parse_size};
use crate::text::{nearest, quoted};
use crate::triggers::Place;

/// The context of every reader: the document, and where to report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cx<'a> {
    pub(super) doc: &'a Document<'a>,
    pub(super) findings: &'a Findings,
}

/// A key of a map with its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) key: Scalar<'a>,
    pub(super) node: NodeId,
}

/// A map whose keys are known.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    pub(super) cx: Cx<'a>,
    /// The place of the map as a whole.
    pub(super) place: Place,
    fields: Vec<Field<'a>>,
    filter: u64,
}

/// A key's bit in a Bloom filter of one hash: most look-ups are of absent keys, and end here.
fn filter_bit(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let (first, last) = (bytes.first().copied().unwrap_or_default(), bytes.last().copied().unwrap_or_default());
    1 << ((bytes.len() + usize::from(first) * 5 + usize::from(last) * 3) % 64)
}

/// True if the key is one of these. Length and first letter are compared before the call of `memcmp`.
pub(super) fn is_among(known: &[&str], key: &str) -> bool {
    let first = key.as_bytes().first();
    known.iter().any(|known| known.len() == key.len() && known.as_bytes().first() == first && *known == key)
}

impl<'a> Cx<'a> {
    /// The kind of a value, for messages: "a list".
    pub(super) fn kind(self, node: NodeId) -> &'static str {
        match self.doc.value(node) {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Opens a map; unknown and duplicate keys are reported. `None` if the value is not a map, which is reported with `what`.
    pub(super) fn map(self, node: NodeId, what: &str, known: &[&str]) -> Option<Fields<'a>> {
        self.map_with(node, what, known, |key| self.report_unknown(key, known))
    }

    /// As [`Cx::map`], with a handler of unknown keys.
    pub(super) fn map_with(
        self,
        node: NodeId,
        what: &str,
        known: &[&str],
        mut unknown: impl FnMut(Scalar<'a>),
    ) -> Option<Fields<'a>> {
        let doc = self.doc;
        let Value::Map(pairs) = doc.value(node) else {
            let message = format!("expected a map for {what}, found {}", self.kind(node));
            self.findings.error(doc.place(node), message, "a map is `key: value`, one per line, or `{ key: value }`");
            return None;
        };
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(pairs.len().min(known.len()));
        for (key, value) in pairs.iter() {
            let Some(key) = doc.scalar(key) else {
                let message = format!("expected a word as key, found {}", self.kind(key));
                self.findings.error(doc.place(key), message, "a list or a map can't be a key");
                continue;
            };
            if !is_among(known, key.value) {
                unknown(key);
            } else if let Some(first) = fields.iter().find(|field| field.key.value == key.value) {
                let message = format!("duplicate key {}", quoted(key.value));
                self.findings.error_of_two(key.place, message, "remove one of them", Also::first(first.key.place));
            } else {
                fields.push(Field { key, node: value });
            }
        }
        Some(Fields::new(self, doc.place(node), fields))
    }

    pub(super) fn report_unknown(self, key: Scalar<'_>, known: &[&str]) {
        let message = format!("unknown key {}{}", quoted(key.value), keys::did_you_mean(key.value, known.iter().copied()));
        let help = format!("known keys: {}", keys::listed(known, ", "));
        self.findings.error(
            key.place,
            message,
            if known.len() <= 12 { help } else { "`firelink schema` lists every key".into() },
        );
    }

    /// A scalar that is not null. `what` names it in messages: "`timeout`", "an item of `args`".
    pub(super) fn text(self, node: NodeId, what: impl Fn() -> String, fallback: Place) -> Option<Scalar<'a>> {
        let Some(scalar) = self.doc.scalar(node) else {
            let message = format!("expected a single value for {}, found {}", what(), self.kind(node));
            self.findings.error(self.doc.place(node), message, "write a word, a number or a quoted text");
            return None;
        };
        if scalar.is_null() {
            let written = if scalar.value.is_empty() { String::new() } else { format!(": {} means null", quoted(scalar.value)) };
            let place = if scalar.value.is_empty() { fallback } else { scalar.place };
            let help = "set a value, or quote it if the word itself is meant; `\"\"` is an empty text";
            self.findings.error(place, format!("{} has no value{written}", what()), help);
            return None;
        }
        if scalar.value.contains('\0') {
            self.findings.error(
                scalar.place,
                format!("{} contains a NUL character", what()),
                "no argument or variable of a program can contain one",
            );
            return None;
        }
        Some(scalar)
    }

    /// A list of scalars.
    pub(super) fn texts(self, items: &[NodeId], key: &str, fallback: Place) -> Option<Vec<Scalar<'a>>> {
        let what = || format!("an item of `{key}`");
        // All items are read first, so that each wrong one is reported.
        let texts: Vec<Option<Scalar<'a>>> = items.iter().map(|item| self.text(*item, what, fallback)).collect();
        texts.into_iter().collect()
    }

    fn unit<T>(self, scalar: Scalar<'_>, read: Result<T, UnitError>) -> Option<T> {
        read.map_err(|error| self.findings.error(scalar.place, error.message, error.help)).ok()
    }

    fn number(self, scalar: Scalar<'_>, what: &str, range: &RangeInclusive<i64>) -> Option<i64> {
        let number = scalar.value.parse::<i64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (value, from, to) = (quoted(scalar.value), range.start(), range.end());
            let message = format!("invalid value {value} for {what}: expected a whole number from {from} to {to}");
            let help = format!("write it in digits, for example `{}`", from.max(&1));
            self.findings.error(scalar.place, message, help);
        }
        number
    }
}

impl<'a> Fields<'a> {
    fn new(cx: Cx<'a>, place: Place, fields: Vec<Field<'a>>) -> Fields<'a> {
        let filter = fields.iter().fold(0, |filter, field| filter | filter_bit(field.key.value));
        Fields { cx, place, fields, filter }
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        if self.filter & filter_bit(key) == 0 {
            return None;
        }
        self.fields.iter().find(|field| field.key.value == key).copied()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'a>> + '_ {
        self.fields.iter().copied()
    }

    /// The fields whose keys are wanted.
    pub(super) fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Fields<'a> {
        let fields = self.fields.iter().filter(|field| is_wanted(field.key.value)).copied().collect();
        Fields::new(self.cx, self.place, fields)
    }

    /// The fields with these keys.
    pub(super) fn values_of(&self, keys: &'static [&'static str]) -> impl Iterator<Item = Field<'a>> + '_ {
        self.iter().filter(|field| is_among(keys, field.key.value))
    }

    /// Its only key and that one's value, if it has one key and the value is a scalar that is not null.
    pub(super) fn only_scalar(&self) -> Option<(&'a str, &'a str)> {
        let [field] = &*self.fields else { return None };
        let scalar = self.cx.doc.scalar(field.node).filter(|scalar| !scalar.is_null())?;
        Some((field.key.value, scalar.value))
    }

    /// The place of a key's value; of the key if the value is empty; of the map if there is no such key.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let Some(field) = self.get(key) else { return self.place };
        let place = self.cx.doc.place(field.node);
        if place.start == place.end { field.key.place } else { place }
    }

    /// A scalar that is not null.
    pub(super) fn text(&self, key: &str) -> Option<Scalar<'a>> {
        let field = self.get(key)?;
        self.cx.text(field.node, || quoted(key), field.key.place)
    }

    /// A scalar that is not the empty text.
    pub(super) fn word(&self, key: &str) -> Option<Scalar<'a>> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.cx.findings.error(text.place, format!("`{key}` is empty"), "give it a value, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// A path. A `~` at its start is not expanded, which is worth a warning.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        let text = self.word(key)?;
        if text.value == "~" || text.value.starts_with("~/") {
            let message = format!("the `~` of {} is not expanded: no shell reads it", quoted(text.value));
            self.cx.findings.warn(text.place, message, "write the full path");
        }
        Some(PathBuf::from(text.value))
    }

    /// A list of scalars; a single scalar is an error.
    pub(super) fn list(&self, key: &str) -> Option<Vec<Scalar<'a>>> {
        let field = self.get(key)?;
        let Value::List(items) = self.cx.doc.value(field.node) else {
            let message = format!("expected a list for `{key}`, found {}", self.cx.kind(field.node));
            self.cx.findings.error(self.place_of(key), message, format!("for example `{key}: [one, two]`"));
            return None;
        };
        self.cx.texts(items, key, field.key.place)
    }

    /// A scalar, or a list of scalars.
    pub(super) fn one_or_more(&self, key: &str) -> Option<Vec<Scalar<'a>>> {
        let field = self.get(key)?;
        match self.cx.doc.value(field.node) {
            Value::List(items) => self.cx.texts(items, key, field.key.place),
            Value::Scalar(_) => self.text(key).map(|text| vec![text]),
            Value::Map(_) => {
                let message = format!("expected a single value or a list for `{key}`, found a map");
                self.cx.findings.error(self.place_of(key), message, format!("for example `{key}: [one, two]`"));
                None
            }
        }
    }

    /// A duration with units.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let text = self.text(key)?;
        self.cx.unit(text, parse_duration(text.value))
    }

    /// A duration above zero.
    pub(super) fn positive_duration(&self, key: &str) -> Option<Duration> {
        let duration = self.duration(key)?;
        if duration.is_zero() {
            self.cx.findings.error(self.place_of(key), format!("`{key}` must be longer than zero"), "for example `30s`");
            return None;
        }
        Some(duration)
    }

    /// A size in bytes, with its unit.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let text = self.text(key)?;
        self.cx.unit(text, parse_size(text.value))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let text = self.text(key)?;
        match text.value {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            other => {
                let message = format!("invalid value {} for `{key}`: expected `true` or `false`", quoted(other));
                self.cx.findings.error(
                    text.place,
                    message,
                    "`yes`, `on` and `1` mean different things to different YAML parsers",
                );
                None
            }
        }
    }

    /// A whole number within a range that fits `T`.
    pub(super) fn number<T: TryFrom<i64>>(&self, key: &str, range: RangeInclusive<i64>) -> Option<T> {
        let text = self.text(key)?;
        let number = self.cx.number(text, &quoted(key), &range)?;
        T::try_from(number).ok()
    }

    /// One exit code, or a list.
    pub(super) fn exit_codes(&self, key: &str) -> Option<Box<[u8]>> {
        let texts = self.one_or_more(key)?;
        let what = quoted(key);
        let codes: Vec<Option<i64>> = texts.into_iter().map(|text| self.cx.number(text, &what, &(0..=255))).collect();
        codes.into_iter().map(|code| code.and_then(|code| u8::try_from(code).ok())).collect()
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let expected = keys::listed(&known, " or ");
            let message = format!("invalid value {} for `{key}`: expected {expected}", quoted(text.value));
            let near = nearest(text.value, known.iter().copied());
            let explained = || "docs/configuration.md explains each of them".to_owned();
            self.cx.findings.error(text.place, message, near.map_or_else(explained, |near| format!("did you mean `{near}`?")));
        }
        found.map(|(_, value)| *value)
    }

    /// A map under a key.
    pub(super) fn map(&self, key: &str, known: &[&str]) -> Option<Fields<'a>> {
        let field = self.get(key)?;
        let is_map = matches!(self.cx.doc.value(field.node), Value::Map(_));
        if !is_map {
            let message = format!("expected a map for `{key}`, found {}", self.cx.kind(field.node));
            let help = format!("known keys: {}", keys::listed(known, ", "));
            self.cx.findings.error(self.place_of(key), message, help);
            return None;
        }
        let mut fields = self.cx.map(field.node, &quoted(key), known)?;
        if fields.fields.is_empty() {
            fields.place = field.key.place;
        }
        Some(fields)
    }

    /// A map under a key whose keys have been read and reported already, for their places.
    pub(super) fn map_silently(&self, key: &str) -> Option<Fields<'a>> {
        let field = self.get(key)?;
        let Value::Map(pairs) = self.cx.doc.value(field.node) else { return None };
        let fields = pairs.iter().filter_map(|(key, node)| Some(Field { key: self.cx.doc.scalar(key)?, node }));
        Some(Fields::new(self.cx, self.cx.doc.place(field.node), fields.collect()))
    }
}
