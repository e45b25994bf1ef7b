//! A run as the reactor drives it, and helpers to inspect processes.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firelink::exec::spec::{Action, Capture, ExecSpec};
use firelink::exec::{self, Child, DRAIN_AT_ONCE, Drained, Launch, OutputSink, SpawnError};
use firelink::files::Dir;
use firelink::logs::LogPaths;
use firelink::model::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// After this long what a test waits for does not come.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A line for the shell.
pub fn shell(line: &str) -> Action {
    Action::Shell(line.into())
}

/// A program and its arguments.
pub fn argv(words: &[&str]) -> Action {
    Action::Argv(words.iter().map(|word| Box::from(*word)).collect())
}

/// Starts in `/`, with these variables.
pub fn spawn_with(action: &Action, spec: &ExecSpec, vars: &[(&str, &str)]) -> Result<Child, SpawnError> {
    let vars: Vec<(&str, Cow<'_, OsStr>)> = vars.iter().map(|(name, value)| (*name, Cow::from(OsStr::new(*value)))).collect();
    exec::spawn(&Launch { action, exec: spec, start_dir: Path::new("/"), vars: &vars, cgroup: None })
}

/// Starts in `/`, without variables.
pub fn spawn(action: &Action, spec: &ExecSpec) -> Result<Child, SpawnError> {
    spawn_with(action, spec, &[])
}

/// Waits until one of the descriptors is readable or hung up.
pub fn wait_any(fds: &[BorrowedFd<'_>]) {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let limit = PollTimeout::try_from(TEST_TIMEOUT).unwrap();
    assert!(poll(&mut polled, limit).expect("poll") > 0, "nothing happened in {TEST_TIMEOUT:?}");
}

/// A run: its process, its pipe, its log.
pub struct Run {
    pub child: Child,
    pub output: Option<OwnedFd>,
    pub sink: OutputSink,
    pub log: tempfile::TempDir,
    buffer: Vec<u8>,
}

/// How it ended and what it wrote.
#[derive(Debug)]
pub struct Finished {
    pub exit: Exit,
    /// The log; `None` if there is no file.
    pub log: Option<Vec<u8>>,
}

impl Finished {
    /// The log as text; empty if there is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.log.as_deref().unwrap_or_default()).into_owned()
    }
}

impl Run {
    pub fn of(mut child: Child, capture: Capture, max_size: Option<u64>) -> Run {
        let log = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(log.path()).unwrap());
        let paths = LogPaths { log: "job/1.log".into(), segments: "segments/1".into() };
        let sink = OutputSink::new(dir, paths, capture, max_size);
        Run { output: child.take_output(), child, sink, log, buffer: Vec::new() }
    }

    pub fn start(action: &Action, spec: &ExecSpec) -> Run {
        let child = spawn(action, spec).unwrap_or_else(|error| panic!("{action:?}: {error}"));
        Run::of(child, spec.capture, spec.max_size)
    }

    fn drain(&mut self) -> Drained {
        let Some(fd) = &self.output else { return Drained::Closed };
        let drained = exec::drain(fd.as_fd(), &mut self.buffer, &mut self.sink).expect("drain");
        if drained == Drained::Closed {
            self.output = None;
        }
        drained
    }

    /// What stands in the log so far.
    pub fn written(&self) -> Option<Vec<u8>> {
        std::fs::read(self.log.path().join("job/1.log")).ok()
    }

    /// Reads until the log contains `word`.
    pub fn wait_for(&mut self, word: &str) {
        loop {
            let written = self.written().unwrap_or_default();
            if written.windows(word.len()).any(|window| window == word.as_bytes()) {
                return;
            }
            let fd = self.output.as_ref().expect("the output is open until the word comes");
            wait_any(&[fd.as_fd()]);
            self.drain();
        }
    }

    /// Drives it to its end: the pipe is drained as it fills, the exit taken when the pidfd says so, then what is left
    /// in the pipe, but for no longer than the reactor would.
    pub fn exit(&mut self) -> Exit {
        let began = Instant::now();
        let exit = loop {
            assert!(began.elapsed() < TEST_TIMEOUT, "the run does not end");
            let pidfd = self.child.pidfd().expect("this kernel has pidfds");
            let mut fds = vec![pidfd];
            fds.extend(self.output.as_ref().map(AsFd::as_fd));
            wait_any(&fds);
            self.drain();
            if let Some(exit) = self.child.try_reap().expect("try_reap") {
                break exit;
            }
        };
        let mut read = 0;
        while read < 1 << 20 && self.drain() == Drained::More {
            read += DRAIN_AT_ONCE;
        }
        self.output = None;
        exit
    }

    /// Drives it to its end and finishes its log.
    pub fn finish(mut self) -> Finished {
        let exit = self.exit();
        self.sink.finish(exit == Exit::Code(0)).expect("finish");
        assert_eq!(self.sink.trouble(), None);
        Finished { exit, log: self.written() }
    }
}

/// Starts and drives to the end.
pub fn run(action: &Action, spec: &ExecSpec) -> Finished {
    Run::start(action, spec).finish()
}

/// A shell line in default surroundings, which must succeed: its output without the final newline.
pub fn output_of(line: &str, spec: &ExecSpec) -> String {
    let finished = run(&shell(line), spec);
    assert_eq!(finished.exit, Exit::Code(0), "{line}: {}", finished.text());
    finished.text().trim_end_matches('\n').to_owned()
}

/// The sentence with which a start is refused.
pub fn refusal(action: &Action, spec: &ExecSpec) -> String {
    match spawn(action, spec) {
        Ok(child) => panic!("{action:?} was started as {:?}", child.pid()),
        Err(error) => error.to_string(),
    }
}

/// The state letter of a process (proc(5)); `None` if there is no such process.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Opens a pidfd, for waiting for processes that are not ours.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: two integers go in, and the descriptor that comes back is known to nobody else.
    unsafe {
        let fd = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()))
    }
}

/// Waits until a process has ended (it may still be a zombie).
pub fn wait_gone(pid: i32) {
    if let Some(fd) = pidfd(pid) {
        wait_any(&[fd.as_fd()]);
    }
    assert!(matches!(state_of(pid), None | Some('Z' | 'X')), "{pid} lives");
}

/// The pid that stands after `label=` in a text.
pub fn pid_after(text: &str, label: &str) -> i32 {
    let rest = text.split(&format!("{label}=")).nth(1).unwrap_or_else(|| panic!("no {label} in {text}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
