//! What firelink said and left on the disk before its code was rearranged, held against the firelink that is built.
//!
//! `tests/recorded/README.md` says what is recorded and how. The answers are compared key by key in their order; prose
//! (messages, reasons, help, descriptions) is not compared, because it may be reworded. The recorded state directory is
//! copied, opened, and has to go on as it did under the firelink that wrote it.
//!
//! `FIRELINK_RECORD=/path/to/firelink cargo test --test recorded -- --test-threads 1` records again, by that binary. Do so
//! only where a difference is meant.

// The recorded configurations use all of these, and a build without one refuses them.
#![cfg(all(feature = "metrics", feature = "notify", feature = "s3", feature = "web"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/s3.rs"]
mod s3;

#[path = "recorded/answers.rs"]
mod answers;
#[path = "recorded/json.rs"]
mod json;
#[path = "recorded/live.rs"]
mod live;
#[path = "recorded/state.rs"]
mod state;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use daemon::{Daemon, Place, text};
use json::{Json, normalized};

/// How long anything may take before its test fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The binary that records, if one is named.
fn recorder() -> Option<PathBuf> {
    std::env::var_os("FIRELINK_RECORD").map(PathBuf::from)
}

/// A recorded file.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

/// `firelink` with these arguments, in this place: the one that records, or the one that is built.
fn command(place: &Place, args: &[&str]) -> Command {
    let built = place.command(args);
    let Some(recorder) = recorder() else { return built };
    let mut command = Command::new(recorder);
    command.args(built.get_args()).stdin(std::process::Stdio::null());
    if let Some(dir) = built.get_current_dir() {
        command.current_dir(dir);
    }
    for (name, value) in built.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(place: &Place, args: &[&str]) -> Output {
    if recorder().is_some() { command(place, args).output().expect("firelink runs") } else { place.firelink(args) }
}

/// What `firelink` prints, which must succeed.
fn prints(place: &Place, args: &[&str]) -> String {
    let output = run(place, args);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The daemon on this state directory of the place.
fn start<'p>(place: &'p Place, config: &str) -> Daemon<'p> {
    place.start_by(command(place, &["run", config, "--state-dir", &place.state_dir().display().to_string()]))
}

/// All runs, newest first, as `history` prints them.
fn history(place: &Place) -> String {
    let state = place.state_dir().display().to_string();
    prints(place, &["history", "--format", "json", "--limit", "100000", "--state-dir", &state])
}

/// Waits until something holds.
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names of one box out of an answer.
fn without(said: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(said.to_owned(), |said, (name, stands_for)| said.replace(name, stands_for))
}

/// Records an answer, or compares it with the recorded one after both went through `shape`.
fn compare(name: &str, said: &str, shape: impl Fn(&str) -> String) {
    let path = file(name);
    if recorder().is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, said).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_same(name, &shape(&recorded), &shape(said));
}

/// Compares line by line.
fn assert_same(name: &str, recorded: &str, said: &str) {
    if recorded == said {
        return;
    }
    let same = recorded.lines().zip(said.lines()).take_while(|(one, other)| one == other).count();
    let around =
        |text: &str| text.lines().skip(same.saturating_sub(4)).take(8).map(|line| format!("    {line}\n")).collect::<String>();
    panic!("{name}: line {} differs; recorded is\n{}and now it is\n{}", same + 1, around(recorded), around(said));
}

/// As [`compare`] does, for one JSON value.
fn compare_json(name: &str, said: &str, jobs: &[&str]) {
    compare(name, said, |text| normalized(&Json::parse(text), jobs).lines());
}
