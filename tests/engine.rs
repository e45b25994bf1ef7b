//! The table of states and events in the documentation of `engine`, walked cell by cell with a real engine: what the
//! documentation says is what happens.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firelink::dag::Condition;
use firelink::engine::rules::{JobRules, Policy, Retry, Rules};
use firelink::engine::timing::{Concurrency, Timing};
use firelink::engine::{
    Change, Effect, Engine, Event, MAX_IN_MEMORY, Notice, Request, Restored, RestoredJob, RestoredProcess, RunRecord, RunState,
    StopSignal, Timeline, Waiting,
};
use firelink::model::{Backoff, Elapsed, Exit, Jitter, JobId, Now, Outcome, Pid, RunId, TriggerWord, WallTime};

const TABLE: &str = include_str!("../src/engine/states.md");

/// The columns, in the order of the table.
const STATES: [&str; 9] = ["turn", "dependencies", "paused", "stored", "slot", "retry", "running", "stopping", "ended"];

const UNCHANGED: &str = "–";

/// The upstream job: a milestone, so that its runs end without a slot.
const UP: JobId = JobId(0);
/// A job without dependencies that takes slots.
const OTHER: JobId = JobId(1);
/// The job whose run is looked at.
const JOB: JobId = JobId(2);

const TIMEOUT: Duration = Duration::from_secs(600);
const RETRY_DELAY: Duration = Duration::from_secs(60);
const TEST_TIMEOUT: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(10);

fn policy() -> Policy {
    Policy {
        condition: Condition::AllSuccess,
        concurrency: Concurrency::Queue,
        max_parallel: None,
        timeout: None,
        kill_grace: GRACE,
        retry: None,
        success_exit_codes: Box::default(),
    }
}

fn retry() -> Retry {
    let backoff = Backoff { delay: RETRY_DELAY, factor: 1, max: RETRY_DELAY, jitter: Jitter::None };
    Retry { attempts: 2, backoff, on_exit_codes: Box::default() }
}

fn job(name: &str, trigger: TriggerWord, depends_on: &[JobId], policy: Policy) -> JobRules {
    JobRules {
        name: name.into(),
        enabled: true,
        trigger,
        timing: Timing::None,
        depends_on: depends_on.into(),
        milestone: name == "up",
        policy: Arc::new(policy),
    }
}

fn rules(max_parallel: u32, concurrency: Concurrency, retry: Option<Retry>) -> Rules {
    let of_job = Policy { concurrency, timeout: Some(TIMEOUT), retry: retry.map(Box::new), ..policy() };
    Rules {
        jobs: vec![
            job("up", TriggerWord::Manual, &[], policy()),
            job("other", TriggerWord::Manual, &[], policy()),
            job("job", TriggerWord::Watch, &[UP], of_job),
        ],
        max_parallel,
        grace: Duration::from_secs(60),
        wait_for_clock: None,
    }
}

/// An engine, what a store would have of it, and the run that the table is about.
struct World {
    engine: Engine,
    now: Now,
    max_parallel: u32,
    records: BTreeMap<RunId, RunRecord>,
    credits: BTreeMap<(JobId, JobId), Outcome>,
    paused: BTreeSet<JobId>,
    run: RunId,
    /// The run that keeps `run` from its turn or its slot.
    before_it: Option<RunId>,
    /// Effects that name `run`, since the scene was set.
    effects: BTreeSet<&'static str>,
}

impl World {
    fn new(max_parallel: u32) -> World {
        let rules = rules(max_parallel, Concurrency::Queue, Some(retry()));
        let now = Now { wall: WallTime::from_secs(1_800_000_000), elapsed: Elapsed::from_nanos(9_000_000_000) };
        let mut world = World {
            engine: Engine::new(rules, 1).expect("no cycle"),
            now,
            max_parallel,
            records: BTreeMap::new(),
            credits: BTreeMap::new(),
            paused: BTreeSet::new(),
            run: RunId(0),
            before_it: None,
            effects: BTreeSet::new(),
        };
        let mut effects = Vec::new();
        world.engine.start(now, Restored::default(), &mut effects);
        world.apply(effects);
        world
    }

