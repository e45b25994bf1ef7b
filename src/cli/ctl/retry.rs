//! `firelink ctl retry`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::control::commands::retry::{self, Triggered};
use crate::control::protocol::Request;
use crate::model::{RunId, StateWord};

/// retry a run that did not succeed: a new run with the same event, regardless of its dependencies
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "retry")]
pub struct Args {
    /// the number of a run that failed, timed out, or was cancelled, skipped or lost
    #[argh(positional)]
    run: u64,
    /// also retry the runs that were skipped because of it, once this one has succeeded
    #[argh(switch)]
    downstream: bool,
    /// wait until the run has ended; exit with 1 unless it succeeded
    #[argh(switch)]
    wait: bool,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let request = retry::Request { run: RunId(args.run), downstream: args.downstream, wait: args.wait };
    let answer: Triggered = ask(&mut client, &Request::Retry(request))?;
    match args.format {
        Format::Json => print_json(&answer.run)?,
        Format::Text => print(&retry::render(&answer))?,
    }
    if args.wait && answer.run.state != StateWord::Succeeded { Err(Failure::silent(1)) } else { Ok(()) }
}
