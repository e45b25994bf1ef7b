//! Warnings: legal but likely wrong. The file loads; each lint says what will happen and how to avoid it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Surroundings;
use super::draft::Draft;
use super::execution::Execution;
use super::fields::{Cx, Fields};
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
pub(super) fn lint_command(
    fields: &Fields<'_>,
    action: &Action,
    cwd: &Path,
    surroundings: &Surroundings,
    sound: &mut HashSet<PathBuf>,
) {
    let Some((path, must_execute)) = file_of(action, cwd).filter(|(path, _)| !sound.contains(&**path)) else { return };
    let executor = fields.get("executor").and_then(|_| fields.map_silently("executor"));
    let place = executor.map_or_else(|| fields.place_of("command"), |executor| executor.place_of("script"));
    if lint_file(fields.cx, &path, must_execute, place, "runs", surroundings) {
        sound.insert(path.into_owned());
    }
}

/// The working directory and `env_file` of a job.
pub(super) fn lint_paths(fields: &Fields<'_>, execution: &Execution, cwd: &Path) {
    let findings = fields.cx.findings;
    if execution.cwd.is_some() && !cwd.is_dir() {
        let help = "runs will fail until it exists";
        findings.warn(fields.place_of("cwd"), format!("directory {} does not exist", cwd.display()), help);
    }
    // One of `defaults` is the same for every job, and is not checked ten thousand times.
    let Some(file) = execution.env_file.as_ref().filter(|_| fields.has("env_file")) else { return };
    let file = cwd.join(file);
    match std::fs::metadata(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = "runs will fail until it exists; a relative path starts from the job's `cwd`";
            findings.warn(fields.place_of("env_file"), format!("{} does not exist", file.display()), help);
        }
        Ok(meta) if meta.mode() & 0o004 != 0 => {
            let message = format!("{} is readable by everybody, but a file for secrets", file.display());
            findings.warn(
                fields.place_of("env_file"),
                message,
                "run `chmod o-r` on it, or use `env` for values that are not secret",
            );
        }
        Ok(_) | Err(_) => {}
    }
}

/// A script or program that will not start, and one that others may change while it runs as root. `role` names what will
/// fail.
pub(super) fn lint_program(cx: Cx<'_>, action: &Action, cwd: &Path, place: Place, role: &str, surroundings: &Surroundings) {
    if let Some((path, must_execute)) = file_of(action, cwd) {
        lint_file(cx, &path, must_execute, place, role, surroundings);
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

/// True if the file would cause no warning, whether or not it must be executable.
fn lint_file(cx: Cx<'_>, path: &Path, must_execute: bool, place: Place, role: &str, surroundings: &Surroundings) -> bool {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = format!("{role} will fail until it exists; a relative path starts from the job's `cwd`");
            cx.findings.warn(place, format!("{shown} does not exist"), help);
        }
        Err(error) => cx.findings.warn(place, format!("can't check {shown}: {error}"), "runs will fail with the same error"),
        Ok(meta) if !meta.is_file() => cx.findings.warn(place, format!("{shown} is not a file"), "name the file itself"),
        Ok(meta) if must_execute && meta.mode() & 0o111 == 0 => {
            cx.findings.warn(place, format!("{shown} is not executable"), "run `chmod +x` on it, or use an `executor`");
        }
        Ok(meta) if surroundings.is_root() && meta.mode() & 0o002 != 0 => {
            cx.findings.warn(place, format!("{shown} is writable by everybody, and runs as root"), "run `chmod o-w` on it");
        }
        Ok(meta) => return meta.mode() & 0o111 != 0,
    }
    false
}
