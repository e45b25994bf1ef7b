//! `firelink ctl pause`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, print};
use crate::control::commands::pause::{Paused, Request as Ask};
use crate::control::protocol::Request;

/// pause a job, or all: no run of it starts until it is resumed
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "pause")]
pub struct Args {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Paused = ask(&mut client, &Request::Pause(Ask { job: args.job.clone() }))?;
    print(&format!("{} paused\n", answer.paused))
}
