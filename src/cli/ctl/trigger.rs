//! `firelink ctl trigger`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::control::commands::trigger::{self, Triggered};
use crate::control::protocol::Request;
use crate::model::StateWord;

/// trigger a job: it runs now, or as soon as its dependencies allow
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "trigger")]
pub struct Args {
    /// the job
    #[argh(positional)]
    job: String,
    /// wait until the run has ended; exit with 1 unless it succeeded
    #[argh(switch)]
    wait: bool,
    /// run now, regardless of its dependencies
    #[argh(switch)]
    force: bool,
    /// run all jobs that it depends on first, in order
    #[argh(switch)]
    with_deps: bool,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    if args.force && args.with_deps {
        return Err(Failure::usage("--force and --with-deps exclude each other"));
    }
    let mut client = connect(args.socket.as_deref())?;
    let request = trigger::Request { job: args.job.clone(), wait: args.wait, force: args.force, with_deps: args.with_deps };
    let answer: Triggered = ask(&mut client, &Request::Trigger(request))?;
    match args.format {
        Format::Json => print_json(&answer.run)?,
        Format::Text => print(&trigger::render(&answer))?,
    }
    if args.wait && answer.run.state != StateWord::Succeeded { Err(Failure::silent(1)) } else { Ok(()) }
}
