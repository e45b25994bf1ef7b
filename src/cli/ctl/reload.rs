//! `firelink ctl reload`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, Format, parse_format, print, print_json};
use crate::control::commands::reload::{Reloaded, Request as Ask, render};
use crate::control::protocol::Request;

/// reload the configuration; a wrong one changes nothing
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "reload")]
pub struct Args {
    /// show what would change without changing it
    #[argh(switch)]
    dry_run: bool,
    /// replace the daemon by the program at its path, for an upgrade; running jobs continue
    #[argh(switch)]
    exec: bool,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Reloaded = ask(&mut client, &Request::Reload(Ask { dry_run: args.dry_run, exec: args.exec }))?;
    match args.format {
        Format::Json => print_json(&answer),
        Format::Text => print(&render(&answer, args.dry_run)),
    }
}
