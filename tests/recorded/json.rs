//! JSON that keeps the order of its keys, and the normalizer under which two answers are compared.

use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value; a map keeps the order of its keys, a number its notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = from.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Map(entries))
    }
}

impl Json {
    pub fn parse(text: &str) -> Json {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let Json::Map(entries) = self else { return None };
        entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub fn items(&self) -> &[Json] {
        match self {
            Json::List(items) => items,
            other => panic!("not a list: {other:?}"),
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<u64> {
        match self {
            Json::Number(number) => number.parse().ok(),
            _ => None,
        }
    }

    /// One value a line, so that two texts can be compared by line.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text.push('\n');
        text
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let lines = self.lines();
        let parts: Vec<&str> = lines.lines().map(str::trim_start).collect();
        parts.join(" ") + "\n"
    }

    fn write(&self, to: &mut String, depth: usize) {
        let quoted = |text: &str| serde_json::to_string(text).expect("a text is JSON");
        let begin = |to: &mut String, index: usize| {
            let _ = write!(to, "{}\n{:width$}", if index == 0 { "" } else { "," }, "", width = 2 * depth + 2);
        };
        let end = |to: &mut String| {
            let _ = write!(to, "\n{:width$}", "", width = 2 * depth);
        };
        match self {
            Json::Null => to.push_str("null"),
            Json::Bool(value) => to.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => to.push_str(number),
            Json::Text(text) => to.push_str(&quoted(text)),
            Json::List(items) if items.is_empty() => to.push_str("[]"),
            Json::Map(entries) if entries.is_empty() => to.push_str("{}"),
            Json::List(items) => {
                to.push('[');
                for (index, item) in items.iter().enumerate() {
                    begin(to, index);
                    item.write(to, depth + 1);
                }
                end(to);
                to.push(']');
            }
            Json::Map(entries) => {
                to.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    begin(to, index);
                    to.push_str(&quoted(key));
                    to.push_str(": ");
                    value.write(to, depth + 1);
                }
                end(to);
                to.push('}');
            }
        }
    }
}

/// Keys whose value is prose, which may be reworded. A `null` stays a `null`.
const PROSE: [&str; 6] = ["message", "help", "reason", "last_error", "description", "title"];

/// Keys whose value is a list of prose, of which the length counts.
const PROSES: [&str; 1] = ["warnings"];

/// Keys whose value is an instant of the recording.
const INSTANTS: [&str; 7] = ["started_at", "ended_at", "scheduled_at", "next_at", "last_ok_at", "last_modified", "modified"];

/// Replaces what differs between two boxes, two days or two versions, and nothing else: an instant only where it is one in
/// UTC, a pid only where it is a positive number, a version only where it is one. Whatever fits no rule stays, and differs.
pub fn normalized(value: &Json, jobs: &[&str]) -> Json {
    under("", value, jobs)
}

fn under(key: &str, value: &Json, jobs: &[&str]) -> Json {
    match value {
        Json::Map(entries) => Json::Map(entries.iter().map(|(key, value)| (key.clone(), under(key, value, jobs))).collect()),
        // In a report these are objects with a place, in a status plain sentences.
        Json::List(items) if PROSES.contains(&key) && items.iter().all(|item| item.text().is_some()) => {
            Json::List(vec![Json::Text("<prose>".into()); items.len()])
        }
        Json::List(items) => Json::List(items.iter().map(|item| under(key, item, jobs)).collect()),
        Json::Text(text) => Json::Text(text_under(key, text, jobs)),
        Json::Number(number) if key == "pid" && number.parse::<u32>().is_ok_and(|pid| pid > 0) => Json::Number("<pid>".into()),
        other => other.clone(),
    }
}

fn text_under(key: &str, text: &str, jobs: &[&str]) -> String {
    if PROSE.contains(&key) {
        return "<prose>".into();
    }
    if INSTANTS.contains(&key) && is_instant(text) {
        return "<instant>".into();
    }
    if key == "version" && text.split('.').count() == 3 && text.split('.').all(|part| part.parse::<u32>().is_ok()) {
        return "<version>".into();
    }
    if key == "waiting_for" {
        // A job and, in parentheses, a word about it; or prose.
        let name = text.split(' ').next().unwrap_or_default();
        return if jobs.contains(&name) { text.to_owned() } else { "<prose>".into() };
    }
    text.to_owned()
}

/// `2026-11-28T18:20:30.123456789+00:00` and shorter fractions; in events, which sources write, also with `Z`.
fn is_instant(text: &str) -> bool {
    (text.ends_with("+00:00") || text.ends_with('Z')) && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}
