//! The whole product but the kernel, from a seed: a configuration, a world that does things to it, and rules that are checked
//! after every step. A failure is reported with the shortest case that shows it.
//!
//! * `case` makes the configuration and the steps;
//! * `world` is the kernel, the disk and the people: a host for the reactor's own turn and reload;
//! * `oracle` is what must hold.

pub mod case;
mod oracle;
#[path = "../support/random.rs"]
mod random;
#[allow(dead_code, reason = "shared with the tests of the store, which use all of it")]
#[path = "../store_faults/vfs.rs"]
mod vfs;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use case::{Case, Step};
use world::{Tally, World};

/// Cases tried at most while one is made shorter.
const SHORTENINGS: usize = 300;

/// What broke, and how to see it again.
pub struct Failure {
    case: Case,
    broken: String,
    trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { case, broken, trace } = self;
        writeln!(f, "seed {}: {broken}", case.seed)?;
        writeln!(
            f,
            "again: FIRELINK_SEED={} cargo test --test simulation\n\nthe shortest case that shows it, from {}:",
            case.seed, case.start
        )?;
        case.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))?;
        let variants = case.steps.iter().any(|step| matches!(step, Step::Reload(_)));
        for file in case.files.iter().take(if variants { case.files.len() } else { 1 }) {
            writeln!(f, "\n{file}")?;
        }
        let last = trace.len().saturating_sub(40);
        writeln!(f, "how it ended:")?;
        trace[last..].iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn run(case: &Case, wants_trace: bool) -> (Result<Tally, String>, Vec<String>) {
    let mut world = World::new(case, wants_trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.live()));
    let trace = world.take_trace();
    let result = result.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panics: {}", text.unwrap_or_default()))
    });
    (result.map(|()| world.tally()), trace)
}

/// One seed's case.
pub fn simulate(seed: u64) -> Result<Tally, String> {
    run(&Case::from_seed(seed), false).0
}

/// The same for a seed that fails, made as short as it gets.
pub fn explain(seed: u64) -> Option<Failure> {
    let mut case = Case::from_seed(seed);
    let mut broken = run(&case, false).0.err()?;
    let mut tries = 0;
    let mut chunk = case.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < case.steps.len() && tries < SHORTENINGS {
            let mut shorter = case.clone();
            shorter.steps.drain(at..(at + chunk).min(case.steps.len()));
            tries += 1;
            match run(&shorter, false).0 {
                Err(said) => (case, broken) = (shorter, said),
                Ok(_) => at += chunk,
            }
        }
        chunk /= 2;
    }
    let (result, trace) = run(&case, true);
    Some(Failure { broken: result.err().unwrap_or(broken), case, trace })
}
