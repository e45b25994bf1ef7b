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

/// show the state of the daemon and its jobs
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Args {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// refresh until interrupted
    #[argh(switch)]
    watch: bool,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args) -> Done {
    let terminal = Terminal::of_stdout();
    if args.watch {
        return match args.format {
            Format::Text => watch::run(args, terminal),
            Format::Json => Err(Failure::usage("--watch has no JSON; programs can follow `firelink ctl events`")),
        };
    }
    let mut client = connect(args.socket.as_deref())?;
    let answer = ask_status(&mut client, args)?;
    match args.format {
        Format::Json => print_json(&answer)?,
        Format::Text => print(&view::page(&answer, terminal, crate::cli::clock::now()))?,
    }
    // A daemon whose state can't be written still runs its jobs, but a watchdog should notice.
    if answer.state_error.is_some() { Err(Failure::silent(1)) } else { Ok(()) }
}

fn ask_status(client: &mut Client, args: &Args) -> Result<Status, Failure> {
    ask(client, &Request::Status(status::Request { job: args.job.clone() }))
}
