//! `firelink ctl logs`: the output of a run; `-f` follows it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use argh::FromArgs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ask, connect, failure};
use crate::cli::out::{Done, Failure};
use crate::control::commands::logs::{self, Logs};
use crate::control::protocol::Request;

/// show the output of a run
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "logs")]
pub struct Args {
    /// a run's number, or a job's name for its latest run
    #[argh(positional)]
    of: String,
    /// follow the output until the run ends
    #[argh(switch, short = 'f')]
    follow: bool,
    /// the daemon's socket, instead of $FIRELINK_SOCKET or the default
    #[argh(option)]
    socket: Option<PathBuf>,
}

/// The poll interval of a followed file, in milliseconds.
const POLL_INTERVAL_MS: u16 = 100;

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Logs = ask(&mut client, &Request::Logs(logs::Request { of: args.of.clone(), wait: false }))?;
    let mut tail = Tail { path: answer.path.into(), file: None };
    if let (true, Some(id)) = (args.follow && !answer.run.state.is_end(), answer.run.id) {
        client.send(&Request::Logs(logs::Request { of: id.to_string(), wait: true })).map_err(failure)?;
        // The daemon's reply means that the run has ended; until then the file grows.
        while !readable(&client)? {
            tail.copy()?;
        }
    }
    tail.copy()
}

fn readable(client: &crate::control::Client) -> Result<bool, Failure> {
    let mut fds = [PollFd::new(client.socket().as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(POLL_INTERVAL_MS)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(Failure::failed(format!("can't wait for the daemon: {errno}"))),
    }
}

struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    /// Copies new output to stdout. Without output so far there is no file.
    fn copy(&mut self) -> Done {
        let unreadable =
            |error: std::io::Error, path: &PathBuf| Failure::failed(format!("can't read {}: {error}", path.display()));
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(unreadable(error, &self.path)),
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut stdout = std::io::stdout().lock();
        let mut chunk = [0; 16 * 1024];
        loop {
            let count = file.read(&mut chunk).map_err(|error| unreadable(error, &self.path))?;
            if count == 0 {
                return Ok(());
            }
            match stdout.write_all(&chunk[..count]).and_then(|()| stdout.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(Failure::silent(0)),
                Err(error) => return Err(Failure::failed(format!("can't write to standard output: {error}"))),
            }
        }
    }
}
