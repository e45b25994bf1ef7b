//! A YAML text as the JSON value that an editor checks against a schema: types by the core schema of YAML 1.2.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// The most values of a document, those behind aliases included: one of the wrong files is an alias bomb.
const MAX_VALUES: usize = 100_000;

/// The value of a text of one document.
///
/// # Errors
/// What the parser says, a duplicate key, a key that is no scalar, or a merge of no map.
pub fn to_json(text: &str) -> Result<Value, String> {
    let mut reader = Reader { events: Vec::new(), anchors: HashMap::new(), values: 0 };
    for event in Parser::new_from_str(text) {
        reader.events.push(event.map_err(|error| error.to_string())?.0);
    }
    reader
        .events
        .retain(|event| !matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd));
    if reader.events.is_empty() {
        return Ok(Value::Null);
    }
    reader.events.reverse();
    let value = reader.value()?;
    if reader.events.is_empty() { Ok(value) } else { Err("more than one document".into()) }
}

struct Reader<'t> {
    /// The next one last.
    events: Vec<Event<'t>>,
    /// The value of each anchor, and the number of values in it.
    anchors: HashMap<usize, (Value, usize)>,
    /// The number of values so far.
    values: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, String> {
        let before = self.values;
        self.count(1)?;
        let (value, anchor) = match self.events.pop().ok_or("the events end early")? {
            Event::Alias(anchor) => {
                let values = self.anchors.get(&anchor).ok_or("an alias in its own value")?.1;
                self.count(values)?;
                return Ok(self.anchors[&anchor].0.clone());
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                (if is_text { Value::String(text.into_owned()) } else { plain(&text) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                while !matches!(self.events.last(), Some(Event::SequenceEnd)) {
                    items.push(self.value()?);
                }
                self.events.pop();
                (Value::Array(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let (mut map, mut merged) = (Map::new(), Vec::new());
                while !matches!(self.events.last(), Some(Event::MappingEnd)) {
                    let Some(Event::Scalar(key, ..)) = self.events.pop() else { return Err("a key that is no scalar".into()) };
                    let value = self.value()?;
                    match (&*key, value) {
                        ("<<", Value::Array(maps)) => merged.extend(maps),
                        ("<<", value) => merged.push(value),
                        (_, value) => {
                            if map.insert(key.to_string(), value).is_some() {
                                return Err(format!("duplicate key {key}"));
                            }
                        }
                    }
                }
                self.events.pop();
                for value in merged {
                    let Value::Object(pairs) = value else { return Err("a merge of no map".into()) };
                    pairs.into_iter().for_each(|(key, value)| {
                        map.entry(key).or_insert(value);
                    });
                }
                (Value::Object(map), anchor)
            }
            other => return Err(format!("unexpected {other:?}")),
        };
        if anchor > 0 {
            let values = self.values - before;
            self.count(values)?;
            self.anchors.insert(anchor, (value.clone(), values));
        }
        Ok(value)
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MAX_VALUES { Err(format!("more than {MAX_VALUES} values")) } else { Ok(()) }
    }
}

fn plain(text: &str) -> Value {
    let is_number = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ if !is_number => text.into(),
        _ => {
            let hex = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
            let octal = text.strip_prefix("0o").and_then(|digits| i64::from_str_radix(digits, 8).ok());
            match (hex.or(octal).or_else(|| text.parse().ok()), text.parse::<f64>()) {
                (Some(number), _) => number.into(),
                (None, Ok(number)) => number.into(),
                (None, Err(_)) => text.into(),
            }
        }
    }
}
