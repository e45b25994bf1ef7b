//! Warnings: legal but likely wrong. The file loads; each lint says what will happen and how to avoid it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Surroundings;
use super::draft::Draft;
use super::execution::Execution;
use super::fields::{Cx, Fields};
use super::findings::Findings;
use super::looks::{Look, Looked, NamedFor, NotLooked, PathLint};
use crate::engine::rules::JobRules;
use crate::engine::timing::{Concurrency, Timing, WallTiming};
use crate::exec::spec::Action;
use crate::model::{WallTime, format_duration};
use crate::text::quoted;
use crate::triggers::Place;

/// Jobs that nothing triggers, and dependencies on disabled jobs. Only for a file without errors: a misspelt trigger is
/// reported as that.
pub(super) fn lint_jobs(cx: Cx<'_>, drafts: &[Draft<'_>]) {
    let disabled: HashSet<&str> = drafts.iter().filter(|draft| draft.enabled == Some(false)).filter_map(name_of).collect();
    for draft in drafts {
        let (Some(name), Some(true)) = (draft.name, draft.enabled) else { continue };
        if !draft.has_trigger && draft.depends_on.is_empty() {
            let help = "give it a `trigger` or `depends_on`; `trigger: manual` says that only a person starts it";
            cx.findings.warn(name.place, format!("nothing triggers {}", quoted(name.value)), help);
        }
        for upstream in draft.depends_on.iter().filter(|upstream| disabled.contains(upstream.value)) {
            let message = format!("{} waits for {}, which is disabled", quoted(name.value), quoted(upstream.value));
            cx.findings.warn(upstream.place, message, "remove the dependency, or enable that job");
        }
    }
}

fn name_of<'a>(draft: &Draft<'a>) -> Option<&'a str> {
    draft.name.map(|name| name.value)
}

/// A timeout longer than the time until the next firing.
pub(super) fn lint_timeout(fields: &Fields<'_>, rules: &JobRules) {
    // A timeout of `defaults` is a safety net for all jobs.
    let Some(timeout) = rules.policy.timeout.filter(|_| rules.policy.concurrency == Concurrency::Forbid && fields.has("timeout"))
    else {
        return;
    };
    let (period, what) = match &rules.timing {
        Timing::Every(grid) => (grid.period, "interval"),
        Timing::Wall(wall) => match usual_period(wall) {
            Some(period) => (period, "time between two firings"),
            None => return,
        },
        Timing::Startup | Timing::None => return,
    };
    if timeout > period {
        let period = format_duration(period);
        let message = format!("the timeout is longer than the {what} ({period}): the run after a slow one will be `skipped`");
        fields.cx.findings.warn(fields.place_of("timeout"), message, "`concurrency: queue` lets it wait instead");
    }
}

/// The time between the first two firings of a year: good enough for a warning, and the same in every run.
fn usual_period(wall: &WallTiming) -> Option<Duration> {
    const NEW_YEAR_2026: Duration = Duration::from_secs(1_767_225_600);
    let first = wall.next_after(WallTime::from_nanos(0) + NEW_YEAR_2026)?;
    let second = wall.next_after(first)?;
    Some(second.since(first))
}

/// The program or script of a job.
pub(super) fn lint_command(fields: &Fields<'_>, action: &Action, cwd: &Path) {
    let executor = fields.get("executor").and_then(|_| fields.map_silently("executor"));
    let place = executor.map_or_else(|| fields.place_of("command"), |executor| executor.place_of("script"));
    lint_program(fields.cx, action, cwd, place, "runs");
}

/// The working directory and `env_file` of a job.
pub(super) fn lint_paths(fields: &Fields<'_>, execution: &Execution, cwd: &Path) {
    let lint = |path: &dyn Fn() -> PathBuf, key, what| {
        fields.cx.findings.look_later(|| PathLint { path: path(), place: fields.place_of(key), what });
    };
    if execution.cwd.is_some() {
        lint(&|| cwd.to_owned(), "cwd", NamedFor::Cwd);
    }
    // One of `defaults` is the same for every job, and is not checked ten thousand times.
    if let Some(file) = execution.env_file.as_ref().filter(|_| fields.has("env_file")) {
        lint(&|| cwd.join(file), "env_file", NamedFor::EnvFile);
    }
}

/// A run that leaves processes in its own control group.
pub(super) fn lint_kill_mode(fields: &Fields<'_>, execution: &Execution) {
    // Both may be in `defaults`, which are the same for every job.
    let Some(key) = ["kill_mode", "limits"].into_iter().find(|key| fields.has(key)) else { return };
    if execution.leaves_under_limits() {
        let message = "with `kill_mode: main`, `limits.memory` and `limits.pids` go on to bound what a run leaves behind";
        let help = "in a control group it stays under the limits of its run; a service with limits of its own belongs under the init system";
        fields.cx.findings.warn(fields.place_of(key), message, help);
    }
}

