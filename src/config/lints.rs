//! What is legal but likely wrong. The file loads all the same; each doubt says what will happen and what to do.

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

/// Doubts about the jobs together. Asked only of a file without errors: a trigger that is misspelt is told as that.
pub(super) fn about_jobs(cx: Cx<'_>, drafts: &[Draft<'_>]) {
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

/// Doubts about a job's time: a run that may take longer than there is until the next one.
pub(super) fn about_time(fields: &Fields<'_>, rules: &JobRules) {
    // A timeout of `defaults` is a net for all, not a word about this job.
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
        let message = format!("the timeout is longer than the {what} ({period}): a slow run makes the next one `skipped`");
        fields.cx.findings.warn(fields.place_of("timeout"), message, "`concurrency: queue` makes them wait instead");
    }
}

/// What lies between the first two firings of a year: enough for a hint, and the same whenever it is asked.
fn usual_period(wall: &WallTiming) -> Option<Duration> {
    const NEW_YEAR_2026: Duration = Duration::from_secs(1_767_225_600);
    let first = wall.next_after(WallTime::from_nanos(0) + NEW_YEAR_2026)?;
    let second = wall.next_after(first)?;
    Some(second.since(first))
}

/// Doubts about the program or script that a job runs.
pub(super) fn about_command(
    fields: &Fields<'_>,
    action: &Action,
    cwd: &Path,
    surroundings: &Surroundings,
    sound: &mut HashSet<PathBuf>,
) {
    let Some((path, must_execute)) = file_of(action, cwd).filter(|(path, _)| !sound.contains(&**path)) else { return };
    let executor = fields.get("executor").and_then(|_| fields.map_silently("executor"));
    let place = executor.map_or_else(|| fields.place_of("command"), |executor| executor.place_of("script"));
    if about_file(fields.cx, &path, must_execute, place, "runs", surroundings) {
        sound.insert(path.into_owned());
    }
}

/// Doubts about the other files that a job names.
pub(super) fn about_places(fields: &Fields<'_>, execution: &Execution, cwd: &Path) {
    let findings = fields.cx.findings;
    if execution.cwd.is_some() && !cwd.is_dir() {
        let help = "runs will fail until it is there";
        findings.warn(fields.place_of("cwd"), format!("there is no directory {}", cwd.display()), help);
    }
    // One of `defaults` is the same for every job; it is not looked at ten thousand times.
    let Some(file) = execution.env_file.as_ref().filter(|_| fields.has("env_file")) else { return };
    let file = cwd.join(file);
    match std::fs::metadata(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = "runs will fail until it is there; a relative path starts from the job's `cwd`";
            findings.warn(fields.place_of("env_file"), format!("{} does not exist", file.display()), help);
        }
        Ok(meta) if meta.mode() & 0o004 != 0 => {
            let message = format!("everybody may read {}, which is a place for secrets", file.display());
            findings.warn(fields.place_of("env_file"), message, "chmod o-r it, or write what is no secret into `env`");
        }
        Ok(_) | Err(_) => {}
    }
}

/// Warns of a script or program that will not start, and of one that others may change while it runs as root. `role`
/// says what will fail.
pub(super) fn about_program(cx: Cx<'_>, action: &Action, cwd: &Path, place: Place, role: &str, surroundings: &Surroundings) {
    if let Some((path, must_execute)) = file_of(action, cwd) {
        about_file(cx, &path, must_execute, place, role, surroundings);
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

/// True if there would be nothing to say of this file, whether or not it must be executable.
fn about_file(cx: Cx<'_>, path: &Path, must_execute: bool, place: Place, role: &str, surroundings: &Surroundings) -> bool {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let help = format!("{role} will fail until it is there; a relative path starts from the job's `cwd`");
            cx.findings.warn(place, format!("{shown} does not exist"), help);
        }
        Err(error) => cx.findings.warn(place, format!("{shown} can't be looked at: {error}"), "the runs will meet the same"),
        Ok(meta) if !meta.is_file() => cx.findings.warn(place, format!("{shown} is not a file"), "name the file itself"),
        Ok(meta) if must_execute && meta.mode() & 0o111 == 0 => {
            cx.findings.warn(place, format!("{shown} is not executable"), "chmod +x it, or run it by an `executor`");
        }
        Ok(meta) if surroundings.is_root() && meta.mode() & 0o002 != 0 => {
            cx.findings.warn(place, format!("everybody may write {shown}, and it runs as root"), "chmod o-w it");
        }
        Ok(meta) => return meta.mode() & 0o111 != 0,
    }
    false
}
