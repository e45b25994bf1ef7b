//! The pages, driven in a real browser: `cargo test --test web_pages`.
//!
//! It needs Chromium, Node and the modules of `tests/web_pages/package.json`; `tests/setup all` installs them. Where
//! one is missing the test is skipped.

#![cfg(feature = "web")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "this is a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/http.rs"]
mod http;
#[path = "support/skip.rs"]
mod skip;

use daemon::{Place, text};
use http::At;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TOKEN: &str = "0123456789abcdef0123";

/// Beside the jobs of the quickstart: a web UI, a job that writes until it is ended, and one that fails.
const MORE: &str = r#"
  - name: slow
    trigger: manual
    kill_grace: 1s
    command: 'i=0; while true; do i=$((i+1)); printf "\033[1;32mstep %s <b>plain</b>\033[0m\n" $i; sleep 0.2; done'
  - name: broken
    trigger: manual
    retry: { attempts: 2, delay: 100ms }
    command: 'printf "\033[31mno\033[0m\n"; exit 3'
"#;

/// All checks together. Each has a deadline of its own; this one is for a browser that hangs.
const AT_MOST: Duration = Duration::from_secs(300);

#[test]
fn every_page_works_in_a_real_browser() {
    let Some((node, chromium, modules)) = tools() else { return };
    let quickstart = std::fs::read_to_string("examples/quickstart.yaml").unwrap();
    let place = Place::new(&format!("web: {{ listen: \"127.0.0.1:0\", token_file: token }}\n{quickstart}{MORE}"));
    place.write("token", TOKEN);
    let mut daemon = place.start();
    let at = At::of(&mut daemon);

    // Screenshots stay, for a person to look at.
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web_pages");
    std::fs::create_dir_all(&shots).unwrap();
    let child = Command::new(node)
        .arg("tests/web_pages/pages.mjs")
        .env("BASE", format!("http://{}", at.address))
        .env("TOKEN", TOKEN)
        .env("CHROMIUM", chromium)
        .env("MODULES", modules)
        .env("SHOTS", &shots)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (send, receive) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let output = receive.recv_timeout(AT_MOST).unwrap_or_else(|_| {
        // It ends its browser when it is asked to end.
        let _ = kill(pid, Signal::SIGTERM);
        receive.recv().expect("its output")
    });
    let output = output.expect("node runs");
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}: {told}\n{}", output.status, text(&output.stderr));
    eprint!("{told}");
    for name in ["home", "list", "timeline", "job", "run"] {
        for width in [320, 1440] {
            let shot = shots.join(format!("{name}-{width}.png"));
            let png = std::fs::read(&shot).unwrap();
            // The width stands in the header of a PNG, from its 16th byte on.
            assert_eq!(png.get(16..20), Some(&u32::to_be_bytes(width)[..]), "{}", shot.display());
        }
    }
    daemon.terminate();
}

/// Node, Chromium and the modules, or a printed reason.
fn tools() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let modules = std::env::var_os("FIRELINK_TEST_WEB_MODULES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/web/node_modules"), PathBuf::from);
    let missing = |what: &str| {
        skip::skip(format_args!("{what} is not here; `tests/setup all` installs it"));
        None
    };
    let Some(node) = in_path(&["node", "nodejs"]) else { return missing("Node") };
    let Some(chromium) = in_path(&["chromium", "chromium-browser", "google-chrome"]) else { return missing("Chromium") };
    if !modules.join("playwright-core").is_dir() || !modules.join("axe-core").is_dir() {
        return missing(&format!("playwright-core or axe-core in {}", modules.display()));
    }
    Some((node, chromium, modules))
}

fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| names.iter().map(|name| dir.join(name)).find(|file| file.is_file()))
}
