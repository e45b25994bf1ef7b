//! The tables as a JSON Schema (2020-12), for editors that complete and check as one writes.
//!
//! It accepts every file that the reader accepts. It refuses what has the wrong shape; what takes the whole file to
//! see (cycles, names, schedules that never fire) is left to `firelink check`.

use serde_json::{Map, Value, json};

use super::{EXECUTION, JOB, Key, Kind, Section, TOP, TRIGGERS};

/// The schema of a configuration.
#[must_use]
pub fn schema() -> Value {
    let mut schema = map_of(&TOP, []);
    let Value::Object(fields) = &mut schema else { return schema };
    fields.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    fields.insert("title".into(), "firelink configuration".into());
    fields.insert("$defs".into(), json!({ "execution": map_of(&EXECUTION, []), "job": job(), "trigger": trigger_map() }));
    schema
}

/// A map with these keys and no others.
fn map_of<'k>(section: &'k Section, more: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    let mut properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), described(key))).collect();
    properties.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    json!({
        "type": "object",
        "description": plain(section.about),
        "required": section.needs,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn described(key: &Key) -> Value {
    let mut value = of_kind(&key.kind);
    if let Value::Object(fields) = &mut value {
        let default = key.unset.in_words().map_or_else(String::new, |unset| format!(" Default: {unset}."));
        fields.insert("description".into(), plain(&format!("{}{default}", key.about)).into());
    }
    value
}

/// Without the marks of Markdown, which not every editor takes away.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// Any scalar is a text: the reader takes what stands there, whatever YAML calls its type.
fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => text(),
        Kind::Flag => json!({ "enum": [true, false, "true", "false", "True", "False", "TRUE", "FALSE"] }),
        Kind::Duration => {
            json!({ "type": "string", "pattern": "^\\s*([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?\\s*$", "minLength": 2 })
        }
        Kind::Size => json!({ "type": "string", "pattern": "^\\s*[0-9]+\\s*([TGMK]i|[TGMk])?B\\s*$" }),
        Kind::Octal => json!({ "type": ["string", "integer"], "pattern": "^(0o)?[0-7]+$", "minimum": 0 }),
        Kind::Number(from, to) => {
            json!({ "type": ["integer", "string"], "minimum": from, "maximum": to, "pattern": "^[+-]?[0-9]+$" })
        }
        // YAML before 1.2 calls `off` a boolean, and editors may read it so.
        Kind::Word(["off"]) => json!({ "enum": ["off", "false", false] }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::List => json!({ "type": "array", "items": text() }),
        Kind::Env => json!({ "type": "object", "additionalProperties": text(), "propertyNames": { "pattern": "^[^=]+$" } }),
        Kind::Map(section) if std::ptr::eq(*section, &raw const EXECUTION) => json!({ "$ref": "#/$defs/execution" }),
        Kind::Map(section) => map_of(section, []),
        Kind::Maps(section) => json!({ "type": "array", "items": map_of(section, []) }),
        Kind::Jobs => json!({ "type": "array", "items": { "$ref": "#/$defs/job" } }),
        Kind::Trigger => json!({ "anyOf": [{ "enum": words_alone() }, { "$ref": "#/$defs/trigger" }] }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of_kind).collect::<Vec<_>>() }),
    }
}

fn is_of_job(name: &str) -> bool {
    JOB.keys.iter().chain(EXECUTION.keys).any(|key| key.name == name)
}

/// Keys that a trigger has when its word stands alone. A key that the job has too is the job's there.
fn flat_keys(trigger: &Section) -> impl Iterator<Item = &Key> {
    trigger.keys.iter().filter(|key| !is_of_job(key.name))
}

/// The types that may stand as a word: one that needs a key which is the job's there can't.
fn words_alone() -> Vec<&'static str> {
    let alone = |section: &&&Section| section.needs.iter().all(|need| !is_of_job(need));
    TRIGGERS.iter().filter(alone).map(|section| section.name).collect()
}

/// A job: its own keys, those of its execution, and those of the trigger that it names by a word.
fn job() -> Value {
    let mut more: Vec<(&str, Value)> = EXECUTION.keys.iter().map(|key| (key.name, described(key))).collect();
    let flat: Vec<&Key> = TRIGGERS.iter().flat_map(|trigger| flat_keys(trigger)).collect();
    more.extend(flat.iter().map(|key| (key.name, described(key))));
    let mut job = map_of(&JOB, more);
    let forbid = |fits: &dyn Fn(&str) -> bool| -> Map<String, Value> {
        flat.iter().filter(|key| !fits(key.name)).map(|key| (key.name.to_owned(), false.into())).collect()
    };
    let mut rules: Vec<Value> = TRIGGERS
        .iter()
        .map(|trigger| {
            let is_word = json!({ "required": ["trigger"], "properties": { "trigger": { "const": trigger.name } } });
            let others = forbid(&|name| trigger.keys.iter().any(|key| key.name == name));
            json!({ "if": is_word, "then": { "required": trigger.needs, "properties": others } })
        })
        .collect();
    let has_word = json!({ "required": ["trigger"], "properties": { "trigger": { "type": "string" } } });
    rules.push(json!({ "if": has_word, "else": { "properties": forbid(&|_| false) } }));
    // What only a look at two keys shows.
    rules.push(json!({ "not": { "required": ["command", "executor"] } }));
    let after_deps = json!({ "anyOf": [{ "const": "after_deps" }, { "type": "object", "properties": { "type": { "const": "after_deps" } } }] });
    rules.push(json!({
        "if": { "required": ["trigger"], "properties": { "trigger": after_deps } },
        "then": { "required": ["depends_on"] },
    }));
    if let Value::Object(fields) = &mut job {
        fields.insert("allOf".into(), rules.into());
        fields.insert("dependentRequired".into(), json!({ "condition": ["depends_on"] }));
    }
    job
}

/// A trigger as a map: one of the types, told by `type`.
fn trigger_map() -> Value {
    let types: Vec<&str> = TRIGGERS.iter().map(|section| section.name).collect();
    let rules: Vec<Value> = TRIGGERS
        .iter()
        .map(|section| {
            let name = section.name;
            json!({ "if": { "properties": { "type": { "const": name } } }, "then": map_of(section, [("type", json!({ "const": name }))]) })
        })
        .collect();
    json!({ "type": "object", "required": ["type"], "properties": { "type": { "enum": types } }, "allOf": rules })
}