    /// Handles an event; returns the runs that were made.
    fn handle(&mut self, event: Event) -> Vec<RunId> {
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        self.apply(effects)
    }

    fn ask(&mut self, request: Request) -> Vec<RunId> {
        self.handle(Event::Ask(request))
    }

    fn apply(&mut self, effects: Vec<Effect>) -> Vec<RunId> {
        let mut made = Vec::new();
        for effect in effects {
            let (run, name) = match effect {
                Effect::Record(Change::Run { record, .. }) => {
                    let run = record.id;
                    self.records.insert(run, *record);
                    (run, "Record")
                }
                Effect::Record(Change::SkipStored { job, from, .. }) => {
                    let is_stored = |record: &RunRecord| record.job == job && self.engine.run(record.id).is_none();
                    let skipped: Vec<RunId> =
                        self.records.range(from..).filter(|(_, r)| is_stored(r)).map(|(id, _)| *id).collect();
                    for run in &skipped {
                        self.records.remove(run);
                    }
                    let names_it = skipped.contains(&self.run);
                    (if names_it { self.run } else { RunId(0) }, "Record")
                }
                Effect::Record(Change::Credit { job, upstream, outcome }) => {
                    match outcome {
                        Some(outcome) => self.credits.insert((job, upstream), outcome),
                        None => self.credits.remove(&(job, upstream)),
                    };
                    continue;
                }
                Effect::Record(Change::Paused { job, paused }) => {
                    if paused {
                        self.paused.insert(job)
                    } else {
                        self.paused.remove(&job)
                    };
                    continue;
                }
                Effect::Spawn(spawn) => (spawn.run, "Spawn"),
                Effect::Signal { run, signal: StopSignal::Term } => (run, "TERM"),
                Effect::Signal { run, signal: StopSignal::Kill } => (run, "KILL"),
                Effect::Notify(Notice::Triggered { run, .. }) => {
                    made.push(run);
                    continue;
                }
                _ => continue,
            };
            if run == self.run {
                self.effects.insert(name);
            }
        }
        made
    }

    fn fire(&mut self, count: usize) -> Vec<RunId> {
        let events = (0..count).map(|number| format!("{{\"event\": {number}}}").into()).collect();
        self.handle(Event::Fired { job: JOB, events })
    }

    fn trigger(&mut self, job: JobId, force: bool, with_deps: bool) -> RunId {
        *self.ask(Request::Trigger { job, force, with_deps, ticket: 0 }).last().expect("a run")
    }

    fn upstream_succeeds(&mut self) {
        self.trigger(UP, false, false);
    }

    /// Any end but success closes the way; a milestone can only be cancelled before it begins.
    fn upstream_fails(&mut self) {
        self.ask(Request::Pause(Some(UP)));
        let run = self.trigger(UP, false, false);
        self.ask(Request::Cancel(run));
        self.ask(Request::Resume(Some(UP)));
    }

    fn exits(&mut self, run: RunId, code: i32) {
        self.handle(Event::Exited { run, exit: Exit::Code(code), reason: None });
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { wall: self.now.wall + time, elapsed: self.now.elapsed + time };
        self.handle(Event::Tick);
    }

    fn reload(&mut self, rules: Rules) {
        let mut effects = Vec::new();
        self.engine.reload(self.now, rules, &mut effects).expect("no cycle, and not stopping");
        self.apply(effects);
    }

