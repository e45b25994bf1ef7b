//! A job's trigger: a type with its keys among those of the job, or a map; both mean the same.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use super::common::Written;
use super::fields::{Cx, Field, Fields, is_among};
use super::{execution, keys, lints};
use crate::cron::Zone;
use crate::exec::spec::Action;
use crate::text::quoted;
use crate::triggers::{JobContext, Keys, Place, REGISTRY, Text, Trigger, TriggerType, find_type};

use super::yaml::{Scalar, Value};

/// The type of a job's trigger, and its keys.
pub(super) struct TypedTrigger<'a> {
    pub(super) kind: &'static TriggerType,
    keys: Fields<'a>,
    /// Of the trigger itself.
    place: Place,
}

/// The keys of every trigger type.
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().flat_map(|kind| kind.keys.iter().copied())
}

/// Finds the trigger's type and keys. `None` after an error, which is reported.
pub(super) fn choose<'a>(job: &Fields<'a>) -> Option<TypedTrigger<'a>> {
    let Some(field) = job.get("trigger") else { return choose_default(job) };
    if let Value::Map(_) = job.cx.doc.value(field.node) {
        let chosen = choose_from_map(job.cx, field);
        if let Some(chosen) = &chosen {
            report_misplaced(job, |key| {
                let message = format!("{} is set outside of the `trigger` map", quoted(key));
                let fits = chosen.kind.keys.contains(&key);
                let help = if fits { "move it into the map" } else { "remove it" };
                Some((message, help.to_owned()))
            });
        }
        return chosen;
    }
    let kind = type_of(job.cx, job.text("trigger")?)?;
    report_misplaced(job, |key| {
        let message = || format!("{} is not a key of `{}` triggers", quoted(key), kind.word);
        (!is_among(kind.keys, key)).then(|| (message(), help_for(key)))
    });
    // `timezone` and `condition` are the job's own keys here, and `command` is what its runs execute.
    let keys = job.only(|key| is_among(kind.keys, key) && !is_of_job(key));
    Some(TypedTrigger { kind, keys, place: job.place_of("trigger") })
}

/// Without `trigger`: `after_deps` with dependencies, else `manual`.
fn choose_default<'a>(job: &Fields<'a>) -> Option<TypedTrigger<'a>> {
    report_misplaced(job, |key| Some((format!("{} is set without a `trigger`", quoted(key)), help_for(key))));
    let word = if job.has("depends_on") { "after_deps" } else { "manual" };
    Some(TypedTrigger { kind: find_type(word)?, keys: job.only(|_| false), place: job.place })
}

fn choose_from_map<'a>(cx: Cx<'a>, field: Field<'a>) -> Option<TypedTrigger<'a>> {
    let Value::Map(pairs) = cx.doc.value(field.node) else { return None };
    let mut scalars = pairs.iter().filter_map(|(key, value)| Some((cx.doc.scalar(key)?, value)));
    let Some((key, value)) = scalars.find(|(key, _)| key.value == "type") else {
        let help = format!("for example `type: cron`; the types are {}", keys::listed(&type_words(), ", "));
        cx.findings.error(field.key.place, "`trigger` needs a `type`", help);
        return None;
    };
    let kind = type_of(cx, cx.text(value, || "`type`".into(), key.place)?)?;
    let known: Vec<&str> = ["type"].into_iter().chain(kind.keys.iter().copied()).collect();
    let what = format!("is not a key of `{}` triggers", kind.word);
    let keys = cx.map_with(field.node, "`trigger`", &known, |key| {
        if all_keys().any(|other| other == key.value) {
            cx.findings.error(key.place, format!("{} {what}", quoted(key.value)), help_for(key.value));
        } else {
            cx.report_unknown(key, &known);
        }
    })?;
    let place = cx.doc.place(value);
    Some(TypedTrigger { kind, keys, place })
}

fn type_words() -> Vec<&'static str> {
    REGISTRY.iter().map(|kind| kind.word).collect()
}

fn type_of(cx: Cx<'_>, word: Scalar<'_>) -> Option<&'static TriggerType> {
    let found = find_type(word.value);
    if found.is_none() {
        let types = type_words();
        let (message, help) = match keys::not_built(word.value) {
            Some(message) => (message, keys::NOT_BUILT_HELP.to_owned()),
            None => {
                let near = keys::did_you_mean(word.value, types.iter().copied());
                (
                    format!("unknown trigger type {}{near}", quoted(word.value)),
                    format!("expected {}", keys::listed(&types, " or ")),
                )
            }
        };
        cx.findings.error(word.place, message, help);
    }
    found
}

