//! Sharing among jobs: ten thousand of them differ in little, so equal parts are stored once and checked once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::fields::{Field, Fields};
use super::keys;
use crate::cron::Zone;
use crate::engine::rules::Policy;
use crate::engine::timing::Concurrency;
use crate::exec::spec::{Action, ExecSpec, Hooks};
use crate::model::TriggerWord;
use crate::triggers::Trigger;

/// The shared parts, while a file is read.
#[derive(Default)]
pub(super) struct Common<'a> {
    pub(super) specs: Pool<ExecSpec>,
    pub(super) actions: Pool<Action>,
    pub(super) policies: Pool<Policy>,
    triggers: Triggers<'a>,
    /// The previous job, if it had neither errors nor warnings.
    pub(super) last: Option<Made<'a>>,
}

/// The result of a job's execution keys. The next job often has the same keys, and if these caused no finding, they cause
/// none there.
pub(super) struct Made<'a> {
    /// The keys with their values.
    pub(super) written: Vec<Field<'a>>,
    pub(super) action: Arc<Action>,
    pub(super) exec: Arc<ExecSpec>,
    pub(super) policy: Arc<Policy>,
    /// None if the trigger's default holds.
    pub(super) concurrency: Option<Concurrency>,
    pub(super) hooks: Hooks,
    pub(super) keep_runs: u32,
    pub(super) keep_for: Option<Duration>,
}

/// How the execution keys of a job compare with those of the previous one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Equal.
    Same,
    /// Equal but for `command`.
    OtherCommand,
}

impl Made<'_> {
    /// Compares the execution keys of the next job with these.
    pub(super) fn likeness(&self, fields: &Fields<'_>) -> Option<Likeness> {
        let mut others = fields.values_of(keys::EXECUTION);
        let mut likeness = Likeness::Same;
        for field in &self.written {
            let other = others.next().filter(|other| other.key.value == field.key.value)?;
            if !fields.cx.doc.are_same(field.node, other.node) {
                // An executor determines the action together with other keys.
                let is_command = field.key.value == "command" && !fields.has("executor");
                likeness = is_command.then_some(Likeness::OtherCommand)?;
            }
        }
        others.next().is_none().then_some(likeness)
    }
}

/// Interned values.
pub(super) struct Pool<T> {
    /// The value returned last, which is likely the next one, too: a comparison is cheaper than a hash of all fields.
    last: Option<Arc<T>>,
    known: HashSet<Arc<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { last: None, known: HashSet::new() }
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The shared value that equals this one.
    pub(super) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == value) {
            return Arc::clone(last);
        }
        let shared = match self.known.get(&value) {
            Some(known) => Arc::clone(known),
            None => {
                let value = Arc::new(value);
                self.known.insert(Arc::clone(&value));
                value
            }
        };
        self.last = Some(Arc::clone(&shared));
        shared
    }
}

/// The whole input of a timed trigger with a single key: its type, that key's value and the zone.
pub(super) type Written<'a> = (&'static str, &'a str, Zone);

#[derive(Default)]
struct Triggers<'a> {
    written: HashMap<Written<'a>, Arc<dyn Trigger>>,
    /// By a hash of their summaries.
    made: HashMap<u64, Arc<dyn Trigger>>,
}

impl<'a> Common<'a> {
    /// The trigger that was built from the same input.
    pub(super) fn written(&self, written: Option<Written<'a>>) -> Option<Arc<dyn Trigger>> {
        self.triggers.written.get(&written?).map(Arc::clone)
    }

