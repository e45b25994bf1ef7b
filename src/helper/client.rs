//! A caller that waits, with a deadline: for commands, and for the daemon before its loop.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::TIMEOUT;
use super::process::{Process, start};
use super::protocol::{Answer, Request};
use crate::exec::{receive_packet, send_packet};

/// Why a request was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was heard for [`TIMEOUT`].
    Hung,
    /// What the system said of the path.
    Refused(io::Error),
    /// The process can't be started, or has ended.
    Unavailable(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Hung => write!(f, "it did not answer within {} s", TIMEOUT.as_secs()),
            Failure::Refused(error) => error.fmt(f),
            Failure::Unavailable(error) => write!(f, "the process that looks at files can't be used: {error}"),
        }
    }
}

/// A process of one's own, for one request after another until one hangs.
#[derive(Debug)]
pub struct Client {
    process: Option<Process>,
}

impl Client {
    /// Starts the process.
    ///
    /// # Errors
    /// [`Failure::Unavailable`].
    pub fn start() -> Result<Client, Failure> {
        start().map(|process| Client { process: Some(process) }).map_err(Failure::Unavailable)
    }

    /// Waits for the answer to a request, of which `on_part` gets each part but the last.
    ///
    /// # Errors
    /// After [`Failure::Hung`] and [`Failure::Unavailable`] the client can't be used any more.
    pub fn ask(&mut self, request: &Request, fd: Option<BorrowedFd<'_>>, mut on_part: impl FnMut(Answer)) -> Result<(), Failure> {
        let ended = || Failure::Unavailable(io::Error::from(io::ErrorKind::BrokenPipe));
        let socket = &self.process.as_ref().ok_or_else(ended)?.socket;
        send_packet(socket.as_fd(), &request.to_bytes(), fd).map_err(Failure::Unavailable)?;
        loop {
            let timeout = PollTimeout::try_from(TIMEOUT).unwrap_or(PollTimeout::NONE);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => {
                    // Not waited for: it does not end before its system call does.
                    let hung = self.process.take();
                    hung.map(|mut hung| hung.child.kill());
                    return Err(Failure::Hung);
                }
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(Failure::Unavailable(errno.into())),
            }
            let packet = receive_packet(socket.as_fd()).map_err(Failure::Unavailable)?;
            let (bytes, _) = packet.ok_or_else(ended)?;
            match Answer::from_bytes(&bytes).map_err(Failure::Unavailable)? {
                Answer::Done => return Ok(()),
                Answer::Failed(errno) => return Err(Failure::Refused(io::Error::from_raw_os_error(errno))),
                part => on_part(part),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(Process { mut child, socket }) = self.process.take() {
            drop(socket);
            // It waits for a request, or has ended.
            let _ = child.wait();
        }
    }
}
