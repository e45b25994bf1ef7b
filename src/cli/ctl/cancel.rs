//! `firelink ctl cancel`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Format, parse_format, print, print_json};
use crate::control::commands::cancel::{self, Cancelled};
use crate::control::protocol::Request;
use crate::model::RunId;

/// cancel a run: SIGTERM now, SIGKILL after its kill_grace
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "cancel")]
pub struct Args {
    /// the run's number
    #[argh(positional)]
    run: u64,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Cancelled = ask(&mut client, &Request::Cancel(cancel::Request { run: RunId(args.run) }))?;
    match args.format {
        Format::Json => print_json(&answer.run),
        Format::Text => print(&cancel::render(&answer)),
    }
}
