//! The real engine in virtual time against a separate, simple model of the rules for dependencies: for random graphs
//! with random outcomes, what ran and what was skipped must be the same.
//!
//! `FIRELINK_SEED=n` replays one seed, `FIRELINK_SEEDS=n` tries that many.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use firelink::config::{Config, Surroundings, load_text};
use firelink::cron::parse_rfc3339;
use firelink::engine::simulate::{Attempted, Step, What, simulate};
use firelink::model::{Exit, WallTime};
use random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    AllSuccess,
    AnySuccess,
    AllDone,
    AnyFailure,
}

#[derive(Debug)]
struct Job {
    deps: Vec<usize>,
    condition: Condition,
}

/// A graph, and the outcome of each run: the n-th run of a job always has the same one.
#[derive(Debug)]
struct Case {
    seed: u64,
    jobs: Vec<Job>,
}

impl Case {
    fn random(seed: u64) -> Case {
        let mut random = Random(seed);
        let count = 2 + random.below(9);
        let jobs = (0..count).map(|index| {
            let roots = 1 + count / 4;
            let wanted = if index < roots { 0 } else { 1 + random.below(3.min(index)) };
            let mut deps = BTreeSet::new();
            while deps.len() < wanted {
                deps.insert(random.below(index));
            }
            let condition = match random.below(6) {
                0 => Condition::AnySuccess,
                1 => Condition::AllDone,
                2 => Condition::AnyFailure,
                _ => Condition::AllSuccess,
            };
            Job { deps: deps.into_iter().collect(), condition }
        });
        Case { seed, jobs: jobs.collect() }
    }

    /// How long the n-th run of a job takes and whether it succeeds. No two take equally long: the rules leave the order of
    /// ends at one instant open.
    fn outcome(&self, job: usize, run: usize) -> (Duration, bool) {
        let mut random = Random(self.seed ^ ((job as u64 + 1) << 32) ^ ((run as u64 + 1) << 48));
        let nanos = random.next() % 3_600_000_000_000;
        (Duration::from_nanos(1 + nanos), random.below(3) > 0)
    }

    fn config(&self) -> Config {
        let mut text = String::from("timezone: UTC\nmax_parallel: 1000\njobs:\n");
        for (index, job) in self.jobs.iter().enumerate() {
            if job.deps.is_empty() {
                let _ = writeln!(text, "  - {{ name: j{index}, trigger: cron, schedule: \"{index} 0 * * *\", command: x }}");
                continue;
            }
            let deps: Vec<String> = job.deps.iter().map(|dep| format!("j{dep}")).collect();
            let condition = match job.condition {
                Condition::AllSuccess => "all_success",
                Condition::AnySuccess => "any_success",
                Condition::AllDone => "all_done",
                Condition::AnyFailure => "any_failure",
            };
            let deps = deps.join(", ");
            let _ = writeln!(text, "  - {{ name: j{index}, depends_on: [{deps}], condition: {condition}, command: x }}");
        }
        let around = Surroundings { start_dir: "/".into(), machine_seed: 0, uid: 65_534 };
        load_text(Path::new("f"), &text, &around).expect("a valid configuration")
    }
}

/// What happened to each job, in order: succeeded, failed or skipped.
type Outcomes = BTreeMap<usize, Vec<&'static str>>;

const FROM: &str = "2026-01-01T00:00:00Z";
const TO: &str = "2026-01-06T00:00:00Z";

fn by_engine(case: &Case) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut begun: BTreeMap<usize, usize> = BTreeMap::new();
    let instant = |text| -> WallTime { parse_rfc3339(text).unwrap() };
    let attempt = |spawn: &firelink::engine::Spawn| {
        let job = spawn.job.index();
        let count = begun.entry(job).or_default();
        let (takes, good) = case.outcome(job, *count);
        *count += 1;
        Attempted { takes, exit: Exit::Code(i32::from(!good)) }
    };
    let step = |step: Step| {
        if matches!(step.what, What::Ended | What::Skipped) {
            outcomes.entry(step.job.index()).or_default().push(step.state.as_str());
        }
        true
    };
    simulate(case.config().rules, instant(FROM), instant(TO), attempt, step).expect("no cycle");
    outcomes
}

/// The rules in their simplest form: after each end all jobs are examined, and the only state is how each dependency ended
/// last since that was consumed.
struct Model<'c> {
    case: &'c Case,
    /// For each job and each of its dependencies: did its latest end succeed, if it has one that counts.
    credits: Vec<Vec<Option<bool>>>,
    running: Vec<bool>,
    begun: Vec<usize>,
    /// Ends to come: (when, job, good).
    ends: BTreeSet<(Duration, usize, bool)>,
    outcomes: Outcomes,
}

