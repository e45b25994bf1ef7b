//! Notifications to the supervisor. By hand, because each is a line of text.
//!
//! sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) (`Type=notify-reload`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::model::Elapsed;

/// The supervisor that is notified, if there is one. Without `$NOTIFY_SOCKET` it costs nothing.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Half of what the watchdog allows, and when it is notified next.
    watchdog: Option<(Duration, Elapsed)>,
    /// The last `STATUS=`, so that none is sent twice.
    last_status: String,
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
        Notify { to, watchdog, last_status: String::new() }
    }

    /// Every deadline is armed, and requests are answered.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.last_status);
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

    /// The daemon begins to stop.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}\n", one_line(status)));
    }

    /// The state of the daemon, in a line.
    pub fn status(&mut self, status: &str) {
        if self.to.is_some() && self.last_status != status {
            status.clone_into(&mut self.last_status);
            self.send(&format!("STATUS={}\n", one_line(status)));
        }
    }

    /// When the watchdog has to be notified.
    pub(in crate::reactor) fn next_wake(&self) -> Option<Elapsed> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Notifies the watchdog, if it is time: a turn of the loop is the proof of life.
    pub(in crate::reactor) fn wake_due(&mut self, now: Elapsed) {
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
            log::warn!("the supervisor can't be notified of `{}`: {error}", text.lines().next().unwrap_or_default());
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(to: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn notify(to: &SocketAddr, watchdog: Option<Duration>) -> Notify {
        let socket = UnixDatagram::unbound().unwrap();
        Notify {
            to: Some((socket, to.clone())),
            watchdog: watchdog.map(|half| (half, Elapsed::from_nanos(0))),
            last_status: String::new(),
        }
    }

    #[test]
    fn a_status_is_sent_once_and_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from_pathname(dir.path().join("s")).unwrap();
        let supervisor = listening(&address);
        let mut notify = notify(&address, None);
        notify.ready("one\ntwo");
        assert_eq!(received(&supervisor), format!("READY=1\nMAINPID={}\nSTATUS=one two\n", std::process::id()));
        notify.status("one\ntwo");
        notify.status("three");
        assert_eq!(received(&supervisor), "STATUS=three\n");
    }

    #[test]
    fn the_watchdog_is_notified_at_each_half_of_its_time_and_not_more_often() {
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
        assert_eq!([received(&supervisor), received(&supervisor), received(&supervisor)], ["WATCHDOG=1\n"; 3]);
        assert_eq!(received(&supervisor), "STOPPING=1\nSTATUS=bye\n");
        assert_eq!(Notify::default().next_wake(), None, "without a watchdog there is no wakeup");
    }
}
