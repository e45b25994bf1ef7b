//! `firelink ctl logs`: the output of a run; `-f` follows it.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use argh::FromArgs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ask, connect, failure};
use crate::cli::out::{Done, Failure};
use crate::control::commands::logs::{self, Logs};
use crate::control::protocol::Request;
use crate::logs::{LogPaths, LogReader, Read, mark};

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

/// The poll interval of a followed log, in milliseconds.
const POLL_INTERVAL_MS: u16 = 100;

pub(super) fn run(args: &Args) -> Done {
    let mut client = connect(args.socket.as_deref())?;
    let answer: Logs = ask(&mut client, &Request::Logs(logs::Request { of: args.of.clone(), wait: false }))?;
    let paths = LogPaths { log: answer.path.into(), segments: answer.segments.into() };
    let mut output = Output { path: paths.log.clone(), reader: LogReader::new(paths, 0) };
    let over = answer.run.state.is_end();
    if let (true, false, Some(id)) = (args.follow, over, answer.run.id) {
        client.send(&Request::Logs(logs::Request { of: id.to_string(), wait: true })).map_err(failure)?;
        // The daemon's reply means that the run has ended; until then the log grows.
        while !readable(&client)? {
            output.copy(false)?;
        }
        return output.copy(true);
    }
    output.copy(over)
}

fn readable(client: &crate::control::Client) -> Result<bool, Failure> {
    let mut fds = [PollFd::new(client.socket().as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(POLL_INTERVAL_MS)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(Failure::failed(format!("can't wait for the daemon: {errno}"))),
    }
}

struct Output {
    path: PathBuf,
    reader: LogReader,
}

impl Output {
    /// Copies new output to stdout, with a line in the place of what was cut or is not there any more; `over` if the run had ended
    /// before.
    fn copy(&mut self, over: bool) -> Done {
        let mut stdout = std::io::stdout().lock();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = self.reader.read(&mut chunk, over);
            let read = read.map_err(|error| Failure::failed(format!("can't read {}: {error}", self.path.display())))?;
            let written = match read {
                Read::Output(count) => stdout.write_all(&chunk[..count]),
                Read::Cut(bytes) => stdout.write_all(mark(bytes).as_bytes()),
                Read::End => return Ok(()),
            };
            match written.and_then(|()| stdout.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(Failure::silent(0)),
                Err(error) => return Err(Failure::failed(format!("can't write to standard output: {error}"))),
            }
        }
    }
}
