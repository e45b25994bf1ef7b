//! One entry of `jobs:`.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::common::Common;
use super::document::{NodeId, Scalar};
use super::execution::Execution;
use super::fields::{Cx, Fields};
use super::render::quoted;
use super::trigger::{self, Chosen};
use super::{Job, Notes, Surroundings, doubts, words};
use crate::dag::Condition;
use crate::engine::rules::{JobRules, Policy};
use crate::exec::spec::{Action, Hooks};
use crate::model::TriggerWord;
use crate::triggers::cron::Zone;
use crate::triggers::{JobContext, Place};

/// The longest name: it becomes a part of paths.
const LONGEST_NAME: usize = 128;

pub(super) const DEFAULT_KEEP_RUNS: u32 = 100;
const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(10);

/// What holds for all jobs of the file.
pub(super) struct Shared<'a> {
    pub(super) cx: Cx<'a>,
    pub(super) surroundings: &'a Surroundings,
    pub(super) zone: Zone,
    pub(super) defaults: Execution,
    /// All keys that a job may have.
    pub(super) known: Vec<&'static str>,
    /// What jobs share.
    pub(super) common: Common<'a>,
}

/// A job as far as it could be read.
pub(super) struct Draft<'a> {
    /// Its name, if it has one.
    pub(super) name: Option<Scalar<'a>>,
    /// The names it depends on.
    pub(super) depends_on: Vec<Scalar<'a>>,
    /// Whether it says what triggers it.
    pub(super) has_trigger: bool,
    /// The rest, if all of it is sound.
    pub(super) whole: Option<(Job, JobRules)>,
}

/// The keys of a job.
pub(super) fn known_keys() -> Vec<&'static str> {
    let mut known: Vec<&str> = words::JOB.iter().chain(words::EXECUTION).copied().collect();
    trigger::all_keys().for_each(|key| {
        if !known.contains(&key) {
            known.push(key);
        }
    });
    known
}

impl<'a> Shared<'a> {
    /// Reads a job; every mistake in it is reported.
    pub(super) fn read(&mut self, node: NodeId) -> Option<Draft<'a>> {
        let cx = self.cx;
        let known = &self.known;
        let fields = cx.map_with(node, "a job", known, |key| match words::not_yet(key.value) {
            Some(message) => cx.findings.error(key.place, message, words::NOT_YET_HELP),
            None => cx.report_unknown(key, known),
        })?;
        let name = read_name(&fields);
        let depends_on = read_dependencies(&fields);
        let zone = self.read_zone(&fields);
        let enabled = fields.flag("enabled");
        let tags = fields.list("tags").unwrap_or_default();
        let description = fields.text("description");
        let mut execution = Execution::read(&fields, self.surroundings).or(&self.defaults);
        let cwd: Cow<'_, Path> = match &execution.cwd {
            Some(cwd) => self.surroundings.start_dir.join(cwd).into(),
            None => (&*self.surroundings.start_dir).into(),
        };
        let chosen = trigger::choose(&fields);
        let condition = read_condition(&fields, chosen.as_ref());
        let context =
            JobContext { job: name.map_or("", |name| name.value), zone, cwd: &cwd, machine_seed: self.surroundings.machine_seed };
        let written = chosen.as_ref().and_then(|chosen| chosen.written(zone));
        let trigger = self.common.written(written).or_else(|| {
            let trigger = chosen.as_ref().and_then(|chosen| chosen.build(&context, self.surroundings))?;
            Some(self.common.trigger(trigger, written))
        });
        let has_trigger = fields.has("trigger");
        let draft = |whole| Draft { name, depends_on, has_trigger, whole };
        let (Some(name), Some(trigger)) = (name, trigger) else { return Some(draft(None)) };

        let action = execution.action.take().unwrap_or(Action::Milestone);
        doubts::about_files(&fields, &action, &execution, &cwd, self.surroundings, &mut self.common.sound);
        let kind = trigger.kind();
        if kind == TriggerWord::AfterDeps && !fields.has("depends_on") {
            let help = "add `depends_on`, or make it `trigger: manual`";
            cx.findings.error(fields.place_of("trigger"), "an `after_deps` trigger needs `depends_on`", help);
        }
        let concurrency = execution.concurrency.unwrap_or_else(|| trigger.default_concurrency());
        let policy = Policy {
            condition: condition.unwrap_or_default(),
            concurrency,
            max_parallel: execution.max_parallel,
            timeout: execution.timeout,
            kill_grace: execution.kill_grace.unwrap_or(DEFAULT_KILL_GRACE),
            retry: execution.retry.take(),
            success_exit_codes: execution.success_exit_codes.take().unwrap_or_default(),
        };
        let rules = JobRules {
            name: name.value.into(),
            enabled: enabled.unwrap_or(true),
            trigger: kind,
            timing: trigger.timing(),
            depends_on: Box::default(),
            milestone: action == Action::Milestone,
            policy: self.common.policies.share(policy),
        };
        doubts::about_time(&fields, &rules);
        let notes = Notes {
            description: description.map(|text| text.value.into()),
            tags: tags.iter().map(|tag| tag.value.into()).collect(),
        };
        let job = Job {
            name: Arc::clone(&rules.name),
            notes: (notes != Notes::default()).then(|| Box::new(notes)),
            trigger,
            action: self.common.actions.share(action),
            keep_runs: execution.keep_runs.unwrap_or(DEFAULT_KEEP_RUNS),
            keep_for: execution.keep_for,
            hooks: (execution.hooks != Hooks::default()).then(|| Box::new(std::mem::take(&mut execution.hooks))),
            exec: self.common.specs.share(execution.spec()),
            zone,
        };
        Some(draft(Some((job, rules))))
    }

    fn read_zone(&self, fields: &Fields<'_>) -> Zone {
        fields.text("timezone").map_or(self.zone, |text| parse_zone(self.cx, text).unwrap_or(self.zone))
    }
}

