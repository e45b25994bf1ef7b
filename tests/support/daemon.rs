//! The real `firelink` binary, started in a directory of its own, and waits without sleeping.

#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take before its test fails. Nothing waits for this long unless it is broken.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A job that writes thirty marks with filler between them, far past its `max_size`, each after a word through the pipe `gate`.
pub const MARKS: &str = r#"
jobs:
  - name: marks
    trigger: manual
    timeout: 10m
    command: |
      for n in $(seq 30); do
        until read word < gate; do :; done
        head -c 8000 /dev/zero | tr '\0' .
        echo
        echo "mark $n"
      done
    output: { max_size: 64KiB }
"#;

/// What the job of [`MARKS`] writes for these.
pub fn marks(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|n| format!("{}\nmark {n}\n", ".".repeat(8000))).collect()
}

/// A directory with a configuration, and everything that is needed to start daemons on it.
pub struct Place {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    pub fn new(config: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().expect("a directory"), env: Vec::new() };
        place.write("firelink.yaml", config);
        place
    }

    /// Adds variables to the daemon's environment.
    pub fn with_env<K: Into<String>, V: Into<String>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Place {
        self.env.extend(vars.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Creates a named pipe, through which a job reports its progress to the test.
    pub fn make_pipe(&self, name: &str) {
        nix::unistd::mkfifo(&self.path(name), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    }

    /// What the next job writes into a named pipe, once it has closed it.
    pub fn hear(&self, name: &str) -> String {
        let path = self.path(name);
        let (send, receive) = channel();
        std::thread::spawn(move || send.send(std::fs::read_to_string(path)));
        let heard = receive.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|_| panic!("nobody wrote into {name}"));
        heard.expect("a pipe").trim().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The lines of a file that jobs write to.
    pub fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// `firelink` with these arguments, in this place.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firelink"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        // What the machine has set up for its user is not part of a test.
        for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "NO_COLOR", "FIRELINK_SOCKET"] {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy().to_ascii_lowercase();
            if known.starts_with("aws_") || known.starts_with("ssl_cert_") || known.ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("FIRELINK_SOCKET", self.socket()).env("XDG_STATE_HOME", self.path("xdg")).envs(self.env.clone());
        command
    }

    /// Runs `firelink` to its end.
    pub fn firelink(&self, args: &[&str]) -> Output {
        let child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("firelink starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let (send, receive) = channel();
        std::thread::spawn(move || send.send(child.wait_with_output()));
        match receive.recv_timeout(TEST_TIMEOUT) {
            Ok(output) => output.expect("firelink runs"),
            Err(_) => {
                let _ = kill(pid, Signal::SIGKILL);
                panic!("firelink {args:?} does not end");
            }
        }
    }

    /// What `firelink` prints, which must succeed.
    pub fn prints(&self, args: &[&str]) -> String {
        let output = self.firelink(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What `firelink` prints as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let printed = self.prints(args);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"))
    }

    /// `history`, newest first.
    pub fn history(&self, more: &[&str]) -> Vec<Value> {
        let state = self.state_dir().display().to_string();
        let args = [&["history", "--format", "json", "--limit", "100000", "--state-dir", &state], more].concat();
        serde_json::from_value(self.json(&args)).expect("an array")
    }

    /// The states of a job's runs, oldest first.
    pub fn states(&self, job: &str) -> Vec<String> {
        self.history(&["--job", job]).iter().rev().map(|run| run["state"].as_str().unwrap_or("?").to_owned()).collect()
    }

    /// Starts the daemon and waits until it is armed.
    pub fn start(&self) -> Daemon<'_> {
        self.start_with(&[])
    }

    pub fn start_with(&self, more: &[&str]) -> Daemon<'_> {
        let state = self.state_dir().display().to_string();
        let args = [&["run", "firelink.yaml", "--state-dir", &state], more].concat();
        self.start_by(self.command(&args))
    }

    /// Starts the daemon by a command of one's own, whose standard error must be the daemon's.
    pub fn start_by(&self, mut command: Command) -> Daemon<'_> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("firelink starts");
        let stderr = child.stderr.take().expect("a pipe");
        let mut daemon = Daemon { place: self, child, log: lines_of(stderr), told: Vec::new() };
        daemon.wait_for_log("ask it from another terminal");
        daemon
    }
}

