//! `firelink ctl status`, and `firelink status`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::control::commands::status::{self, Status};
use crate::control::protocol::Request;

/// show how the daemon and its jobs stand
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Args {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Status = ask(&mut client, &Request::Status(status::Request { job: args.job.clone() }))?;
    match args.format {
        Format::Json => print_json(&answer)?,
        Format::Text => print(&status::render(&answer))?,
    }
    // A daemon whose state can't be written does its jobs, but a watchdog should know.
    if answer.state_error.is_some() { Err(Failure::silent(1)) } else { Ok(()) }
}
