//! A case: a configuration and what the world does, both from one seed.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use firelink::config::{Config, Surroundings, load_text};
use firelink::cron::parse_rfc3339;
use firelink::model::WallTime;

use super::random::Random;

/// Where a dying daemon is in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    BeforeCommit,
    AfterCommit,
    /// This many acts after the commit.
    AmidActs(usize),
}

/// What the world does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time goes by, from deadline to deadline.
    Pass(Duration),
    /// The machine sleeps.
    Suspend(Duration),
    /// Somebody sets the wall clock, by so many seconds.
    SetClock(i64),
    Trigger {
        job: usize,
        force: bool,
        with_deps: bool,
    },
    /// One of the active runs, or one that is over.
    Cancel(usize),
    Repeat(usize),
    Pause(Option<usize>),
    Resume(Option<usize>),
    /// So many objects appear or change where the job watches, or its plugin writes so many lines.
    Events {
        job: usize,
        count: usize,
    },
    /// The file is now this variant of it.
    Reload(usize),
    /// The daemon is killed in its next turn, and comes back after a while.
    Crash(Death, Duration),
    /// The power is cut. What was not synced may be lost.
    PowerCut(Duration),
    /// The daemon is asked to stop and starts again after a while.
    Stop {
        patience: Duration,
        then: Duration,
    },
    StopNow(Duration),
    Leave(Duration),
    /// So many writes fail.
    WritesFail(usize),
    /// The kernel says from now on that the clock is synchronized.
    Synchronized,
}

#[derive(Clone, Debug)]
struct JobText {
    name: String,
    keys: Vec<(&'static str, String)>,
    deps: Vec<String>,
}

/// A configuration in a few variants, and steps.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub start: WallTime,
    pub files: Vec<String>,
    pub steps: Vec<Step>,
}

const SCHEDULES: &[&str] = &[
    "*/10 * * * *",
    "7 * * * *",
    "30 2 * * *",
    "15 */3 * * *",
    "*/20 * * * * *",
    "0 0 * * 0",
    "[\"*/30 * * * *\", \"@reboot\"]",
];

const STARTS: &[&str] =
    &["2026-03-28T23:10:00Z", "2026-10-24T22:55:00Z", "2026-06-15T12:00:00Z", "2025-12-31T23:00:00Z", "2026-04-04T13:00:00Z"];

const ZONES: &[&str] = &["UTC", "Europe/Berlin", "Australia/Lord_Howe"];

impl Case {
    pub fn from_seed(seed: u64) -> Case {
        let mut random = Random(seed);
        let start = parse_rfc3339(random.pick(STARTS)).unwrap();
        let count = 2 + random.below(6);
        let mut jobs: Vec<JobText> = Vec::new();
        for index in 0..count {
            let job = random_job(&mut random, index, &jobs);
            jobs.push(job);
        }
        let top = random_top(&mut random);
        let mut files = vec![text_of(&top, &jobs)];
        for _ in 0..2 {
            mutate(&mut random, &mut jobs);
            files.push(text_of(&top, &jobs));
        }
        let length = 10 + random.below(30);
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..length {
            steps.push(random_step(&mut random, count));
            // Most things matter only if time goes by after them.
            if !random.once_in(3) {
                steps.push(Step::Pass(random_pass(&mut random)));
            }
        }
        Case { seed, start, files, steps }
    }

    pub fn config(&self, variant: usize) -> Config {
        let text = &self.files[variant % self.files.len()];
        let around = Surroundings { start_dir: "/nowhere".into(), machine_seed: self.seed, uid: 65_534 };
        load_text(Path::new("f"), text, &around).unwrap_or_else(|refused| {
            let said: Vec<String> = refused.0.iter().map(|said| said.rendered.clone()).collect();
            panic!("the simulation made a configuration that is refused:\n{text}\n{}", said.join("\n"))
        })
    }
}

fn random_job(random: &mut Random, index: usize, earlier: &[JobText]) -> JobText {
    let mut keys: Vec<(&str, String)> = Vec::new();
    let name = format!("j{index}");
    let mut deps = Vec::new();
    if index > 0 && random.below(5) < 3 {
        let wanted = 1 + random.below(3.min(index));
        while deps.len() < wanted {
            let dep = earlier[random.below(index)].name.clone();
            if !deps.contains(&dep) {
                deps.push(dep);
            }
        }
        if random.once_in(2) {
            keys.push(("condition", random.pick(&["any_success", "all_done", "any_failure", "all_success"]).into()));
        }
    }
    let kind = if deps.is_empty() || random.once_in(3) { random.below(7) } else { 5 };
    match kind {
        0 | 1 => {
            keys.push(("trigger", "cron".into()));
            let schedule = random.pick(SCHEDULES);
            let quoted = if schedule.starts_with('[') { schedule.to_owned() } else { format!("\"{schedule}\"") };
            keys.push(("schedule", quoted));
            if random.once_in(2) {
                keys.push(("catch_up", random.pick(&["none", "last", "all"]).into()));
            }
            if random.once_in(4) {
                keys.push(("jitter", "90s".into()));
            }
        }
        2 => {
            keys.push(("trigger", "interval".into()));
            keys.push(("every", random.pick(&["45s", "7m", "1h"]).into()));
        }
        3 => {
            keys.push(("trigger", "watch".into()));
            keys.push(("source", format!("/watched/{name}")));
            keys.push(("existing", "process".into()));
        }
        4 => {
            keys.push(("trigger", "{ type: plugin, command: listen }".into()));
        }
        6 => keys.push(("trigger", "startup".into())),
        _ => keys.push(("trigger", "manual".into())),
    }
    if !random.once_in(6) {
        keys.push(("command", "work".into()));
    }
    if random.once_in(2) {
        keys.push(("concurrency", random.pick(&["forbid", "queue", "allow", "replace"]).into()));
    }
    if random.once_in(4) {
        keys.push(("max_parallel", (1 + random.below(3)).to_string()));
    }
    if random.once_in(2) {
        keys.push(("timeout", random.pick(&["20s", "3m", "1h"]).into()));
        keys.push(("kill_grace", random.pick(&["0s", "10s", "1m"]).into()));
    }
    if random.once_in(2) {
        let backoff = random.pick(&["fixed", "exponential"]);
        let (attempts, delay) = (2 + random.below(3), random.pick(&["1s", "30s", "5m"]));
        let codes = if random.once_in(4) { ", on_exit_codes: [2]" } else { "" };
        let jitter = random.once_in(2);
        keys.push(("retry", format!("{{ attempts: {attempts}, delay: {delay}, backoff: {backoff}, jitter: {jitter}{codes} }}")));
    }
    if random.once_in(12) {
        keys.push(("enabled", "false".into()));
    }
    JobText { name, keys, deps }
}

