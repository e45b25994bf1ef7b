//! Replies about the configuration: one job whole, the graph, and whether the daemon is healthy.

use std::borrow::Cow;

use super::requests::find_job;
use super::status::{job_status, job_word};
use crate::control::commands::{graph, health, job};
use crate::control::protocol::{ErrorCode, Reply};
use crate::cron::Upcoming;
use crate::engine::RunRecord;
use crate::engine::timing::Timing;
use crate::exec::spec::Action;
use crate::model::{JobId, Now};
use crate::reactor::core::Core;
use crate::reactor::view::View;
use crate::store::StoreError;

/// How many of a job's next deadlines are shown.
const NEXT: usize = 10;

pub(super) fn whole_job(core: &mut Core, request: &job::Request, view: View<'_>) -> Result<Reply, Reply> {
    let id = find_job(core, &request.job)?;
    let unreadable = |error: StoreError| Reply::failed(ErrorCode::Refused, error.to_string());
    let last = core.ledger.store().last_run(id).map_err(unreadable)?;
    let (job, rules) = (&core.config.jobs[id.index()], &core.engine.rules().jobs[id.index()]);
    let (now, notes) = (view.clocks.now(), job.notes.as_deref());
    let names = |ids: &[JobId]| ids.iter().map(|id| core.config.jobs[id.index()].name.to_string()).collect();
    let answer = job::Whole {
        job: job_status(core, id, now, last),
        description: notes.and_then(|notes| notes.description.as_deref()).map(str::to_owned),
        tags: notes.map(|notes| notes.tags.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        summary: job.trigger.summary(),
        schedule_words: job.trigger.words(),
        timezone: job.zone.name().to_owned(),
        depends_on: names(&rules.depends_on),
        condition: rules.policy.condition.word().to_owned(),
        downstream: names(core.engine.graph().downstream(id)),
        next: next_deadlines(core, id, now),
        command: command_text(&job.action),
    };
    Ok(Reply::done(&answer))
}

/// The next deadlines of a job that has any: of a schedule by the calendar, of an interval by today's reading of both
/// clocks.
fn next_deadlines(core: &Core, id: JobId, now: Now) -> Vec<String> {
    let (job, rules) = (&core.config.jobs[id.index()], &core.engine.rules().jobs[id.index()]);
    let Some(first) = core.engine.view(now, id).next_at.filter(|_| rules.enabled) else { return Vec::new() };
    match &rules.timing {
        Timing::Wall(timing) => {
            let after = Upcoming::new(&timing.schedules, timing.zone, first - timing.offset).take(NEXT - 1);
            let all = std::iter::once(first).chain(after.map(|at| at + timing.offset));
            all.map(|at| job.zone.rfc3339(at)).collect()
        }
        Timing::Every(grid) => (0..).take(NEXT).map(|step| job.zone.rfc3339(first + grid.period * step)).collect(),
        Timing::None | Timing::Startup => Vec::new(),
    }
}

pub(super) fn graph(core: &mut Core, view: View<'_>) -> Reply {
    // A disk that can't be read must not take away the view of what runs.
    let last = core.ledger.store().last_runs().unwrap_or_default();
    let rules = &core.engine.rules().jobs;
    let now = view.clocks.now();
    let layers = core.engine.graph().layers();
    let shown = (0..).map(JobId).zip(rules).zip(layers).take(core.configured);
    let jobs = shown.map(|((id, rules), layer)| {
        let job = core.engine.view(now, id);
        let newest = last.get(&id).map(|run| core.engine.run(run.id).map_or(run.state, RunRecord::word));
        graph::Node {
            name: rules.name.to_string(),
            trigger: rules.trigger,
            layer,
            state: job_word(job.state),
            paused: job.paused,
            enabled: rules.enabled,
            last_state: newest,
        }
    });
    let edges = rules.iter().take(core.configured).flat_map(|job| {
        job.depends_on.iter().map(|up| graph::Edge {
            from: rules[up.index()].name.to_string(),
            to: job.name.to_string(),
            condition: job.policy.condition.word().to_owned(),
        })
    });
    Reply::done(&graph::Graph { jobs: jobs.collect(), edges: edges.collect() })
}

pub(super) fn health(core: &Core) -> Reply {
    let mut problems = Vec::new();
    problems.extend(core.ledger.trouble().map(|trouble| format!("the state can't be written: {trouble}")));
    if core.engine.is_waiting_for_clock() {
        problems.push("wall deadlines are not armed: the clock is not synchronized yet (wait_for_clock)".to_owned());
    }
    if core.engine.is_stopping() {
        problems.push("the daemon is stopping".to_owned());
    }
    Reply::done(&health::Health { ready: problems.is_empty(), problems })
}

/// What is executed, as a person would type it.
fn command_text(action: &Action) -> Option<String> {
    let joined =
        |words: &mut dyn Iterator<Item = Cow<'_, str>>| words.map(|word| shell_word(&word)).collect::<Vec<_>>().join(" ");
    match action {
        Action::Milestone => None,
        Action::Argv(words) => Some(joined(&mut words.iter().map(|word| Cow::from(&**word)))),
        Action::Shell(line) => Some(line.to_string()),
        Action::Script { interpreter, script, args } => {
            let before = interpreter.iter().map(|word| Cow::from(&**word));
            let after = args.iter().map(|word| Cow::from(&**word));
            Some(joined(&mut before.chain(std::iter::once(script.to_string_lossy())).chain(after)))
        }
    }
}

/// Quoted where a shell would read it otherwise.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        let argv = |words: &[&str]| command_text(&Action::Argv(words.iter().map(|word| (*word).into()).collect()));
        assert_eq!(argv(&["/bin/echo", "--all", "two words", "it's", ""]).unwrap(), r"/bin/echo --all 'two words' 'it'\''s' ''");
        let script =
            Action::Script { interpreter: ["python3".into()].into(), script: "a b.py".into(), args: ["x".into()].into() };
        assert_eq!(command_text(&script).unwrap(), "python3 'a b.py' x");
        assert_eq!(command_text(&Action::Shell("a | b".into())).unwrap(), "a | b");
        assert_eq!(command_text(&Action::Milestone), None);
    }
}
