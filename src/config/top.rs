//! The file as a whole.

use std::path::Path;
use std::time::Duration;

use super::common::Common;
use super::draft::Draft;
use super::execution::Execution;
use super::fields::{Cx, Fields};
use super::findings::Findings;
use super::job::{Shared, known_keys, parse_zone};
#[cfg(feature = "notify")]
use super::notify;
use super::yaml::{Document, Value};
use super::{Config, OnStop, Surroundings, Sync, defaults, graph, keys, lints, metrics, web};
use crate::cron::Zone;
use crate::engine::rules::Rules;
use crate::store::Durability;
use crate::text::quoted;

/// The words of `on_stop`.
pub(super) const ON_STOP: &[(&str, OnStop)] = &[("wait", OnStop::Wait), ("leave", OnStop::Leave)];

/// The words of `state.durability`.
pub(super) const DURABILITY: &[(&str, Durability)] = &[("normal", Durability::Normal), ("full", Durability::Full)];

/// Reads everything. The result is complete only if no error was reported.
pub(super) fn read(path: &Path, doc: &Document<'_>, findings: &Findings, surroundings: &Surroundings) -> Option<Config> {
    let cx = Cx { doc, findings };
    let fields = cx.map_with(doc.root(), "a configuration", keys::TOP, |key| match keys::not_built(key.value) {
        Some(message) => findings.error(key.place, message, keys::NOT_BUILT_HELP),
        None => cx.report_unknown(key, keys::TOP),
    })?;
    let zone = fields.text("timezone").and_then(|text| parse_zone(cx, text)).unwrap_or_else(Zone::system);
    let defaults = read_defaults(&fields, surroundings);
    let (keep_runs, keep_for) =
        (defaults.as_ref().and_then(|defaults| defaults.keep_runs), defaults.as_ref().and_then(|defaults| defaults.keep_for));
    let state = read_state(&fields, surroundings);
    let max_parallel = fields.number("max_parallel", 1..=10_000);
    let grace = fields.duration("grace");
    let wait_for_clock = read_wait_for_clock(&fields);
    let shutdown_timeout = fields.duration("shutdown_timeout");
    let on_stop = fields.choice("on_stop", ON_STOP);
    let state_dir = fields.path("state_dir").map(|dir| surroundings.start_dir.join(dir));
    let web = web::read_web(&fields, surroundings);
    let metrics = metrics::read(&fields, surroundings);

    let (known, common) = (known_keys(), Common::default());
    let mut shared = Shared { cx, surroundings, zone, defaults, known, common, jobs: Vec::new(), rules: Vec::new() };
    let drafts = read_jobs(&fields, &mut shared);
    #[cfg(feature = "notify")]
    let notify = notify::read(&fields, surroundings, &drafts);
    let edges = graph::resolve(cx, &drafts);
    if findings.errors() == 0 {
        lints::lint_jobs(cx, &drafts);
    }
    let Shared { jobs, mut rules, .. } = shared;
    if rules.len() < drafts.len() {
        return None;
    }
    for (rules, depends_on) in rules.iter_mut().zip(edges) {
        rules.depends_on = depends_on;
    }
    Some(Config {
        path: path.to_owned(),
        jobs,
        rules: Rules {
            jobs: rules,
            max_parallel: max_parallel.unwrap_or(defaults::MAX_PARALLEL),
            grace: grace.unwrap_or(defaults::GRACE),
            wait_for_clock,
        },
        zone,
        shutdown_timeout: shutdown_timeout.unwrap_or(defaults::SHUTDOWN_TIMEOUT),
        on_stop: on_stop.unwrap_or_default(),
        keep_runs: keep_runs.unwrap_or(defaults::KEEP_RUNS),
        keep_for,
        state_dir,
        durability: state.durability.unwrap_or_default(),
        commit_every: state.commit_every.unwrap_or(defaults::COMMIT_EVERY),
        sync: state.sync,
        web,
        metrics,
        #[cfg(feature = "notify")]
        notify,
        warnings: Vec::new(),
    })
}

fn read_jobs<'a>(fields: &Fields<'a>, shared: &mut Shared<'a>) -> Vec<Draft<'a>> {
    let cx = fields.cx;
    let Some(field) = fields.get("jobs") else {
        cx.findings.error(fields.place, "missing key `jobs`", "a configuration has `jobs:`, a list of maps with a `name` each");
        return Vec::new();
    };
    let Value::List(items) = cx.doc.value(field.node) else {
        let help = "start each job with `- name: ...`";
        cx.findings.error(fields.place_of("jobs"), format!("expected a list for `jobs`, found {}", cx.kind(field.node)), help);
        return Vec::new();
    };
    if items.is_empty() {
        cx.findings.warn(
            fields.place_of("jobs"),
            "the list of jobs is empty: nothing will ever run",
            "start a job with `- name: ...`",
        );
    }
    shared.jobs.reserve_exact(items.len());
    shared.rules.reserve_exact(items.len());
    let mut drafts = Vec::with_capacity(items.len());
    drafts.extend(items.iter().filter_map(|item| shared.read(*item)));
    drafts
}

fn read_defaults(fields: &Fields<'_>, surroundings: &Surroundings) -> Option<Execution> {
    let field = fields.get("defaults")?;
    let cx = fields.cx;
    let jobs = known_keys();
    let defaults = cx.map_with(field.node, "`defaults`", keys::EXECUTION, |key| match keys::not_built(key.value) {
        Some(message) => cx.findings.error(key.place, message, keys::NOT_BUILT_HELP),
        None if jobs.contains(&key.value) => {
            let message = format!("{} is not allowed in `defaults`", quoted(key.value));
            cx.findings.error(key.place, message, "move it into the jobs that need it");
        }
        None => cx.report_unknown(key, keys::EXECUTION),
    });
    defaults.map(|defaults| Execution::read(&defaults, surroundings))
}

/// The values of the map `state`.
#[derive(Default)]
struct State {
    durability: Option<Durability>,
    commit_every: Option<Duration>,
    sync: Option<Sync>,
}

fn read_state(fields: &Fields<'_>, surroundings: &Surroundings) -> State {
    let Some(state) = fields.map("state", keys::STATE) else { return State::default() };
    let every = state.positive_duration("sync_every");
    let to = state.path("sync_to").map(|dir| surroundings.start_dir.join(dir));
    if every.is_some() && to.is_none() {
        let help = "name the directory of the copy: `sync_to: /var/lib/firelink`";
        fields.cx.findings.error(state.place_of("sync_every"), "`sync_every` needs `sync_to`", help);
    }
    State {
        durability: state.choice("durability", DURABILITY),
        commit_every: state.duration("commit_every"),
        sync: to.map(|to| Sync { to, every: every.unwrap_or(defaults::SYNC_EVERY) }),
    }
}

fn read_wait_for_clock(fields: &Fields<'_>) -> Option<Duration> {
    let text = fields.cx.doc.scalar(fields.get("wait_for_clock")?.node);
    if text.is_some_and(|text| matches!(text.value, "off" | "false")) {
        return None;
    }
    fields.positive_duration("wait_for_clock")
}
