//! One entry of `jobs:`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::common::{Common, Likeness, Made};
use super::draft::Draft;
use super::execution::{self, Execution};
use super::fields::{Cx, Fields};
use super::trigger::{self, TypedTrigger};
use super::yaml::{NodeId, Scalar};
use super::{Job, Notes, Surroundings, defaults, keys, lints};
use crate::cron::Zone;
use crate::dag::Condition;
use crate::engine::rules::{JobRules, Policy};
use crate::engine::timing::Concurrency;
use crate::exec::spec::{Action, Hooks};
use crate::model::TriggerWord;
use crate::text::quoted;
use crate::triggers::{JobContext, Place};

/// The longest name, in bytes: it becomes a part of paths.
const LONGEST_NAME: usize = 128;

/// The state of reading `jobs`.
pub(super) struct Shared<'a> {
    pub(super) cx: Cx<'a>,
    pub(super) surroundings: &'a Surroundings,
    pub(super) zone: Zone,
    pub(super) defaults: Option<Execution>,
    /// All keys of jobs, those of triggers included.
    pub(super) known: Vec<&'static str>,
    /// Parts that jobs share.
    pub(super) common: Common<'a>,
    /// The jobs without errors so far.
    pub(super) jobs: Vec<Job>,
    /// Their rules, by the same index.
    pub(super) rules: Vec<JobRules>,
}

/// The execution keys of a job, as far as they were read.
enum ExecutionKeys<'a> {
    /// Equal to those of the previous job.
    Same(Made<'a>),
    /// Equal to those of the previous job but for this command.
    OtherCommand(Made<'a>, Option<Action>),
    Read(Box<Execution>),
}

impl ExecutionKeys<'_> {
    fn cwd(&self) -> Option<&PathBuf> {
        match self {
            ExecutionKeys::Same(last) | ExecutionKeys::OtherCommand(last, _) => last.exec.cwd.as_ref(),
            ExecutionKeys::Read(execution) => execution.cwd.as_ref(),
        }
    }
}

/// The keys of a job.
pub(super) fn known_keys() -> Vec<&'static str> {
    let mut known: Vec<&str> = keys::JOB.iter().chain(keys::EXECUTION).copied().collect();
    trigger::all_keys().for_each(|key| {
        if !known.contains(&key) {
            known.push(key);
        }
    });
    known
}

