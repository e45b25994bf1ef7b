//! `firelink ctl pause` and `resume`.

use std::path::PathBuf;

use argh::FromArgs;

use super::{ask, connect};
use crate::cli::out::{Done, print};
use crate::control::commands::pause::{Paused, Request as Ask};
use crate::control::protocol::Request;

/// hold a job, or all: nothing of it starts until it is resumed
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "pause")]
pub struct PauseArgs {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

/// let a paused job, or all, go on
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "resume")]
pub struct ResumeArgs {
    /// this job only
    #[argh(positional)]
    job: Option<String>,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default place
    #[argh(option)]
    socket: Option<PathBuf>,
}

pub(super) fn pause(args: &PauseArgs) -> Done {
    send(args.socket.as_ref(), &Request::Pause(Ask { job: args.job.clone() }))
}

pub(super) fn resume(args: &ResumeArgs) -> Done {
    send(args.socket.as_ref(), &Request::Resume(Ask { job: args.job.clone() }))
}

fn send(socket: Option<&PathBuf>, request: &Request) -> Done {
    let mut client = connect(socket.map(PathBuf::as_path))?;
    let answer: Paused = ask(&mut client, request)?;
    print(&format!("{} paused\n", answer.paused))
}
