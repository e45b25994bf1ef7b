//! `firelink ctl events`: the stream of events, one JSON object per line, until the daemon or the reader exits.

use std::path::PathBuf;

use argh::FromArgs;

use super::{connect, failure};
use crate::cli::out::{Done, print};
use crate::control::commands::events;
use crate::control::protocol::Request;

/// follow events, as JSON lines
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "events")]
pub struct Args {
    /// follow; always on
    #[argh(switch, short = 'f')]
    #[expect(dead_code, reason = "accepted for symmetry with `ctl logs -f`")]
    follow: bool,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
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
