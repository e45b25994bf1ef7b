//! The command line: one file per command, with its arguments and its execution. Text goes to stdout, diagnostics to
//! stderr; exit codes are 0 success, 1 failure, 2 usage or configuration, 3 no daemon.
//!
//! Commands do not import each other; they share `load`, `out`, `terminal` and `clock`.

pub mod check;
mod clock;
pub mod ctl;
pub mod graph;
pub mod history;
pub mod import;
mod load;
mod logging;
pub mod next;
mod out;
mod pid_file;
pub mod run;
pub mod schema;
pub mod simulate;
mod terminal;

use std::process::ExitCode;

use argh::FromArgs;

use crate::helper;
use out::{Failure, finish};

/// a job scheduler for small Linux boxes: cron, S3 and dependency triggers in one binary, one YAML file
#[derive(Debug, FromArgs)]
struct Cli {
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Next(next::Args),
    Simulate(simulate::Args),
    Schema(schema::Args),
    Graph(graph::Args),
    Import(import::Args),
    History(history::Args),
    Ctl(ctl::Args),
    Status(ctl::status::Args),
    Stop(ctl::stop::Args),
}

/// Executes a command line without its first word.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    if args == [helper::ARGUMENT] {
        return helper::run();
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let cli = match Cli::from_args(&["firelink"], &args) {
        Ok(cli) => cli,
        // `--help`.
        Err(early) if early.status.is_ok() => return finish(out::print(&early.output)),
        Err(early) => return finish(Err(Failure::usage(early.output.trim_end()))),
    };
    let done = match cli.command {
        _ if cli.version => out::print(concat!("firelink ", env!("CARGO_PKG_VERSION"), "\n")),
        None => Err(Failure::usage(
            "a command is needed: run, check, next, simulate, graph, import, schema, history, ctl, status or stop; see firelink --help",
        )),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Next(args)) => next::run(&args),
        Some(Command::Simulate(args)) => simulate::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        Some(Command::Graph(args)) => graph::run(&args),
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::History(args)) => history::run(&args),
        Some(Command::Ctl(args)) => ctl::run(&args),
        Some(Command::Status(args)) => ctl::status::run(&args),
        Some(Command::Stop(args)) => ctl::stop::run(&args),
    };
    finish(done)
}