/// Reads a zone's name.
pub(super) fn parse_zone(cx: Cx<'_>, text: Scalar<'_>) -> Option<Zone> {
    match Zone::parse(text.value) {
        Ok(zone) => Some(zone),
        Err(error) => {
            cx.findings.error(text.place, error.message, error.help);
            None
        }
    }
}

fn read_name<'a>(fields: &Fields<'a>) -> Option<Scalar<'a>> {
    if !fields.has("name") {
        fields.cx.findings.error(fields.place, "a job needs a `name`", "for example `- name: backup`");
        return None;
    }
    let name = fields.word("name")?;
    let error = |message: String| {
        let help = "a name has letters, digits, `_`, `-` and `.`, and starts with a letter, a digit or `_`";
        fields.cx.findings.error(name.place, message, help);
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.value.len() > LONGEST_NAME {
        error(format!("the name is longer than {LONGEST_NAME} characters"));
    } else if !name.value.starts_with(fits) {
        error(format!("a name can't begin like {}", quoted(name.value)));
    } else if let Some(bad) = name.value.chars().find(|c| !fits(*c) && !matches!(c, '-' | '.')) {
        error(format!("a name can't hold {}", quoted(&bad.to_string())));
    }
    Some(name)
}

fn read_dependencies<'a>(fields: &Fields<'a>) -> Vec<Scalar<'a>> {
    let names = fields.one_or_more("depends_on").unwrap_or_default();
    let mut known: Vec<(&str, Place)> = Vec::new();
    for name in &names {
        if let Some((_, first)) = known.iter().find(|(other, _)| *other == name.value) {
            let message = format!("the dependency {} stands here twice", quoted(name.value));
            fields.cx.findings.error_of_two(name.place, message, "remove one of them", super::findings::Also::first(*first));
        } else {
            known.push((name.value, name.place));
        }
    }
    names
}

fn read_condition(fields: &Fields<'_>, chosen: Option<&Chosen<'_>>) -> Option<Condition> {
    let in_trigger = chosen.map(Chosen::keys).filter(|keys| keys.has("condition"));
    if let (Some(keys), Some(own)) = (in_trigger, fields.get("condition")) {
        let also = super::findings::Also::first(own.key.place);
        let message = "`condition` stands both in the job and in its trigger".to_owned();
        fields.cx.findings.error_of_two(keys.place_of("condition"), message, "remove one of them", also);
    }
    let at = in_trigger.unwrap_or(fields);
    if at.has("condition") && !fields.has("depends_on") {
        let help = "it says how the jobs of `depends_on` must end";
        fields.cx.findings.error(at.place_of("condition"), "`condition` is of no use without `depends_on`", help);
    }
    at.choice("condition", Condition::WORDS)
}
