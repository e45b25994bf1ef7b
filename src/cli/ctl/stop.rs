//! `firelink ctl stop`, and `firelink stop`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect, failure};
use crate::cli::out::Done;
use crate::control::commands::stop::{self, Stopped};
use crate::control::protocol::Request;

/// stop the daemon: no run starts, running jobs get shutdown_timeout, then SIGTERM, then SIGKILL
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "stop")]
pub struct Args {
    /// kill running jobs at once
    #[argh(switch)]
    now: bool,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let _: Stopped = ask(&mut client, &Request::Stop(stop::Request { now: args.now }))?;
    // The reply is sent before the daemon exits; the connection closes with its exit.
    while client.next_line().map_err(failure)?.is_some() {}
    Ok(())
}