    /// Brings a new engine's run into the state of a column.
    fn in_state(state: &str) -> World {
        let mut world = World::new(if state == "slot" { 1 } else { 8 });
        match state {
            "turn" => {
                world.upstream_succeeds();
                world.before_it = world.fire(1).first().copied();
                world.upstream_succeeds();
                world.run = world.fire(1)[0];
            }
            "dependencies" => world.run = world.fire(1)[0],
            "paused" => {
                world.ask(Request::Pause(Some(JOB)));
                world.upstream_succeeds();
                world.run = world.fire(1)[0];
            }
            "stored" => world.run = *world.fire(MAX_IN_MEMORY + 1).last().expect("a run"),
            "slot" => {
                world.before_it = Some(world.trigger(OTHER, false, false));
                world.upstream_succeeds();
                world.run = world.fire(1)[0];
            }
            "retry" => {
                world.upstream_succeeds();
                world.run = world.fire(1)[0];
                world.exits(world.run, 1);
            }
            "running" | "stopping" | "ended" => {
                world.upstream_succeeds();
                world.run = world.fire(1)[0];
                match state {
                    "stopping" => drop(world.ask(Request::Cancel(world.run))),
                    "ended" => world.exits(world.run, 0),
                    _ => {}
                }
            }
            _ => panic!("the table names an unknown state: {state}"),
        }
        let found = world.state();
        let is_right = if state == "ended" { found == "succeeded" } else { found == state };
        assert!(is_right, "a run that should be in the state {state} is in {found}");
        world.effects.clear();
        world
    }

