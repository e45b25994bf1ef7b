//! The process: its start, and its loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::IDLE;
use super::protocol::Request;
use super::work::{Replies, carry_out};
use crate::exec::{packet_pair, receive_packet};

/// The argument by which the program knows that it is this process.
pub const ARGUMENT: &str = "--files-helper";

/// What `ps` shows.
const NAME: &str = "firelink-files";

/// A started process. Dropping the socket ends it, unless it hangs.
#[derive(Debug)]
pub struct Process {
    /// The child. Never wait for it: in D state it does not end.
    pub child: Child,
    /// Requests go in, answers come out.
    pub socket: OwnedFd,
}

/// Starts this program again, without its environment: nothing of it is needed, and it may hold secrets.
///
/// # Errors
/// `EAGAIN` at the limit of processes, `ENOENT` without `/proc`, and what else socketpair(2), fork(2) and execve(2) say.
pub fn start() -> io::Result<Process> {
    let (socket, theirs) = packet_pair()?;
    let mut command = Command::new("/proc/self/exe");
    // Its output must not keep the reader of the daemon's waiting when it hangs.
    command.arg0(NAME).arg(ARGUMENT).env_clear().stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Process { child: command.spawn()?, socket })
}

/// The process itself: answers what comes through its standard input until that is closed, or nothing has come for [`IDLE`].
pub fn run() -> ExitCode {
    // None of these has to work. The session keeps signals of a terminal away, and the daemon's sweep of orphans in its group;
    // the directory and descriptors of the daemon may be on a mount that is to be unmounted.
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
    close_inherited();
    let _ = std::fs::write("/proc/self/comm", NAME);
    let socket = io::stdin();
    let timeout = PollTimeout::try_from(IDLE).unwrap_or(PollTimeout::NONE);
    loop {
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return ExitCode::FAILURE,
        }
        let Ok(Some((bytes, fd))) = receive_packet(socket.as_fd()) else { return ExitCode::SUCCESS };
        let Ok(request) = Request::from_bytes(&bytes) else { return ExitCode::FAILURE };
        if carry_out(&request, fd, &mut Replies::new(socket.as_fd())).is_err() {
            return ExitCode::FAILURE;
        }
    }
}

/// What the daemon was started with, and did not open itself with close-on-exec.
fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = open.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The directory's own descriptor is closed by now.
    open.into_iter().filter(|fd| *fd > 2).for_each(|fd| {
        let _ = nix::unistd::close(fd);
    });
}
