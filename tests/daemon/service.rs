//! Living under a supervisor: notifications, handed-over sockets, the background, logs that are rotated.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Place, TEST_TIMEOUT, is_alive, text};

const JOBS: &str = "jobs: [{ name: env, trigger: manual, command: env }]\n";

/// The other end of `$NOTIFY_SOCKET`.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn at(address: &SocketAddr) -> Supervisor {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Supervisor(socket)
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).expect("a notification");
        text(&buffer[..count])
    }

    /// The next notification that begins like this; those before it.
    fn hears_of(&self, what: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let heard = self.hears();
            if heard.starts_with(what) {
                return (heard, before);
            }
            before.push(heard);
        }
    }
}

#[test]
fn a_supervisor_hears_of_readiness_reloads_and_the_end() {
    let place = Place::new(JOBS);
    let path = place.path("notify");
    let supervisor = Supervisor::at(&SocketAddr::from_pathname(&path).unwrap());
    let path = path.display().to_string();
    // The watchdog is another process's.
    let place = place.with_env([("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    let daemon = place.start();
    let ready = supervisor.hears();
    assert_eq!(ready, format!("READY=1\nMAINPID={}\nSTATUS=1 job of firelink.yaml\n", daemon.pid()));
    place.write("firelink.yaml", &format!("{}\n", JOBS.replace("}]", "}, { name: b, trigger: manual }]")));
    daemon.signal(Signal::SIGHUP);
    let reloading = supervisor.hears();
    let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
    assert!(stamp.trim().parse::<u64>().is_ok_and(|usec| usec > 0), "{reloading}");
    assert!(supervisor.hears().contains("READY=1\n"));
    place.write("firelink.yaml", "jobs: wrong\n");
    daemon.signal(Signal::SIGHUP);
    assert!(supervisor.hears().starts_with("RELOADING=1\n"));
    assert!(supervisor.hears().contains("STATUS=2 jobs of"), "a refused file leaves it ready as before");
    assert_eq!(place.firelink(&["ctl", "reload"]).status.code(), Some(2));
    place.write("firelink.yaml", JOBS);
    place.prints(&["ctl", "reload"]);
    assert!(supervisor.hears().starts_with("RELOADING=1\n"));
    assert!(supervisor.hears().starts_with("READY=1\n"));
    // What runs is not the supervisor's business.
    let run = daemon.trigger("env");
    let log = place.prints(&["ctl", "logs", &run["id"].to_string()]);
    assert!(!log.contains("NOTIFY_SOCKET") && !log.contains("WATCHDOG_"), "{log}");
    place.prints(&["ctl", "reload", "--exec"]);
    assert!(supervisor.hears().starts_with("RELOADING=1\n"));
    assert!(supervisor.hears().contains(&format!("READY=1\nMAINPID={}\n", daemon.pid())));
    daemon.terminate();
    assert_eq!(supervisor.hears(), "STOPPING=1\nSTATUS=stopping, 0 running\n");
}

#[test]
fn a_watchdog_is_fed_through_a_socket_without_a_file() {
    let name = format!("firelink-watchdog-{}", std::process::id());
    let supervisor = Supervisor::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let place = Place::new(JOBS).with_env([("NOTIFY_SOCKET", format!("@{name}")), ("WATCHDOG_USEC", "200000".into())]);
    let daemon = place.start();
    assert!(supervisor.hears().starts_with("READY=1\n"));
    for _ in 0..4 {
        assert_eq!(supervisor.hears(), "WATCHDOG=1\n");
    }
    daemon.terminate();
    supervisor.hears_of("STOPPING=1\n");
}

#[test]
fn a_socket_that_was_handed_over_is_served_from_the_first_peer_on_and_kept() {
    let place = Place::new(JOBS);
    let listener = UnixListener::bind(place.socket()).unwrap();
    // It knocks before anybody is at home.
    let mut early = UnixStream::connect(place.socket()).unwrap();
    early.write_all(b"{\"v\":1,\"cmd\":\"status\"}\n").unwrap();
    let binary = place.command(&[]).get_program().to_owned();
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run firelink.yaml --state-dir state";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(binary).current_dir(place.path("")).stdin(Stdio::from(OwnedFd::from(listener)));
    command.env("FIRELINK_SOCKET", place.path("another"));
    let mut daemon = place.start_by(command);
    let mut answer = String::new();
    BufReader::new(&early).read_line(&mut answer).unwrap();
    assert!(answer.contains("\"ok\":true"), "{answer}");
    let run = daemon.trigger("env");
    let log = place.prints(&["ctl", "logs", &run["id"].to_string()]);
    assert!(!log.contains("LISTEN_"), "{log}");
    assert!(!place.path("another").exists());
    place.prints(&["ctl", "reload", "--exec"]);
    daemon.wait_for_log("ask it from another terminal");
    assert_eq!(daemon.status()["pid"], daemon.pid(), "the program that replaces it has the socket too");
    daemon.terminate();
    assert!(place.socket().exists(), "the supervisor that created it removes it");
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let place = Place::new(JOBS);
    let mut command = place.command(&[]);
    let binary = command.get_program().to_owned();
    let script = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" run firelink.yaml --state-dir state";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).arg(binary).current_dir(place.path("")).stdin(Stdio::null());
    shell.env("FIRELINK_SOCKET", place.socket());
    command = shell;
    let mut daemon = place.start_by(command);
    place.write("firelink.yaml", "jobs: wrong\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log("nothing was changed");
    let log = daemon.terminate();
    assert!(log.iter().any(|line| line.starts_with("<6>firelink ")), "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("<3>error: ")), "{log:#?}");
    assert!(log.iter().all(|line| line.starts_with('<')), "{log:#?}");
    // Somebody else's journal is not ours.
    let daemon = Place::new(JOBS).with_env([("JOURNAL_STREAM", "1:1")]);
    let log = daemon.start().terminate();
    assert!(log.iter().all(|line| line.starts_with("20") && line.contains("[INFO]")), "{log:#?}");
}

/// A daemon in the background, which the end of the test must not leave behind.
struct Background<'p> {
    place: &'p Place,
    pid: i32,
}

impl<'p> Background<'p> {
    fn start(place: &'p Place) -> Background<'p> {
        place.prints(&["run", "firelink.yaml", "--detach", "--pid-file", "pid", "--state-dir", "state"]);
        let pid = place.read("pid").trim().parse().expect("the parent ends once the pid file is there");
        Background { place, pid }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// Waits until the log, as it is named, says this.
    fn wait_for_log(&self, part: &str) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !self.place.read("state/firelink.log").contains(part) {
            assert!(Instant::now() < deadline, "{part}: {}", self.place.read("state/firelink.log"));
            std::thread::yield_now();
        }
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        if is_alive(&self.pid.to_string()) {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

#[test]
fn a_detached_daemon_is_armed_when_its_parent_ends_and_lets_go_of_everything_but_its_directory() {
    let place = Place::new(JOBS);
    let daemon = Background::start(&place);
    let pid = daemon.pid;
    // At once: the parent ends when the daemon answers.
    assert_eq!(place.json(&["ctl", "status", "--format", "json"])["pid"], pid);
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(link("cwd"), std::fs::canonicalize(place.path("")).unwrap());
    for fd in 0..3 {
        assert_eq!(link(&format!("fd/{fd}")).to_str(), Some("/dev/null"));
    }
    let session = nix::unistd::getsid(Some(Pid::from_raw(pid))).unwrap();
    assert_eq!(session.as_raw(), pid, "a session of its own");
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 1);

    std::fs::rename(place.path("state/firelink.log"), place.path("state/old")).unwrap();
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_log("SIGUSR1");
    assert!(place.read("state/old").contains("runs 1 jobs of"), "{}", place.read("state/old"));

    place.prints(&["ctl", "reload", "--exec"]);
    daemon.wait_for_log("ask it from another terminal");
    assert_eq!(place.json(&["ctl", "status", "--format", "json"])["pid"], pid, "its pid outlives an upgrade");
    assert_eq!(place.read("pid").trim(), pid.to_string());
    place.prints(&["stop"]);
    let deadline = Instant::now() + TEST_TIMEOUT;
    while is_alive(&pid.to_string()) {
        assert!(Instant::now() < deadline, "it does not end");
    }
    assert!(!place.path("pid").exists(), "the pid file goes with it");
}

#[test]
fn a_daemon_that_does_not_come_up_says_why_where_it_was_started_and_with_its_code() {
    let place = Place::new("jobs: wrong\n");
    let wrong = place.firelink(&["run", "firelink.yaml", "--detach", "--state-dir", "state"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("expected a list for `jobs`"), "{}", text(&wrong.stderr));
    place.write("firelink.yaml", JOBS);
    let first = Background::start(&place);
    let second = place.firelink(&["run", "firelink.yaml", "--detach", "--state-dir", "state", "--pid-file", "pid"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains(&first.pid.to_string()), "{}", text(&second.stderr));
    assert_eq!(place.read("pid").trim(), first.pid.to_string(), "the first one's file is untouched");
    let unwritable = place.firelink(&["run", "firelink.yaml", "--detach", "--state-dir", "other", "--log-file", "no/such/log"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(text(&unwritable.stderr).contains("can't open the log no/such/log"), "{}", text(&unwritable.stderr));
}
