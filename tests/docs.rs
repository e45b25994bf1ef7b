//! Every snippet of the documentation, run: files load, shell scripts parse, and commands print what is said.
//!
//! A page is a story told in a folder of its own. What a block is, its first line says:
//!
//! * ` ```yaml `: a whole configuration. It must load; of doubts only that something does not exist on this machine.
//! * ` ```sh `: a script. The shell must be able to read it.
//! * ` ```console `: lines after `$ ` are run by bash, and must print the lines below them. `...` stands for any text
//!   within a line, and alone on a line for any lines. What ends with `&` runs until the end of the page.
//! * `<!-- file: NAME -->` before a block writes it to that file first.
//!
//! A block of any other kind is an error; one without a kind is a picture, and nothing is run.

// Pages show buckets, which a build without S3 refuses.
#![cfg(feature = "s3")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firelink::config::{Refused, Surroundings, load_text};

#[path = "support/daemon.rs"]
mod daemon;
#[path = "docs/environment.rs"]
mod environment;
#[path = "docs/index.rs"]
mod index;
#[path = "docs/messages.rs"]
mod messages;
#[path = "docs/state_format.rs"]
mod state_format;

use daemon::TEST_TIMEOUT;

struct Block {
    page: String,
    line: usize,
    kind: String,
    file: Option<String>,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the source, with its text.
fn source_files() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 100);
    files
}

fn pages() -> Vec<(String, Vec<Block>)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    paths.push(root().join("README.md"));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), blocks(&name(path), &std::fs::read_to_string(path).unwrap()))).collect()
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut file = None;
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match &mut open {
            Some(block) if line.trim_end() == "```" => {
                assert!(!block.text.is_empty(), "{page}:{number}: an empty block");
                blocks.extend(open.take());
            }
            Some(block) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {
                if let Some(kind) = line.strip_prefix("```") {
                    let (page, kind) = (page.to_owned(), kind.trim().to_owned());
                    open = Some(Block { page, line: number, kind, file: file.take(), text: String::new() });
                } else if let Some(name) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) {
                    file = Some(name.to_owned());
                }
            }
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

/// A folder in which a page's commands run, and what they left running.
struct Scene {
    dir: tempfile::TempDir,
    running: Vec<Child>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Scene {
    fn bash(&self, line: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_firelink")).parent().unwrap().to_owned();
        let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in ["XDG_RUNTIME_DIR", "FIRELINK_STATE_DIR"] {
            command.env_remove(name);
        }
        command
            .env("PATH", path.unwrap())
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("FIRELINK_SOCKET", self.dir.path().join("socket"))
            .env("XDG_STATE_HOME", self.dir.path().join("xdg"));
        command
    }

    /// Runs `line` until it prints what is expected: a daemon may need a moment for what was asked of it before.
    fn run(&mut self, at: &str, line: &str, expected: &[String]) {
        if let Some(line) = line.strip_suffix('&') {
            // `exec`, so that ending the shell ends the program.
            self.running
                .push(self.bash(&format!("exec {line}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash"));
            return self.run(at, "firelink status >/dev/null", &[]);
        }
        let asks = ["firelink status", "firelink history", "firelink ctl status", "firelink ctl logs"];
        let may_wait = asks.iter().any(|ask| line.starts_with(ask));
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let output = self.bash(&format!("exec 2>&1\n{line}\n")).output().expect("bash");
            let printed = String::from_utf8_lossy(&output.stdout);
            let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
            if output.status.success() && matches(&printed, expected) {
                return;
            }
            let (code, told) = (output.status.code(), printed.join("\n"));
            assert!(
                may_wait && Instant::now() < deadline,
                "{at}: $ {line}\nends with {code:?} and prints\n{told}\nnot\n{}",
                expected.join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether lines are as expected.
fn matches(lines: &[&str], expected: &[String]) -> bool {
    match expected {
        [] => lines.is_empty(),
        [any, rest @ ..] if any.trim() == "..." => (0..=lines.len()).any(|skipped| matches(&lines[skipped..], rest)),
        [first, rest @ ..] => {
            lines.split_first().is_some_and(|(line, others)| line_matches(line, first) && matches(others, rest))
        }
    }
}

fn line_matches(line: &str, expected: &str) -> bool {
    let parts: Vec<&str> = expected.trim_end().split("...").collect();
    let [first, middle @ .., last] = &parts[..] else { return line == expected.trim_end() };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The commands of a console block, each with what it prints.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((_, printed))) => printed.push(line.to_owned()),
            (None, None) => panic!("a console block begins with `$ `: {line}"),
        }
    }
    commands
}

fn load(at: &str, block: &Block) {
    let here = Surroundings { start_dir: root(), machine_seed: 1, uid: 0 };
    match load_text(Path::new("snippet.yaml"), &block.text, &here) {
        Ok(config) => {
            for warning in &config.warnings {
                let absent = warning.message.contains("does not exist");
                assert!(absent, "{at}\n{}", warning.rendered);
            }
        }
        Err(Refused(list)) => panic!("{at}\n{}", list.iter().map(|one| one.rendered.as_str()).collect::<Vec<_>>().join("\n\n")),
    }
}

#[test]
fn every_snippet_of_the_documentation_does_what_is_said() {
    let mut tried = 0;
    for (page, blocks) in pages() {
        let mut scene = Scene { dir: tempfile::tempdir().unwrap(), running: Vec::new() };
        for block in &blocks {
            let at = format!("{page}:{}", block.line);
            if let Some(file) = &block.file {
                let path = scene.dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, &block.text).unwrap();
            }
            match &*block.kind {
                // A build without SQS refuses what is about queues.
                "yaml" if !cfg!(feature = "sqs") && block.text.contains("sqs:") => {}
                "yaml" => load(&at, block),
                "sh" => {
                    let mut shell = Command::new("sh").args(["-n"]).stdin(Stdio::piped()).spawn().expect("sh");
                    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), block.text.as_bytes()).unwrap();
                    assert!(shell.wait().unwrap().success(), "{at} is no script");
                }
                "console" => {
                    for (command, expected) in commands(&block.text) {
                        scene.run(&at, &command, &expected);
                    }
                }
                "" => continue,
                kind => panic!("{}:{}: no test runs a block of kind `{kind}`", block.page, block.line),
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} snippets");
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for (page, folder) in std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| (entry.unwrap().path(), root().join("docs")))
        .filter(|(page, _)| page.extension().is_some_and(|extension| extension == "md"))
        .chain([(root().join("README.md"), root())])
    {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            let heading = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            let has = |text: &str| text.lines().filter(|line| line.starts_with('#')).any(|line| heading(line) == anchor);
            assert!(anchor.is_empty() || has(&std::fs::read_to_string(&target).unwrap()), "{}: {link}", page.display());
        }
    }
}