impl Model<'_> {
    fn start(&mut self, at: Duration, job: usize) {
        let (takes, good) = self.case.outcome(job, self.begun[job]);
        self.begun[job] += 1;
        self.running[job] = true;
        self.credits[job].fill(None);
        self.ends.insert((at + takes, job, good));
    }

    fn satisfied(&self, job: usize) -> bool {
        let credits = &self.credits[job];
        match self.case.jobs[job].condition {
            Condition::AllSuccess => credits.iter().all(|end| *end == Some(true)),
            Condition::AnySuccess => credits.contains(&Some(true)),
            Condition::AllDone => credits.iter().all(Option::is_some),
            Condition::AnyFailure => credits.contains(&Some(false)),
        }
    }

    fn ended(&mut self, at: Duration, job: usize, good: bool) {
        self.running[job] = false;
        self.outcomes.entry(job).or_default().push(if good { "succeeded" } else { "failed" });
        // The end propagates; a job that it skips has ended too, without success.
        let mut wave = VecDeque::from([(job, good)]);
        let mut skipped = BTreeSet::new();
        while let Some((upstream, good)) = wave.pop_front() {
            for job in 0..self.case.jobs.len() {
                let Some(slot) = self.case.jobs[job].deps.iter().position(|dep| *dep == upstream) else { continue };
                self.credits[job][slot] = Some(good);
                let all = self.credits[job].iter().all(Option::is_some);
                let closed = match self.case.jobs[job].condition {
                    Condition::AllSuccess => !good,
                    Condition::AnySuccess => all && !self.credits[job].contains(&Some(true)),
                    Condition::AnyFailure => all && !self.credits[job].contains(&Some(false)),
                    Condition::AllDone => false,
                };
                if closed && skipped.insert(job) {
                    if self.case.jobs[job].condition != Condition::AllSuccess {
                        self.credits[job].fill(None);
                    }
                    self.outcomes.entry(job).or_default().push("skipped");
                    wave.push_back((job, false));
                }
            }
        }
        for job in 0..self.case.jobs.len() {
            if !self.case.jobs[job].deps.is_empty() && !self.running[job] && self.satisfied(job) {
                self.start(at, job);
            }
        }
    }
}

fn by_model(case: &Case) -> Outcomes {
    let count = case.jobs.len();
    let mut model = Model {
        case,
        credits: case.jobs.iter().map(|job| vec![None; job.deps.len()]).collect(),
        running: vec![false; count],
        begun: vec![0; count],
        ends: BTreeSet::new(),
        outcomes: Outcomes::new(),
    };
    let days = 5;
    let mut fires: BTreeSet<(Duration, usize)> = (0..days)
        .flat_map(|day| (0..count).map(move |job| (Duration::from_secs(day * 86_400 + job as u64 * 60), job)))
        .filter(|(_, job)| case.jobs[*job].deps.is_empty())
        .collect();
    loop {
        let end = model.ends.first().copied();
        let fire = fires.first().copied();
        match (end, fire) {
            (Some((at, job, good)), fire) if fire.is_none_or(|(fire, _)| at <= fire) => {
                model.ends.pop_first();
                if at >= Duration::from_secs(days * 86_400) {
                    return model.outcomes;
                }
                model.ended(at, job, good);
            }
            (_, Some((at, job))) => {
                fires.pop_first();
                if model.running[job] {
                    // `forbid`, the default of cron: no end of the job for its dependents.
                    model.outcomes.entry(job).or_default().push("skipped");
                } else {
                    model.start(at, job);
                }
            }
            _ => return model.outcomes,
        }
    }
}

#[test]
fn the_engine_runs_and_skips_what_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("FIRELINK_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("FIRELINK_SEEDS").unwrap_or(3_000),
    };
    let (mut ran, mut skipped) = (0, 0);
    for seed in seeds {
        let case = Case::random(seed);
        let (engine, model) = (by_engine(&case), by_model(&case));
        assert_eq!(engine, model, "FIRELINK_SEED={seed} cargo test --test dependencies\n{case:#?}");
        let states = engine.values().flatten();
        skipped += states.clone().filter(|state| **state == "skipped").count();
        ran += states.filter(|state| **state != "skipped").count();
    }
    // Two empty histories would be equal, too.
    assert!(ran > skipped / 10 && skipped > 0, "{ran} ran, {skipped} were skipped");
}

#[test]
fn a_chain_of_a_thousand_and_a_fan_of_ten_thousand_run_to_their_ends() {
    let around = Surroundings { start_dir: "/".into(), machine_seed: 0, uid: 65_534 };
    let mut text = String::from("timezone: UTC\njobs:\n  - { name: root, trigger: cron, schedule: \"0 0 * * *\" }\n");
    for index in 0..1_000 {
        let upstream = if index == 0 { "root".to_owned() } else { format!("c{}", index - 1) };
        let _ = writeln!(text, "  - {{ name: c{index}, depends_on: [{upstream}], command: x }}");
    }
    let fan: Vec<String> = (0..10_000).map(|index| format!("f{index}")).collect();
    for name in &fan {
        let _ = writeln!(text, "  - {{ name: {name}, depends_on: [root], command: x }}");
    }
    let _ = writeln!(text, "  - {{ name: end, depends_on: [c999, {}] }}", fan.join(", "));
    let config = load_text(Path::new("f"), &text, &around).expect("a valid configuration");
    let last = config.jobs.len() - 1;
    let mut ends = vec![0; config.jobs.len()];
    let (mut alive, mut most) = (0_u32, 0);
    let second = |_: &firelink::engine::Spawn| Attempted { takes: Duration::from_secs(1), exit: Exit::Code(0) };
    let (from, to) = (parse_rfc3339(FROM).unwrap(), parse_rfc3339("2026-01-01T23:00:00Z").unwrap());
    simulate(config.rules, from, to, second, |step| {
        match step.what {
            What::Started => alive += 1,
            What::Ended => {
                ends[step.job.index()] += 1;
                // Milestones end without ever having started.
                if step.job.index() != 0 && step.job.index() != last {
                    alive -= 1;
                }
            }
            What::Scheduled | What::Skipped | What::Missed => {}
        }
        most = most.max(alive);
        true
    })
    .expect("no cycle");
    assert!(ends.iter().all(|count| *count == 1), "each runs once");
    assert_eq!(most, 32, "as many at once as max_parallel says, and no more");
}