    /// The column in which the run is, or its outcome.
    fn state(&self) -> &'static str {
        let Some(record) = self.engine.run(self.run) else {
            return match self.records.get(&self.run).map(|record| &record.state) {
                Some(RunState::Ended(end)) => end.outcome.word().as_str(),
                Some(_) => "stored",
                None => "skipped",
            };
        };
        match &record.state {
            RunState::Pending(Waiting::Turn) if self.engine.is_paused(JOB) => "paused",
            RunState::Pending(Waiting::Turn) => {
                let missing = |phrase: &String| phrase == "up" || phrase.starts_with("up (");
                let view = self.engine.view(self.now, JOB);
                if view.waiting_for.iter().any(missing) { "dependencies" } else { "turn" }
            }
            RunState::Pending(Waiting::Slot) => "slot",
            RunState::Pending(Waiting::Retry { .. }) => "retry",
            RunState::Running(process) if process.stop.is_some() => "stopping",
            RunState::Running(_) => "running",
            RunState::Ended(end) => end.outcome.word().as_str(),
        }
    }

    /// The next daemon on what this one has recorded.
    fn restart(&mut self, process: RestoredProcess) {
        let rules = self.engine.rules().clone();
        let jobs = (0..).take(rules.jobs.len()).map(JobId).map(|job| {
            let waits = |record: &&RunRecord| record.job == job && matches!(record.state, RunState::Pending(_));
            let (mut pending, mut stored) = (Vec::new(), 0);
            for record in self.records.values().filter(waits) {
                if pending.len() < MAX_IN_MEMORY { pending.push(record.clone()) } else { stored += 1 }
            }
            let credits = self.credits.iter().filter(|((of, _), _)| *of == job).map(|((_, up), outcome)| (*up, *outcome));
            RestoredJob {
                paused: self.paused.contains(&job),
                credits: credits.collect(),
                pending,
                stored,
                ..RestoredJob::default()
            }
        });
        let running = self.records.values().filter(|record| matches!(record.state, RunState::Running(_)));
        let restored = Restored {
            next_run: self.records.keys().last().map_or(1, |run| run.0 + 1),
            timeline: Some(Timeline::starting(self.now.wall)),
            jobs: jobs.collect(),
            running: running.map(|record| (record.clone(), process)).collect(),
        };
        self.engine = Engine::new(rules, 1).expect("no cycle");
        let mut effects = Vec::new();
        self.engine.start(self.now, restored, &mut effects);
        self.apply(effects);
    }

    /// What a row says.
    fn happens(&mut self, event: &str) {
        let run = self.run;
        match event {
            "`Fired`" => drop(self.fire(1)),
            "`Fired`, `concurrency: replace`" => {
                self.reload(rules(self.max_parallel, Concurrency::Replace, Some(retry())));
                self.fire(1);
            }
            "`Tick` at its deadline" => self.pass(TIMEOUT),
            "`Started`" => drop(self.handle(Event::Started { run, pid: Pid { pid: 7, start_ticks: 7 } })),
            "`NotStarted`" => drop(self.handle(Event::NotStarted { run, reason: "no such file".into() })),
            "`Exited`, success" => self.exits(run, 0),
            "`Exited`, failure" => self.exits(run, 1),
            "`Exited`, failure of the last attempt" => {
                self.reload(rules(self.max_parallel, Concurrency::Queue, None));
                self.exits(run, 1);
            }
            "`ExitUnknown`" => drop(self.handle(Event::ExitUnknown { run })),
            "`Exited` of the run that it waits for" => {
                let other = self.before_it.unwrap_or_else(|| self.trigger(OTHER, false, false));
                self.exits(other, 0);
            }
            "`Loaded`" => {
                let is_stored = self.engine.run(run).is_none();
                let runs = self.records.get(&run).filter(|record| is_stored && matches!(record.state, RunState::Pending(_)));
                let runs = runs.cloned().into_iter().collect();
                self.handle(Event::Loaded { job: JOB, runs });
            }
            "a dependency succeeds" => self.upstream_succeeds(),
            "a dependency fails" => self.upstream_fails(),
            "`Trigger`" => drop(self.trigger(JOB, false, false)),
            "`Trigger`, `force`" => drop(self.trigger(JOB, true, false)),
            "`Trigger`, `with_deps`" => drop(self.trigger(JOB, false, true)),
            "`Repeat`" => {
                let (trigger, scheduled_at) = (TriggerWord::Watch, self.now.wall);
                let ticket = None;
                self.ask(Request::Repeat { job: JOB, trigger, event: None, scheduled_at, force: false, ticket });
            }
            "`Cancel`" => drop(self.ask(Request::Cancel(run))),
            "`Pause`" => drop(self.ask(Request::Pause(Some(JOB)))),
            "`Resume`" => drop(self.ask(Request::Resume(Some(JOB)))),
            "`Stop`" => drop(self.ask(Request::Stop { patience: TEST_TIMEOUT })),
            "`Stop`, patience over" => {
                self.ask(Request::Stop { patience: TEST_TIMEOUT });
                self.pass(TEST_TIMEOUT);
            }
            "`StopNow`" => drop(self.ask(Request::StopNow)),
            "`Leave`" => drop(self.ask(Request::Leave)),
            "`ClockSet`" => {
                self.now.wall = self.now.wall + Duration::from_secs(3_600);
                self.handle(Event::ClockSet);
            }
            "`ClockSynced`" => drop(self.handle(Event::ClockSynced)),
            "reload" => self.reload(rules(self.max_parallel, Concurrency::Queue, Some(retry()))),
            "reload without its job" => {
                let mut effects = Vec::new();
                self.engine.retire(self.now, &[JOB], &mut effects);
                self.apply(effects);
            }
            "restart, processes alive" => self.restart(RestoredProcess::Alive(Pid { pid: 7, start_ticks: 7 })),
            "restart, processes gone" => self.restart(RestoredProcess::Gone),
            _ => panic!("the table names an unknown event: {event}"),
        }
    }

    /// The cell for what has become of a run that was in this state.
    fn cell(&self, before: &str) -> String {
        let state = match self.state() {
            "succeeded" if before == "ended" => "ended",
            state => state,
        };
        let effects: Vec<&str> = self.effects.iter().copied().collect();
        match effects.join(", ") {
            effects if effects.is_empty() && state == before => UNCHANGED.into(),
            effects if effects.is_empty() => state.into(),
            effects => format!("{state} ({effects})"),
        }
    }
}

/// The rows of the table: what happens, and a cell for each state.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let lines = TABLE.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let mut rows = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    assert_eq!(rows.next().as_deref().map(|head| &head[1..]), Some(&STATES[..]), "the head of the table");
    rows.next();
    rows.map(|row| (row[0], row[1..].to_vec())).collect()
}

