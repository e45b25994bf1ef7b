//! `depends_on`: names of jobs into edges.

use std::collections::HashMap;

use super::draft::Draft;
use super::fields::Cx;
use super::findings::Also;
use super::keys;
use super::yaml::Scalar;
use crate::dag::Graph;
use crate::model::JobId;
use crate::text::quoted;

/// The upstream jobs of each draft. Duplicate names, unknown names, self-dependencies and cycles are reported.
pub(super) fn resolve(cx: Cx<'_>, drafts: &[Draft<'_>]) -> Vec<Box<[JobId]>> {
    let names = number(cx, drafts);
    // The last job whose list names this one: a check for duplicates in constant time, since lists may be long.
    let has_edges = drafts.iter().any(|draft| !draft.depends_on.is_empty());
    let mut named_by: Vec<Option<JobId>> = vec![None; if has_edges { drafts.len() } else { 0 }];
    let edges: Vec<Box<[JobId]>> = (0..)
        .zip(drafts)
        .map(|(own, draft)| {
            let mut found: Vec<JobId> = Vec::with_capacity(draft.depends_on.len());
            for name in &draft.depends_on {
                if let Some(id) = find(cx, &names, JobId(own), *name)
                    && named_by[id.index()].replace(JobId(own)) != Some(JobId(own))
                {
                    found.push(id);
                }
            }
            found.into()
        })
        .collect();
    // The graph is built for the check alone; the engine builds its own.
    if edges.iter().any(|edges| !edges.is_empty())
        && let Err(cycles) = Graph::new(&edges)
    {
        cycles.iter().for_each(|cycle| report_cycle(cx, drafts, cycle));
    }
    edges
}

fn number<'a>(cx: Cx<'_>, drafts: &[Draft<'a>]) -> HashMap<&'a str, JobId> {
    let mut names: HashMap<&str, JobId> = HashMap::with_capacity(drafts.len());
    for (id, draft) in (0..).map(JobId).zip(drafts) {
        let Some(name) = draft.name else { continue };
        match names.get(name.value) {
            None => {
                names.insert(name.value, id);
            }
            Some(first) => {
                let message = format!("duplicate job name {}", quoted(name.value));
                let first = drafts[first.index()].name.map_or_else(Default::default, |name| name.place);
                let help = "a name identifies one job, in `depends_on` and in the history: rename one of them";
                cx.findings.error_of_two(name.place, message, help, Also::first(first));
            }
        }
    }
    names
}

fn find(cx: Cx<'_>, names: &HashMap<&str, JobId>, own: JobId, name: Scalar<'_>) -> Option<JobId> {
    match names.get(name.value) {
        Some(id) if *id == own => {
            let message = format!("{} depends on itself", quoted(name.value));
            cx.findings.error(
                name.place,
                message,
                "remove it; `retry` repeats a failed attempt, a `cron` or `interval` trigger starts further runs",
            );
            None
        }
        Some(id) => Some(*id),
        None => {
            // Sorted, so that of several equally near names always the same one is suggested.
            let mut known: Vec<&str> = names.keys().copied().collect();
            known.sort_unstable();
            let near = keys::did_you_mean(name.value, known);
            let message = format!("unknown job {}{near}", quoted(name.value));
            cx.findings.error(name.place, message, "`depends_on` takes the names of jobs in this file");
            None
        }
    }
}

fn report_cycle(cx: Cx<'_>, drafts: &[Draft<'_>], cycle: &[JobId]) {
    let name = |id: &JobId| drafts[id.index()].name.map_or("?", |name| name.value);
    let (Some(first), Some(last)) = (cycle.first(), cycle.last()) else { return };
    // Only the ends of a long cycle are shown.
    const SHOWN: usize = 12;
    let mut path: Vec<&str> = cycle.iter().map(name).collect();
    if path.len() > SHOWN {
        path.splice(SHOWN - 2..path.len() - 1, ["..."]);
    }
    path.push(name(first));
    let waits_for = name(last);
    let at = drafts[first.index()].depends_on.iter().find(|dependency| dependency.value == waits_for);
    let place = at.map_or_else(Default::default, |dependency| dependency.place);
    let message = format!("dependency cycle: {}", path.join(" -> "));
    // The other end: where the second job waits for the first.
    let back = cycle
        .get(1)
        .and_then(|second| drafts[second.index()].depends_on.iter().find(|dependency| dependency.value == name(first)));
    let help = "remove one of the dependencies";
    match back {
        Some(back) => cx.findings.error_of_two(place, message, help, Also { place: back.place, label: "continued here" }),
        None => cx.findings.error(place, message, help),
    }
}
