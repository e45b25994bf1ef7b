//! The simulation of `tests/simulation.rs`, seed after seed, until it finds something or is ended.
//!
//! `cargo run --example simulate-forever [FIRST_SEED [LAST_SEED]]`

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout, reason = "a program for those who work on firelink")]
#![expect(unsafe_code, reason = "a VFS of SQLite is a table of C functions")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a seed is a number"));
    let (first, last) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(u64::MAX));
    let begun = Instant::now();
    let (mut cases, mut turns, mut starts) = (0_u64, 0, 0);
    for seed in first..=last {
        match simulation::simulate(seed) {
            Ok(tally) => (cases, turns, starts) = (cases + 1, turns + tally.turns, starts + tally.starts),
            Err(_) => {
                println!("{}", simulation::explain(seed).expect("a seed replays"));
                return ExitCode::FAILURE;
            }
        }
        if cases.is_multiple_of(500) {
            println!(
                "{cases} cases, {turns} turns, {starts} processes in {:.0} s; next seed {}",
                begun.elapsed().as_secs_f64(),
                seed + 1
            );
        }
    }
    ExitCode::SUCCESS
}
