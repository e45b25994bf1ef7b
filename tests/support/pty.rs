//! Commands on a terminal of 80 columns and 24 lines, and what a person sees there.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use super::support::TEST_TIMEOUT;

/// How often it is asked whether a silent command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("not zero")
}

/// A command on its terminal. Dropping it kills it.
pub struct OnTerminal {
    child: Child,
    bytes: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// All that was written.
    pub written: Vec<u8>,
    _master: File,
}

impl OnTerminal {
    /// Starts a command, all of whose standard streams are the terminal.
    pub fn start(mut command: Command) -> OnTerminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        // Children of other tests must not keep it open; one that was just being made still may.
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        }
        let slave = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.env("TERM", "xterm").stdin(slave()).stdout(slave()).stderr(slave());
        // A shell ignores it for background jobs, which exec(2) passes on.
        // SAFETY: sigaction(2) is async-signal-safe, and the default disposition installs no handler.
        unsafe { command.pre_exec(|| signal(Signal::SIGINT, SigHandler::SigDfl).map(drop).map_err(Into::into)) };
        let child = command.spawn().expect("firelink starts");
        // Only the child may keep the terminal open: its end is how we learn that it has ended.
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let mut reading = master.try_clone().expect("a descriptor");
        let (send, bytes) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO: the other side of the terminal is closed.
            while let Ok(count @ 1..) = reading.read(&mut chunk) {
                if send.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        OnTerminal { child, bytes, screen: vt100::Parser::new(cells(24), cells(80), 0), written: Vec::new(), _master: master }
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen shows this.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.screen().contains(text) {
            match self.bytes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(why) => panic!("`{text}` never showed ({why}):\n{}", self.screen()),
            }
        }
        self.screen()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.screen.process(bytes);
        self.written.extend_from_slice(bytes);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("the command lives");
    }

    /// Waits for its end; returns its status and all that it wrote.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut ended = false;
        loop {
            match self.bytes.recv_timeout(LOOK_EVERY) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                // What it wrote before its end was there to be read by then.
                Err(RecvTimeoutError::Timeout) if ended => break,
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < deadline, "the command does not end:\n{}", self.screen());
                    ended = self.child.try_wait().expect("a child").is_some();
                }
            }
        }
        let status = self.child.wait().expect("a child");
        (status, String::from_utf8_lossy(&self.written).into_owned())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
