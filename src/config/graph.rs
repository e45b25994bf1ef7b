//! Names of jobs into a graph of them.

use std::collections::HashMap;

use super::draft::Draft;
use super::fields::Cx;
use super::findings::Also;
use super::keys;
use super::yaml::Scalar;
use crate::dag::Graph;
use crate::model::JobId;
use crate::text::quoted;

/// The dependencies of each draft, by number. Duplicate names, unknown and self-dependencies and cycles are reported.
pub(super) fn resolve(cx: Cx<'_>, drafts: &[Draft<'_>]) -> Vec<Box<[JobId]>> {
    let names = number(cx, drafts);
    // Whose list has named a job last: lists may be long.
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
    // Most files have no edge or few; a graph is made again when the engine starts.
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
                let message = format!("there are two jobs with the name {}", quoted(name.value));
                let first = drafts[first.index()].name.map_or_else(Default::default, |name| name.place);
                let help = "a name stands for one job, in `depends_on` and in the history: rename one of them";
                cx.findings.error_of_two(name.place, message, help, Also::first(first));
            }
        }
    }
    names
}

fn find(cx: Cx<'_>, names: &HashMap<&str, JobId>, own: JobId, name: Scalar<'_>) -> Option<JobId> {
    match names.get(name.value) {
        Some(id) if *id == own => {
            let message = format!("{} can't depend on itself", quoted(name.value));
            cx.findings.error(
                name.place,
                message,
                "remove it; `retry` repeats what failed, a `cron` or `interval` trigger what went well",
            );
            None
        }
        Some(id) => Some(*id),
        None => {
            // The least name of several that are as near: the map's order is different each time.
            let mut known: Vec<&str> = names.keys().copied().collect();
            known.sort_unstable();
            let near = keys::did_you_mean(name.value, known);
            let message = format!("there is no job {}{near}", quoted(name.value));
            cx.findings.error(name.place, message, "`depends_on` takes names of jobs of this file");
            None
        }
    }
}

fn report_cycle(cx: Cx<'_>, drafts: &[Draft<'_>], cycle: &[JobId]) {
    let name = |id: &JobId| drafts[id.index()].name.map_or("?", |name| name.value);
    let (Some(first), Some(last)) = (cycle.first(), cycle.last()) else { return };
    // Long cycles are shown by their ends; nobody reads ten thousand names.
    const SHOWN: usize = 12;
    let mut path: Vec<&str> = cycle.iter().map(name).collect();
    if path.len() > SHOWN {
        path.splice(SHOWN - 2..path.len() - 1, ["..."]);
    }
    path.push(name(first));
    let waits_for = name(last);
    let at = drafts[first.index()].depends_on.iter().find(|dependency| dependency.value == waits_for);
    let place = at.map_or_else(Default::default, |dependency| dependency.place);
    let message = format!("these jobs wait for each other: {}", path.join(" -> "));
    // The other end: where the second job waits for the first.
    let back = cycle
        .get(1)
        .and_then(|second| drafts[second.index()].depends_on.iter().find(|dependency| dependency.value == name(first)));
    let help = "remove one of the dependencies";
    match back {
        Some(back) => {
            cx.findings.error_of_two(place, message, help, Also { place: back.place, label: "and this goes on from there" })
        }
        None => cx.findings.error(place, message, help),
    }
}