    /// The shared trigger that equals this one: equal kind, summary and timing. A trigger with a source belongs to one job.
    pub(super) fn trigger(&mut self, trigger: Box<dyn Trigger>, written: Option<Written<'a>>) -> Arc<dyn Trigger> {
        if matches!(trigger.kind(), TriggerWord::Watch | TriggerWord::Plugin) {
            return trigger.into();
        }
        let summary = trigger.summary();
        let mut hasher = DefaultHasher::new();
        summary.hash(&mut hasher);
        let trigger = match self.triggers.made.entry(hasher.finish()) {
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(trigger.into())),
            Entry::Occupied(known) => {
                let known = known.get();
                let same = known.kind() == trigger.kind() && known.timing() == trigger.timing() && known.summary() == summary;
                if same { Arc::clone(known) } else { trigger.into() }
            }
        };
        if let Some(written) = written {
            self.triggers.written.insert(written, Arc::clone(&trigger));
        }
        trigger
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, Refused, Surroundings, load_text};

    /// Line, column, message and help.
    type Found = (usize, usize, String, String);

    /// The last job of a file and the findings about it, their lines counted from the first job.
    fn last(defaults: &str, jobs: &[&str]) -> (Option<String>, Vec<Found>) {
        let lines: Vec<String> = jobs
            .iter()
            .zip(["one", "two"].into_iter().skip(2 - jobs.len()))
            .map(|(job, name)| format!("- {{ name: {name}{job} }}\n"))
            .collect();
        let text = format!("defaults: {{{defaults}}}\njobs:\n{}", lines.concat());
        let surroundings = Surroundings { start_dir: "/".into(), machine_seed: 7, uid: 0 };
        let (made, said): (_, Vec<Diagnostic>) = match load_text("f".as_ref(), &text, &surroundings) {
            Ok(mut config) => {
                let made = config.jobs.pop().map(|job| format!("{job:?} {:?}", config.rules.jobs.last()));
                (made, config.warnings)
            }
            Err(Refused(said)) => (None, said),
        };
        let at = 2 + jobs.len();
        let said = said.into_iter().filter(|said| said.line == at || said.line == 1);
        (made, said.map(|said| (said.line.min(3), said.column, said.message, said.help)).collect())
    }

    #[test]
    fn a_job_is_read_alike_whichever_stands_before_it() {
        let jobs = [
            ", trigger: manual",
            ", trigger: manual, command: /bin/sh",
            ", trigger: manual, command: [/bin/sh, -c, \"true\"]",
            ", trigger: manual, command: [/bin/sh, -c, true]",
            ", trigger: manual, command: [/no/such/program]",
            ", trigger: manual, command: [/etc/passwd]",
            ", trigger: manual, command: []",
            ", trigger: manual, command: ~",
            ", trigger: manual, command: {}",
            ", trigger: manual, command: \"~\"",
            ", trigger: manual, command: [/bin/sh], executor: { type: sh, script: /etc/passwd }",
            ", trigger: manual, executor: { type: sh, script: /etc/passwd }",
            ", trigger: manual, executor: { type: sh, script: /no/such/script }",
            ", trigger: manual, command: x, cwd: /no/such/folder",
            ", trigger: manual, command: x, cwd: /tmp",
            ", trigger: manual, command: [./y], cwd: /tmp",
            ", trigger: manual, command: x, env: { A: b, C: d }",
            ", trigger: manual, command: x, env: { A: b, C: d, E: f }",
            ", trigger: manual, command: x, env_file: /no/such/file, user: nobody",
            ", trigger: manual, command: x, user: nobody",
            ", trigger: manual, user: nobody, command: x",
            ", trigger: manual, command: x, timeout: 5s, retry: 3, concurrency: allow, on_failure: [/bin/true]",
            ", trigger: cron, schedule: \"* * * * *\", command: x, timeout: 5m",
            ", trigger: cron, schedule: \"* * * * *\", command: x, timeout: 5s",
            ", trigger: cron, schedule: \"0 1 * * *\", command: x, timeout: 5m",
            ", trigger: cron, schedule: \"0 1 * * *\", command: x, timezone: Europe/Berlin",
            ", trigger: cron, schedule: \"0 1 * * *\", command: x, jitter: 1h",
            ", trigger: cron, schedule: [\"0 1 * * *\"], command: x",
            ", trigger: cron, schedule: \"0 1 * *\", command: x",
            ", trigger: { type: cron, schedule: \"0 1 * * *\" }, command: x",
            ", trigger: interval, every: 5s, command: x, condition: all_done",
            ", trigger: interval, every: 5s, command: x, unheard: of",
            ", trigger: interval, every: null, command: x, keep_runs: 5",
            ", trigger: manual, command: x, output: { keep_runs: 5, keep_for: 5h, capture: none }",
            ", trigger: manual, command: x, output: { keep_runs: 5, keep_for: 5h, capture: nonsense }",
        ];
        for defaults in
            ["", " command: [/no/such/default], timeout: 1h, env: { Z: y } ", " cwd: /no/such/default, concurrency: queue "]
        {
            for job in jobs {
                let alone = last(defaults, &[job]);
                for before in jobs {
                    let (made, said) = last(defaults, &[before, job]);
                    assert_eq!(said, alone.1, "{before} and then {job}");
                    // Of a file that is refused nothing is made.
                    assert!(made.is_none() || made == alone.0, "{before} and then {job}: {made:?}");
                }
            }
        }
    }
}