impl<'a> Shared<'a> {
    /// Reads a job and reports every error in it.
    pub(super) fn read(&mut self, node: NodeId) -> Option<Draft<'a>> {
        let cx = self.cx;
        let findings_before = cx.findings.count();
        let known = &self.known;
        let fields = cx.map_with(node, "a job", known, |key| match keys::not_built(key.value) {
            Some(message) => cx.findings.error(key.place, message, keys::NOT_BUILT_HELP),
            None => cx.report_unknown(key, known),
        })?;
        let name = read_name(&fields);
        let depends_on = read_dependencies(&fields);
        let zone = self.read_zone(&fields);
        let enabled = fields.flag("enabled");
        let tags = fields.list("tags").unwrap_or_default();
        let description = fields.text("description");
        let execution = self.read_execution(&fields);
        let cwd: Cow<'_, Path> = match execution.cwd() {
            Some(cwd) => self.surroundings.start_dir.join(cwd).into(),
            None => (&*self.surroundings.start_dir).into(),
        };
        let chosen = trigger::choose(&fields);
        let condition = read_condition(&fields, chosen.as_ref());
        let context =
            JobContext { job: name.map_or("", |name| name.value), zone, cwd: &cwd, machine_seed: self.surroundings.machine_seed };
        let written = chosen.as_ref().and_then(|chosen| chosen.written(zone));
        let trigger = self.common.written(written).or_else(|| {
            let trigger = chosen.as_ref().and_then(|chosen| chosen.build(&context))?;
            Some(self.common.trigger(trigger, written))
        });
        let has_trigger = fields.has("trigger");
        let draft = |enabled| Draft { name, depends_on, has_trigger, enabled };
        let (Some(name), Some(trigger)) = (name, trigger) else { return Some(draft(None)) };

        let kind = trigger.kind();
        if kind == TriggerWord::AfterDeps && !fields.has("depends_on") {
            let help = "add `depends_on`, or make it `trigger: manual`";
            cx.findings.error(fields.place_of("trigger"), "an `after_deps` trigger needs `depends_on`", help);
        }
        let made = self.make(&fields, execution, &cwd, condition.unwrap_or_default(), trigger.default_concurrency());
        let rules = JobRules {
            name: name.value.into(),
            enabled: enabled.unwrap_or(defaults::ENABLED),
            trigger: kind,
            timing: trigger.timing(),
            depends_on: Box::default(),
            milestone: *made.action == Action::Milestone,
            policy: Arc::clone(&made.policy),
        };
        lints::lint_timeout(&fields, &rules);
        let notes = Notes {
            description: description.map(|text| text.value.into()),
            tags: tags.iter().map(|tag| tag.value.into()).collect(),
        };
        let job = Job {
            name: Arc::clone(&rules.name),
            notes: (notes != Notes::default()).then(|| Box::new(notes)),
            trigger,
            action: Arc::clone(&made.action),
            keep_runs: made.keep_runs,
            keep_for: made.keep_for,
            hooks: (made.hooks != Hooks::default()).then(|| Box::new(made.hooks.clone())),
            exec: Arc::clone(&made.exec),
            zone,
        };
        let enabled = rules.enabled;
        self.jobs.push(job);
        self.rules.push(rules);
        if cx.findings.count() == findings_before {
            self.common.last = Some(made);
        }
        Some(draft(Some(enabled)))
    }

    /// Reads the execution keys, unless they equal those of the previous job.
    fn read_execution(&mut self, fields: &Fields<'a>) -> ExecutionKeys<'a> {
        let last = self.common.last.take().and_then(|last| Some((last.likeness(fields)?, last)));
        match last {
            Some((Likeness::Same, last)) => ExecutionKeys::Same(last),
            Some((Likeness::OtherCommand, last)) => ExecutionKeys::OtherCommand(last, execution::read_job_command(fields)),
            None => {
                let read = Execution::read(fields, self.surroundings);
                ExecutionKeys::Read(Box::new(match &self.defaults {
                    Some(defaults) => read.or(defaults),
                    None => read,
                }))
            }
        }
    }

    fn make(
        &mut self,
        fields: &Fields<'a>,
        execution: ExecutionKeys<'a>,
        cwd: &Path,
        condition: Condition,
        usual: Concurrency,
    ) -> Made<'a> {
        let common = &mut self.common;
        let mut made = match execution {
            ExecutionKeys::Same(last) => last,
            ExecutionKeys::OtherCommand(last, action) => {
                let by_default = || self.defaults.as_ref().and_then(|defaults| defaults.action.clone());
                let action = action.or_else(by_default).unwrap_or(Action::Milestone);
                lints::lint_command(fields, &action, cwd);
                let written = fields.values_of(keys::EXECUTION).collect();
                Made { written, action: common.actions.share(action), ..last }
            }
            ExecutionKeys::Read(mut execution) => {
                let action = execution.action.take().unwrap_or(Action::Milestone);
                lints::lint_command(fields, &action, cwd);
                lints::lint_paths(fields, &execution, cwd);
                lints::lint_kill_mode(fields, &execution);
                let policy = Policy {
                    condition,
                    concurrency: execution.concurrency.unwrap_or(usual),
                    max_parallel: execution.max_parallel,
                    timeout: execution.timeout,
                    kill_grace: execution.kill_grace.unwrap_or(defaults::KILL_GRACE),
                    retry: execution.retry.take(),
                    success_exit_codes: execution.success_exit_codes.take().unwrap_or_default(),
                };
                Made {
                    written: fields.values_of(keys::EXECUTION).collect(),
                    action: common.actions.share(action),
                    policy: common.policies.share(policy),
                    concurrency: execution.concurrency,
                    hooks: std::mem::take(&mut execution.hooks),
                    keep_runs: execution.keep_runs.unwrap_or(defaults::KEEP_RUNS),
                    keep_for: execution.keep_for,
                    exec: common.specs.share(execution.spec()),
                }
            }
        };
        // These two depend on other keys, too.
        let concurrency = made.concurrency.unwrap_or(usual);
        if (made.policy.condition, made.policy.concurrency) != (condition, concurrency) {
            made.policy = common.policies.share(Policy { condition, concurrency, ..Policy::clone(&made.policy) });
        }
        made
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
        let help = "a name consists of letters, digits, `_`, `-` and `.`, and starts with a letter, a digit or `_`";
        fields.cx.findings.error(name.place, message, help);
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.value.len() > LONGEST_NAME {
        error(format!("invalid job name: longer than {LONGEST_NAME} characters"));
    } else if !name.value.starts_with(fits) {
        error(format!("invalid job name {}: its first character is not allowed there", quoted(name.value)));
    } else if let Some(bad) = name.value.chars().find(|c| !fits(*c) && !matches!(c, '-' | '.')) {
        error(format!("invalid job name {}: {} is not allowed", quoted(name.value), quoted(&bad.to_string())));
    }
    Some(name)
}

fn read_dependencies<'a>(fields: &Fields<'a>) -> Vec<Scalar<'a>> {
    let names = fields.one_or_more("depends_on").unwrap_or_default();
    let mut known: HashMap<&str, Place> = HashMap::with_capacity(names.len());
    for name in &names {
        if let Some(first) = known.get(name.value) {
            let message = format!("duplicate dependency {}", quoted(name.value));
            fields.cx.findings.error_of_two(name.place, message, "remove one of them", super::findings::Also::first(*first));
        } else {
            known.insert(name.value, name.place);
        }
    }
    names
}

fn read_condition(fields: &Fields<'_>, chosen: Option<&TypedTrigger<'_>>) -> Option<Condition> {
    let in_trigger = chosen.map(TypedTrigger::keys).filter(|keys| keys.has("condition"));
    if let (Some(keys), Some(own)) = (in_trigger, fields.get("condition")) {
        let also = super::findings::Also::first(own.key.place);
        let message = "`condition` is set both in the job and in its trigger".to_owned();
        fields.cx.findings.error_of_two(keys.place_of("condition"), message, "remove one of them", also);
    }
    let at = in_trigger.unwrap_or(fields);
    if at.has("condition") && !fields.has("depends_on") {
        let help = "it says how the jobs of `depends_on` must end";
        fields.cx.findings.error(at.place_of("condition"), "`condition` has no effect without `depends_on`", help);
    }
    at.choice("condition", Condition::WORDS)
}
