//! `firelink ctl status`, and `firelink status`.

mod view;
mod watch;

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::cli::terminal::Terminal;
use crate::control::Client;
use crate::control::commands::status::{self, Status};
use crate::control::protocol::Request;

/// show how the daemon and its jobs stand
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Args {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// stay, and draw anew what changes; Ctrl-C ends it
    #[argh(switch)]
    watch: bool,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args) -> Done {
    let terminal = Terminal::of_stdout();
    if args.watch {
        return match args.format {
            Format::Text => watch::run(args, terminal),
            Format::Json => Err(Failure::usage("--watch is for people; `firelink ctl events` tells programs what changes")),
        };
    }
    let mut client = connect(args.socket.as_deref())?;
    let answer = ask_status(&mut client, args)?;
    match args.format {
        Format::Json => print_json(&answer)?,
        Format::Text => print(&view::page(&answer, terminal, crate::cli::next::now()))?,
    }
    // A daemon whose state can't be written does its jobs, but a watchdog should know.
    if answer.state_error.is_some() { Err(Failure::silent(1)) } else { Ok(()) }
}

fn ask_status(client: &mut Client, args: &Args) -> Result<Status, Failure> {
    ask(client, &Request::Status(status::Request { job: args.job.clone() }))
}
