//! The whole product but the kernel, from a seed: a configuration, a world that does things to it, and rules that are looked
//! at after every step. What breaks one is told with the shortest story that does.
//!
//! * `case` makes the configuration and the story;
//! * `world` is the kernel, the disk and the people, and has the daemon's turn in the reactor's order;
//! * `ledger` is what must hold.

pub mod case;
mod ledger;
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

/// Stories tried at most while one is made shorter.
const SHORTENINGS: usize = 300;

/// What broke, and how to see it again.
pub struct Failure {
    case: Case,
    broken: String,
    diary: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { case, broken, diary } = self;
        writeln!(f, "seed {}: {broken}", case.seed)?;
        writeln!(
            f,
            "again: FIRELINK_SEED={} cargo test --test simulation\n\nthe shortest story that shows it, from {}:",
            case.seed, case.start
        )?;
        case.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))?;
        let variants = case.steps.iter().any(|step| matches!(step, Step::Reload(_)));
        for file in case.files.iter().take(if variants { case.files.len() } else { 1 }) {
            writeln!(f, "\n{file}")?;
        }
        let last = diary.len().saturating_sub(40);
        writeln!(f, "how it ended:")?;
        diary[last..].iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn tell(case: &Case, diary: bool) -> (Result<Tally, String>, Vec<String>) {
    let mut world = World::new(case, diary);
    let told = catch_unwind(AssertUnwindSafe(|| world.live()));
    let diary = world.diary.take().unwrap_or_default();
    let told = told.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panics: {}", text.unwrap_or_default()))
    });
    (told.map(|()| world.tally), diary)
}

/// One seed's story.
pub fn simulate(seed: u64) -> Result<Tally, String> {
    tell(&Case::from_seed(seed), false).0
}

/// The same for a seed that fails, made as short as it gets.
pub fn explain(seed: u64) -> Option<Failure> {
    let mut case = Case::from_seed(seed);
    let mut broken = tell(&case, false).0.err()?;
    let mut tries = 0;
    let mut chunk = case.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < case.steps.len() && tries < SHORTENINGS {
            let mut shorter = case.clone();
            shorter.steps.drain(at..(at + chunk).min(case.steps.len()));
            tries += 1;
            match tell(&shorter, false).0 {
                Err(said) => (case, broken) = (shorter, said),
                Ok(_) => at += chunk,
            }
        }
        chunk /= 2;
    }
    let (told, diary) = tell(&case, true);
    Some(Failure { broken: told.err().unwrap_or(broken), case, diary })
}