/// The directory of the metrics text file.
pub(super) fn lint_textfile(cx: Cx<'_>, directory: &Path, place: Place) {
    cx.findings.look_later(|| PathLint { path: directory.to_owned(), place, what: NamedFor::Textfile });
}

/// A script or program that will not start, and one that others may change while it runs as root. `role` names what will
/// fail.
pub(super) fn lint_program(cx: Cx<'_>, action: &Action, cwd: &Path, place: Place, role: &'static str) {
    if let Some((path, must_execute)) = file_of(action, cwd) {
        let what = NamedFor::Program { must_execute, role };
        cx.findings.look_later(|| PathLint { path: path.into_owned(), place, what });
    }
}

/// The script or program that an action names by its path, and whether it must be executable.
fn file_of<'a>(action: &'a Action, cwd: &Path) -> Option<(Cow<'a, Path>, bool)> {
    let from_cwd = |path: &'a Path| if path.is_absolute() { path.into() } else { cwd.join(path).into() };
    match action {
        Action::Script { script, .. } => Some((from_cwd(script), false)),
        Action::Argv(argv) => {
            let program = argv.first().filter(|program| program.contains('/'))?;
            Some((from_cwd(Path::new(&**program)), true))
        }
        Action::Milestone | Action::Shell(_) => None,
    }
}

/// Looks at all paths, each once.
pub(super) fn lint_files(findings: &Findings, look: Look<'_>, surroundings: &Surroundings) {
    let lints = findings.take_path_lints();
    let mut seen = HashSet::new();
    let paths: Vec<PathBuf> = lints.iter().filter(|lint| seen.insert(&lint.path)).map(|lint| lint.path.clone()).collect();
    let looked = look(&paths);
    debug_assert_eq!(paths.len(), looked.len(), "an answer for each path");
    let found: HashMap<&Path, &Looked> = paths.iter().map(PathBuf::as_path).zip(&looked).collect();
    for lint in &lints {
        if let Some(looked) = found.get(&*lint.path) {
            lint_path(findings, lint, looked, surroundings);
        }
    }
}

fn lint_path(findings: &Findings, lint: &PathLint, looked: &Looked, surroundings: &Surroundings) {
    let shown = lint.path.display();
    let warn = |message: String, help: &str| findings.warn(lint.place, message, help);
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let is = |mode: u32, kind: u32| mode & 0o170_000 == kind;
    let (is_file, is_dir) = (|mode| is(mode, 0o100_000), |mode| is(mode, 0o040_000));
    match (&lint.what, looked) {
        (_, Err(NotLooked::NoAnswer(how))) => {
            warn(format!("{shown} {how}"), "a mount that does not answer holds up everything that uses it, and nothing else");
        }
        (NamedFor::Program { role, .. }, Err(NotLooked::Failed(error))) if is_absent(error) => {
            let help = format!("{role} will fail until it exists; a relative path starts from the job's `cwd`");
            warn(format!("{shown} does not exist"), &help);
        }
        (NamedFor::Program { .. }, Err(NotLooked::Failed(error))) => {
            warn(format!("can't check {shown}: {error}"), "runs will fail with the same error");
        }
        (NamedFor::Program { .. }, Ok(mode)) if !is_file(*mode) => warn(format!("{shown} is not a file"), "name the file itself"),
        (NamedFor::Program { must_execute: true, .. }, Ok(mode)) if mode & 0o111 == 0 => {
            warn(format!("{shown} is not executable"), "run `chmod +x` on it, or use an `executor`");
        }
        (NamedFor::Program { .. }, Ok(mode)) if surroundings.is_root() && mode & 0o002 != 0 => {
            warn(format!("{shown} is writable by everybody, and runs as root"), "run `chmod o-w` on it");
        }
        (NamedFor::EnvFile, Err(NotLooked::Failed(error))) if is_absent(error) => {
            let help = "runs will fail until it exists; a relative path starts from the job's `cwd`";
            warn(format!("{shown} does not exist"), help);
        }
        (NamedFor::EnvFile, Ok(mode)) if mode & 0o004 != 0 => {
            let message = format!("{shown} is readable by everybody, but a file for secrets");
            warn(message, "run `chmod o-r` on it, or use `env` for values that are not secret");
        }
        (NamedFor::Cwd | NamedFor::Textfile, Ok(mode)) if is_dir(*mode) => {}
        (NamedFor::Cwd, _) => warn(format!("directory {shown} does not exist"), "runs will fail until it exists"),
        (NamedFor::Textfile, _) => {
            let help = "name a directory that node_exporter reads (--collector.textfile.directory)";
            warn(format!("directory {shown} does not exist"), help);
        }
        (NamedFor::Program { .. } | NamedFor::EnvFile, _) => {}
    }
}
