//! What the daemon and whoever started it tell each other: systemd's notifications and sockets, and a log file that can be
//! moved away under the daemon. By hand, because each is a line of text and a descriptor.
//!
//! sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3), systemd.service(5) (`Type=notify-reload`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

use crate::model::Elapsed;

/// The daemon's ties to whoever started it. The default has none.
#[derive(Debug, Default)]
pub struct Service {
    /// The supervisor that wants to hear.
    pub notify: Notify,
    /// The log, if it is a file.
    pub log_file: Option<LogFile>,
}

/// Where notifications go, if anybody asked for them. Without `$NOTIFY_SOCKET` it costs nothing.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Half of what the watchdog allows, and when it is to hear of us next.
    watchdog: Option<(Duration, Elapsed)>,
    /// The last `STATUS=`, so that none is said twice.
    said: String,
}

impl Notify {
    /// As the environment has it.
    #[must_use]
    pub fn of_this_process() -> Notify {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(path) = variable("NOTIFY_SOCKET") else { return Notify::default() };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&path),
        };
        let opened = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A supervisor that does not read must not stop the daemon.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        let to = opened.inspect_err(|error| log::warn!("NOTIFY_SOCKET {}: {error}", path.display())).ok();
        let number = |name: &str| variable(name).and_then(|text| text.to_str().and_then(|text| text.parse::<u64>().ok()));
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number("WATCHDOG_USEC").filter(|usec| *usec > 1 && ours && to.is_some());
        let watchdog = every.map(|usec| (Duration::from_micros(usec / 2), Elapsed::from_nanos(0)));
        Notify { to, watchdog, said: String::new() }
    }

    /// Every deadline is armed, and requests are answered.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.said);
        self.send(&format!("READY=1\nMAINPID={}\nSTATUS={}\n", std::process::id(), one_line(status)));
    }

    /// A reload begins; [`Notify::ready`] is its end.
    pub fn reloading(&self) {
        if self.to.is_some() {
            let now =
                clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000);
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n"));
        }
    }

    /// The end begins.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}\n", one_line(status)));
    }

    /// How the daemon stands, in a line.
    pub fn status(&mut self, status: &str) {
        if self.to.is_some() && self.said != status {
            status.clone_into(&mut self.said);
            self.send(&format!("STATUS={}\n", one_line(status)));
        }
    }

    /// When the watchdog must hear of us.
    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Lets the watchdog hear of us, if it is time: a turn of the loop is the proof of life.
    pub(super) fn wake_due(&mut self, now: Elapsed) {
        if let Some((every, at)) = self.watchdog
            && at <= now
        {
            self.send("WATCHDOG=1\n");
            self.watchdog = Some((every, now + every));
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            log::warn!("the supervisor can't be told `{}`: {error}", text.lines().next().unwrap_or_default());
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// The first descriptor that a supervisor hands over (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: RawFd = 3;

/// How many descriptors were handed over to this very process.
fn passed() -> RawFd {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i64>().ok());
    let ours = number("LISTEN_PID") == Some(i64::from(std::process::id()));
    number("LISTEN_FDS").filter(|_| ours).and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0).clamp(0, 64)
}

/// The listening Unix socket that a supervisor has handed over (socket activation), if there is one. The descriptor
/// itself stays open besides, for the program that this one may become.
///
/// # Errors
/// When the descriptor can't be used.
pub fn passed_socket() -> io::Result<Option<UnixListener>> {
    for fd in FIRST_PASSED..FIRST_PASSED + passed() {
        // SAFETY: the supervisor says by LISTEN_PID and LISTEN_FDS that this descriptor is open and ours, and nothing here
        // closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let is_stream = getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
        let listens = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
        let family = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&fd)).ok().and_then(|name| name.family());
        if is_stream && listens && family == Some(AddressFamily::Unix) {
            return Ok(Some(UnixListener::from(fd.try_clone_to_owned()?)));
        }
    }
    Ok(None)
}

/// Lets the program that this one is about to become have what was handed over. What this process starts does not get it:
/// [`crate::exec`] closes every descriptor.
pub(super) fn pass_on() {
    for fd in FIRST_PASSED..FIRST_PASSED + passed() {
        // SAFETY: as in `passed_socket`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // It fails for what is not open, which then is not missed.
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()));
    }
}

/// A log file that whoever rotates logs may move away: [`LogFile::reopen`] then goes on in a new one of its name.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<(PathBuf, Mutex<File>)>);

impl LogFile {
    /// Opens the file to append to it; it is made if it is not there, readable to its owner's group.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        // Another directory may be the current one when it is opened again.
        let path = std::path::absolute(path)?;
        let file = open_log(&path)?;
        Ok(LogFile(Arc::new((path, Mutex::new(file)))))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// Opens it anew by its name. If that fails, the log goes on where it was.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open_log(self.path())?;
        *self.0.1.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Writes a whole line or lines.
    ///
    /// # Errors
    /// What write(2) said.
    pub fn append(&self, lines: &str) -> io::Result<()> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes())
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    // A terminal must not become the daemon's, and a pipe that nobody reads not its end.
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(to: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn notify(to: &SocketAddr, watchdog: Option<Duration>) -> Notify {
        let socket = UnixDatagram::unbound().unwrap();
        Notify {
            to: Some((socket, to.clone())),
            watchdog: watchdog.map(|half| (half, Elapsed::from_nanos(0))),
            said: String::new(),
        }
    }

    #[test]
    fn a_status_is_said_once_and_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from_pathname(dir.path().join("s")).unwrap();
        let supervisor = listening(&address);
        let mut notify = notify(&address, None);
        notify.ready("one\ntwo");
        assert_eq!(heard(&supervisor), format!("READY=1\nMAINPID={}\nSTATUS=one two\n", std::process::id()));
        notify.status("one\ntwo");
        notify.status("three");
        assert_eq!(heard(&supervisor), "STATUS=three\n");
    }

    #[test]
    fn the_watchdog_hears_at_each_half_of_its_time_and_not_more_often() {
        let name = format!("firelink-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let supervisor = listening(&address);
        let at = |secs: u64| Elapsed::from_nanos(secs * 1_000_000_000);
        let mut notify = notify(&address, Some(Duration::from_secs(5)));
        for secs in [100, 101, 104, 105, 106, 111] {
            notify.wake_due(at(secs));
        }
        assert_eq!(notify.next_wake(), Some(at(116)));
        notify.stopping("bye");
        assert_eq!([heard(&supervisor), heard(&supervisor), heard(&supervisor)], ["WATCHDOG=1\n"; 3]);
        assert_eq!(heard(&supervisor), "STOPPING=1\nSTATUS=bye\n");
        assert_eq!(Notify::default().next_wake(), None, "without a watchdog there is no wakeup");
    }

    #[test]
    fn a_log_that_was_moved_away_goes_on_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("old"));
        let log = LogFile::open(&path).unwrap();
        log.append("one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        log.append("two\n").unwrap();
        log.reopen().unwrap();
        log.append("three\n").unwrap();
        assert_eq!(
            (std::fs::read_to_string(old).unwrap(), std::fs::read_to_string(path).unwrap()),
            ("one\ntwo\n".into(), "three\n".into())
        );
    }
}