/// Reports keys of triggers in the job that have no effect there.
fn report_misplaced(job: &Fields<'_>, wrong: impl Fn(&str) -> Option<(String, String)>) {
    // The job's other keys are known, so they belong to some trigger.
    for field in job.iter().filter(|field| !is_of_job(field.key.value)) {
        if let Some((message, help)) = wrong(field.key.value) {
            job.cx.findings.error(field.key.place, message, help);
        }
    }
}

fn is_of_job(key: &str) -> bool {
    is_among(keys::JOB, key) || is_among(keys::EXECUTION, key)
}

fn help_for(key: &str) -> String {
    let types: Vec<&str> = REGISTRY.iter().filter(|kind| kind.keys.contains(&key)).map(|kind| kind.word).collect();
    let of_job = if keys::EXECUTION.contains(&key) { "the job itself, and of " } else { "" };
    format!("it is a key of {of_job}{} triggers", keys::listed(&types, " and "))
}

impl<'a> TypedTrigger<'a> {
    /// Builds the trigger. `None` after an error, which is reported.
    pub(super) fn build(&self, context: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
        let mut keys = TriggerKeys { fields: Cow::Borrowed(&self.keys), place: self.place, cwd: context.cwd };
        (self.kind.build)(&mut keys, context)
    }

    /// Its whole input, if that is a single schedule or interval, which builds the same trigger for every job.
    pub(super) fn written(&self, zone: Zone) -> Option<Written<'a>> {
        let (field, text) = self.keys.only_scalar()?;
        let is_time = matches!((self.kind.word, field), ("cron", "schedule") | ("interval", "every"));
        is_time.then_some((self.kind.word, text, zone))
    }

    /// Its keys, some of which the job reads itself.
    pub(super) fn keys(&self) -> &Fields<'a> {
        &self.keys
    }
}

/// The keys of one trigger, or of a map in it.
struct TriggerKeys<'a> {
    fields: Cow<'a, Fields<'a>>,
    place: Place,
    /// Programs are looked for from here.
    cwd: &'a Path,
}

fn to_text(scalar: Scalar<'_>) -> Text {
    Text { value: scalar.value.to_owned(), place: scalar.place, verbatim_at: scalar.verbatim_at }
}

impl Keys for TriggerKeys<'_> {
    fn has(&self, key: &str) -> bool {
        self.fields.has(key)
    }

    fn place(&self, key: &str) -> Place {
        if self.fields.has(key) { self.fields.place_of(key) } else { self.place }
    }

    fn text(&mut self, key: &str) -> Option<Text> {
        self.fields.text(key).map(to_text)
    }

    fn texts(&mut self, key: &str) -> Vec<Text> {
        let Some(field) = self.fields.get(key) else { return Vec::new() };
        if matches!(self.fields.cx.doc.value(field.node), Value::List([])) {
            self.fields.cx.findings.error(self.fields.place_of(key), format!("the list of `{key}` is empty"), "add an item");
        }
        self.fields.one_or_more(key).unwrap_or_default().into_iter().map(to_text).collect()
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        self.fields.duration(key)
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.fields.flag(key)
    }

    fn command(&mut self, key: &str) -> Option<Action> {
        let action = execution::read_command(&self.fields, key, "name the program that emits the events")?;
        let place = self.fields.place_of(key);
        lints::lint_program(self.fields.cx, &action, self.cwd, place, "the trigger");
        Some(action)
    }

    fn map(&mut self, key: &str, allowed: &[&str]) -> Option<Box<dyn Keys + '_>> {
        let field = self.fields.get(key)?;
        if !matches!(self.fields.cx.doc.value(field.node), Value::Map(_)) {
            return None;
        }
        let fields = self.fields.map(key, allowed)?;
        Some(Box::new(TriggerKeys { place: fields.place, fields: Cow::Owned(fields), cwd: self.cwd }))
    }

    fn error(&mut self, place: Place, message: String, help: String) {
        self.fields.cx.findings.error(place, message, help);
    }

    fn warn(&mut self, place: Place, message: String, help: String) {
        self.fields.cx.findings.warn(place, message, help);
    }
}