#[test]
fn each_cell_of_the_table_of_states_and_events_is_what_happens() {
    let rows = rows();
    let mut wrong = Vec::new();
    for (event, cells) in &rows {
        let happens: Vec<String> = STATES
            .iter()
            .map(|state| {
                let mut world = World::in_state(state);
                world.happens(event);
                world.cell(state)
            })
            .collect();
        if *cells != happens {
            wrong.push(format!("| {event} | {} |", happens.join(" | ")));
        }
    }
    assert!(wrong.is_empty(), "these lines of src/engine/states.md should read:\n{}", wrong.join("\n"));
}

/// The compiler asks for a word here when an event is added, and then the table must have a row for it.
#[test]
fn the_table_has_a_row_for_each_event_and_each_request() {
    fn name(event: &Event) -> &'static str {
        match event {
            Event::Tick => "`Tick`",
            Event::ClockSet => "`ClockSet`",
            Event::ClockSynced => "`ClockSynced`",
            Event::Fired { .. } => "`Fired`",
            Event::Started { .. } => "`Started`",
            Event::NotStarted { .. } => "`NotStarted`",
            Event::Exited { .. } => "`Exited`",
            Event::ExitUnknown { .. } => "`ExitUnknown`",
            Event::Loaded { .. } => "`Loaded`",
            Event::Ask(Request::Trigger { .. }) => "`Trigger`",
            Event::Ask(Request::Repeat { .. }) => "`Repeat`",
            Event::Ask(Request::Cancel(_)) => "`Cancel`",
            Event::Ask(Request::Pause(_)) => "`Pause`",
            Event::Ask(Request::Resume(_)) => "`Resume`",
            Event::Ask(Request::Stop { .. }) => "`Stop`",
            Event::Ask(Request::StopNow) => "`StopNow`",
            Event::Ask(Request::Leave) => "`Leave`",
        }
    }
    let (run, job) = (RunId(1), JOB);
    let exit = Exit::Code(0);
    let (trigger, scheduled_at) = (TriggerWord::Watch, WallTime::from_secs(0));
    let events = [
        Event::Tick,
        Event::ClockSet,
        Event::ClockSynced,
        Event::Fired { job, events: Vec::new() },
        Event::Started { run, pid: Pid { pid: 7, start_ticks: 7 } },
        Event::NotStarted { run, reason: String::new() },
        Event::Exited { run, exit, reason: None },
        Event::ExitUnknown { run },
        Event::Loaded { job, runs: Vec::new() },
        Event::Ask(Request::Trigger { job, force: false, with_deps: false, ticket: 0 }),
        Event::Ask(Request::Repeat { job, trigger, event: None, scheduled_at, force: false, ticket: None }),
        Event::Ask(Request::Cancel(run)),
        Event::Ask(Request::Pause(None)),
        Event::Ask(Request::Resume(None)),
        Event::Ask(Request::Stop { patience: TEST_TIMEOUT }),
        Event::Ask(Request::StopNow),
        Event::Ask(Request::Leave),
    ];
    let rows = rows();
    for event in &events {
        assert!(rows.iter().any(|(row, _)| row.starts_with(name(event))), "no row for {}", name(event));
    }
}

#[test]
fn the_reason_of_an_exit_is_that_of_a_failed_run_and_not_of_a_successful_one() {
    let reason_of = |exit| {
        let mut world = World::new(1);
        let run = world.trigger(OTHER, false, false);
        world.handle(Event::Exited { run, exit, reason: Some("memory".into()) });
        match &world.records[&run].state {
            RunState::Ended(end) => end.reason.as_deref().map(str::to_owned),
            state => panic!("{state:?}"),
        }
    };
    assert_eq!(reason_of(Exit::Signal(9)).as_deref(), Some("memory"));
    assert_eq!(reason_of(Exit::Code(0)), None);
}