fn random_top(random: &mut Random) -> String {
    let mut top = format!("timezone: {}\nmax_parallel: {}\n", random.pick(ZONES), 1 + random.below(4));
    if random.once_in(5) {
        top.push_str("wait_for_clock: 2m\n");
    }
    if random.once_in(3) {
        let _ = writeln!(top, "grace: {}", random.pick(&["5s", "10m"]));
    }
    let every = random.pick(&["0s", "0s", "20s", "5m"]);
    let _ = writeln!(top, "state: {{ durability: {}, commit_every: {every} }}", random.pick(&["normal", "full"]));
    top
}

fn text_of(top: &str, jobs: &[JobText]) -> String {
    let mut text = format!("{top}jobs:\n");
    for job in jobs {
        let _ = write!(text, "  - {{ name: {}", job.name);
        if !job.deps.is_empty() {
            let _ = write!(text, ", depends_on: [{}]", job.deps.join(", "));
        }
        for (key, value) in &job.keys {
            let _ = write!(text, ", {key}: {value}");
        }
        text.push_str(" }\n");
    }
    text
}

/// Another version of the file, as people make them.
fn mutate(random: &mut Random, jobs: &mut Vec<JobText>) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(jobs.len());
        match random.below(5) {
            0 if jobs.len() > 2 => {
                let gone = jobs.remove(at).name;
                jobs.iter_mut().for_each(|job| job.deps.retain(|dep| *dep != gone));
                // What follows its dependencies needs some.
                jobs.iter_mut().filter(|job| job.deps.is_empty()).for_each(|job| job.keys.retain(|(key, _)| *key != "condition"));
            }
            1 => {
                if let Some(schedule) = jobs[at].keys.iter_mut().find(|(key, _)| *key == "schedule") {
                    schedule.1 = "\"*/15 * * * *\"".into();
                }
            }
            2 => {
                jobs[at].keys.retain(|(key, _)| *key != "concurrency");
                jobs[at].keys.push(("concurrency", random.pick(&["forbid", "queue", "allow", "replace"]).into()));
            }
            3 => {
                jobs[at].deps.pop();
                if jobs[at].deps.is_empty() {
                    jobs[at].keys.retain(|(key, _)| *key != "condition");
                }
            }
            _ => jobs.reverse(),
        }
    }
}

fn random_pass(random: &mut Random) -> Duration {
    Duration::from_secs(match random.below(6) {
        0 => 1,
        1 => 20,
        2 => 61,
        3 => 600,
        4 => 3_600,
        _ => 10_000,
    })
}

fn random_step(random: &mut Random, jobs: usize) -> Step {
    let job = random.below(jobs);
    let away = Duration::from_secs(match random.below(4) {
        0 => 0,
        1 => 3,
        2 => 200,
        _ => 9_000,
    });
    match random.below(40) {
        0..=8 => Step::Pass(random_pass(random)),
        9 => Step::Suspend(Duration::from_secs(if random.once_in(2) { 40 } else { 20_000 })),
        10 | 11 => Step::SetClock(match random.below(6) {
            0 => -7_200,
            1 => -90,
            2 => 30,
            3 => 3_700,
            4 => 400_000,
            _ => -86_400,
        }),
        12..=16 => Step::Trigger { job, force: random.once_in(5), with_deps: random.once_in(5) },
        17 | 18 => Step::Cancel(random.below(64)),
        19 => Step::Repeat(random.below(64)),
        20 => Step::Pause((!random.once_in(5)).then_some(job)),
        21 | 22 => Step::Resume(random.once_in(2).then_some(job)),
        23..=27 => Step::Events { job, count: 1 + random.below(4) },
        28 | 29 => Step::Reload(random.below(3)),
        30..=33 => {
            let death = match random.below(4) {
                0 => Death::BeforeCommit,
                1 => Death::AfterCommit,
                _ => Death::AmidActs(random.below(4)),
            };
            Step::Crash(death, away)
        }
        34 => Step::PowerCut(away),
        35 => Step::Stop { patience: Duration::from_secs(if random.once_in(2) { 5 } else { 60 }), then: away },
        36 => Step::StopNow(away),
        37 => Step::Leave(away),
        38 => Step::WritesFail(1 + random.below(5)),
        _ => Step::Synchronized,
    }
}
