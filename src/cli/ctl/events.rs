//! `firelink ctl events`: what happens, a JSON object a line, until the daemon or the reader goes.

use std::path::PathBuf;

use argh::FromArgs;

use super::{connect, failure};
use crate::cli::out::{Done, print};
use crate::control::commands::events;
use crate::control::protocol::Request;

/// follow what happens, as JSON lines
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "events")]
pub struct Args {
    /// follow; there is nothing else to do with events, so it is always on
    #[argh(switch, short = 'f')]
    #[expect(dead_code, reason = "accepted because people type it")]
    follow: bool,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    client.send(&Request::Events(events::Request {})).map_err(failure)?;
    while let Some(line) = client.next_line().map_err(failure)? {
        print(&line)?;
    }
    Ok(())
}
