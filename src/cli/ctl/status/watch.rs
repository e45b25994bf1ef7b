//! `ctl status --watch`: the status on the terminal, refreshed when it changes.
//!
//! The daemon is queried after an event, and every 10 s besides; in between, relative times are updated here. Only changed
//! lines are written.

use std::io::{ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Args, ask_status, view};
use crate::cli::ctl::{connect, failure};
use crate::cli::out::{Done, Failure};
use crate::cli::terminal::Terminal;
use crate::control::commands::events;
use crate::control::commands::status::{self, Status};
use crate::control::protocol::Request;
use crate::control::{Client, ClientError};

/// The shortest time between two requests, with events.
const SHORTEST_PERIOD: Duration = Duration::from_millis(200);

/// The time between two requests without events.
const LONGEST_PERIOD: Duration = Duration::from_secs(10);

const ENDED: &str = "the daemon has exited";

/// The height of a terminal that does not report it.
const HEIGHT: usize = 24;

/// Switches to the alternate screen without a cursor, and back (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

pub(super) fn run(args: &Args, terminal: Terminal) -> Done {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("--watch needs a terminal; programs can follow `firelink ctl events`"));
    }
    let mut asking = connect(args.socket.as_deref())?;
    // Errors of the request are printed before the screen is switched.
    let mut status = ask_status(&mut asking, args)?;
    let mut events = connect(args.socket.as_deref())?;
    events.send(&Request::Events(events::Request {})).map_err(failure)?;
    let cannot = |tried: &str, error: &dyn std::fmt::Display| Failure::failed(format!("can't {tried}: {error}"));
    events.socket().set_nonblocking(true).map_err(|error| cannot("follow the events", &error))?;
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH].into_iter().collect();
    signals.thread_block().map_err(|error| cannot("block signals", &error))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals, flags).map_err(|error| cannot("listen to signals", &error))?;

    let mut screen = Screen::enter(terminal)?;
    let (mut asked, mut changed) = (Instant::now(), false);
    loop {
        let ticks = screen.draw(&status)?;
        let until_asked = if changed { SHORTEST_PERIOD } else { LONGEST_PERIOD }.saturating_sub(asked.elapsed());
        let until_drawn = if ticks { Duration::from_secs(1) } else { Duration::from_secs(60) };
        wait(&signals, &events, !changed, until_asked.min(until_drawn)).map_err(|errno| cannot("wait for the daemon", &errno))?;
        while let Ok(Some(signal)) = signals.read_signal() {
            if i32::try_from(signal.ssi_signo) != Ok(Signal::SIGWINCH as i32) {
                return Ok(());
            }
            screen.resize();
        }
        changed |= take_events(&mut events)?;
        if asked.elapsed() >= if changed { SHORTEST_PERIOD } else { LONGEST_PERIOD } {
            status = ask_again(&mut asking, args)?;
            // From the reply on, so that a daemon with many jobs is not kept busy.
            (asked, changed) = (Instant::now(), false);
        }
    }
}

/// As [`ask_status`], but the daemon may have exited.
fn ask_again(client: &mut Client, args: &Args) -> Result<Status, Failure> {
    let request = Request::Status(status::Request { job: args.job.clone() });
    let value = client.ask(&request).map_err(|error| match error {
        ClientError::Broken(_) => Failure::no_daemon(ENDED),
        other => failure(other),
    })?;
    serde_json::from_value(value).map_err(|error| Failure::failed(format!("can't parse the daemon's reply: {error}")))
}

/// Waits for a signal, an event (if `to_events`), or the timeout.
fn wait(signals: &SignalFd, events: &Client, to_events: bool, time: Duration) -> nix::Result<()> {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(events.socket().as_fd(), PollFlags::POLLIN)];
    let count = if to_events { 2 } else { 1 };
    // Rounded up, against a busy loop at the end of the timeout.
    let time = PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds[..count], time) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// True if there were events. Their content is not needed: the status is requested again.
fn take_events(events: &mut Client) -> Result<bool, Failure> {
    let mut any = false;
    let mut chunk = [0; 16 * 1024];
    loop {
        match events.socket().read(&mut chunk) {
            Ok(0) => return Err(Failure::no_daemon(ENDED)),
            Ok(_) => any = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Failure::no_daemon(ENDED)),
        }
    }
}

/// The alternate screen, until it is dropped.
struct Screen {
    terminal: Terminal,
    shown: Vec<String>,
}

impl Screen {
    fn enter(terminal: Terminal) -> Result<Screen, Failure> {
        write(ENTER)?;
        Ok(Screen { terminal, shown: Vec::new() })
    }

    fn resize(&mut self) {
        self.terminal = Terminal::of_stdout();
        self.shown.clear();
        // If this fails, so does the next drawing, which reports it.
        let _ = write("\x1b[2J");
    }

    /// Draws the changed lines; true if a time in seconds is shown, which changes every second.
    fn draw(&mut self, status: &Status) -> Result<bool, Failure> {
        let height = self.terminal.height.unwrap_or(HEIGHT);
        let page = view::screen(status, self.terminal, height, crate::cli::clock::now());
        let mut text = String::new();
        for row in 0..page.lines.len().max(self.shown.len()) {
            let line = page.lines.get(row).map_or("", String::as_str);
            if self.shown.get(row).map(String::as_str) != Some(line) {
                // Cursor to the row, the line, and erase to its end.
                text.push_str(&format!("\x1b[{};1H{line}\x1b[K", row + 1));
            }
        }
        self.shown = page.lines;
        if !text.is_empty() {
            write(&text)?;
        }
        Ok(page.ticks)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may have been closed.
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> Done {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::failed(format!("can't write to the terminal: {error}")))
}