/// A running daemon. Dropping it kills it.
pub struct Daemon<'p> {
    place: &'p Place,
    child: Child,
    log: Receiver<String>,
    told: Vec<String>,
}

impl Daemon<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("the daemon lives");
    }

    /// Waits for a line of the log that has this text.
    pub fn wait_for_log(&mut self, part: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.told.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(why) => panic!("the log never said `{part}` ({why}):\n{}", self.told.join("\n")),
            }
        }
    }

    /// The first line of the log with this text, which may have come long ago.
    pub fn wait_for_log_ever(&mut self, part: &str) -> String {
        let told = self.told.iter().find(|line| line.contains(part)).cloned();
        told.unwrap_or_else(|| self.wait_for_log(part))
    }

    /// Waits for the daemon's end and returns its status and the whole log.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.told.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the daemon does not end:\n{}", self.told.join("\n")),
            }
        }
        (self.child.wait().expect("a child"), std::mem::take(&mut self.told))
    }

    /// SIGTERM, and its orderly end.
    pub fn terminate(self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
        log
    }

    /// SIGKILL: what a crash looks like from outside.
    pub fn crash(self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Follows what happens from now on.
    pub fn follow(&self) -> Follower {
        let mut stream = UnixStream::connect(self.place.socket()).expect("the socket");
        // Requests are answered in order: once the second is answered, the first has taken effect.
        stream.write_all(b"{\"v\":1,\"cmd\":\"events\"}\n{\"v\":1,\"cmd\":\"status\"}\n").expect("a request");
        let lines = lines_of(stream);
        let mut follower = Follower { lines, seen: Vec::new() };
        follower.wait("the answer to `status`", |line| line.get("ok").is_some());
        follower.seen.clear();
        follower
    }

    pub fn status(&self) -> Value {
        let output = self.place.firelink(&["ctl", "status", "--format", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        // It fails, and tells all the same, exactly while the state can't be written.
        assert_eq!(output.status.code(), Some(i32::from(!status["state_error"].is_null())), "{status}");
        status
    }

    /// The status of one job.
    pub fn job(&self, name: &str) -> Value {
        self.place.json(&["ctl", "status", name, "--format", "json"])["jobs"][0].clone()
    }

    /// Triggers a job and waits for its run's end.
    pub fn trigger(&self, job: &str) -> Value {
        let output = self.place.firelink(&["ctl", "trigger", job, "--wait", "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The stream of events.
pub struct Follower {
    lines: Receiver<String>,
    /// All that came so far.
    pub seen: Vec<Value>,
}

impl Follower {
    /// Waits for an event for which `is` holds.
    pub fn wait(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).expect("a JSON line");
                    self.seen.push(event.clone());
                    if is(&event) {
                        return event;
                    }
                }
                Err(why) => panic!("{what} never came ({why}):\n{:#?}", self.seen),
            }
        }
    }

    /// Waits for the end of a run of `job`.
    pub fn ended(&mut self, job: &str) -> Value {
        self.wait(&format!("the end of a run of {job}"), |event| event["what"] == "ended" && event["job"] == job)
    }

    /// Waits for an attempt of `job` to begin.
    pub fn started(&mut self, job: &str) -> Value {
        self.wait(&format!("the start of a run of {job}"), |event| event["what"] == "started" && event["job"] == job)
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until a process has ended (it may be a zombie). For processes that are sent SIGKILL and that nothing waits for.
pub fn wait_gone(pid: &str) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "{pid} lives");
        std::thread::yield_now();
    }
}

/// True while a process with this id exists that is not a zombie.
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
