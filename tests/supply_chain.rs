//! What firelink is built of: licences, sources, what may not come in, which Rust it needs, and every `unsafe` counted.
//!
//! `cargo deny check` with the deny.toml beside Cargo.toml asks more (advisories, yanked versions); CI runs it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/skip.rs"]
mod skip;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Where `unsafe` stands, and how often: blocks, functions, implementations. A new one is a decision, so it is made here
/// too; what each relies on is said beside it, which clippy's `undocumented_unsafe_blocks` sees to.
const UNSAFE: &[(&str, usize)] = &[
    ("src/exec/detach.rs", 1),
    // A descriptor that came in a packet, and a watch on another process's inotify instance.
    ("src/exec/packet.rs", 2),
    // The child's program: system calls by number on the memory that it shares with the daemon; making it; its memory.
    ("src/exec/spawn/steps.rs", 32),
    ("src/exec/spawn/raw.rs", 8),
    ("src/exec/spawn/create.rs", 14),
    ("src/exec/spawn/memory.rs", 7),
    ("src/exec/spawn/plan.rs", 2),
    ("src/exec/spawn/start.rs", 1),
    ("src/exec/spawn/daemon.rs", 2),
    // System calls without a safe wrapper: pidfds, waitid, close_range, a real-time priority.
    ("src/exec/sys.rs", 18),
    // clock_adjtime(2), and timerfds that are cancelled when the clock is set.
    ("src/reactor/clocks.rs", 3),
    // malloc_trim(3), and madvise(2) on pages that the program's file can give again.
    ("src/reactor/memory.rs", 2),
    ("src/reactor/lifecycle/sockets.rs", 2),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is built into the program, or runs while it is built: packages as cargo tells them.
fn packages() -> Option<Vec<Value>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(root()).output().expect("cargo runs");
    if !output.status.success() {
        skip::skip(format_args!("cargo metadata fails: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    }
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let nodes: BTreeMap<&str, &Value> =
        told["resolve"]["nodes"].as_array()?.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let mut resolved = BTreeSet::new();
    let mut open = vec![told["resolve"]["root"].as_str()?];
    while let Some(id) = open.pop() {
        if resolved.insert(id) {
            let wanted =
                |dep: &&Value| dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] != "dev"));
            open.extend(nodes.get(id)?["deps"].as_array()?.iter().filter(wanted).filter_map(|dep| dep["pkg"].as_str()));
        }
    }
    let all = told["packages"].as_array()?.iter();
    Some(all.filter(|package| package["id"].as_str().is_some_and(|id| resolved.contains(id))).cloned().collect())
}

fn text<'p>(package: &'p Value, key: &str) -> &'p str {
    package[key].as_str().unwrap_or_default()
}

/// The strings of the list `allow` in deny.toml.
fn allowed() -> BTreeSet<String> {
    let deny = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let list = deny.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list of licences");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an expression of SPDX, or of the older form with `/`, can be met. `AND` binds tighter than `OR`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let plain = expression.replace('/', " OR ");
    // In what cargo's packages say, parentheses only ever hold alternatives together.
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
    for word in plain.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AND" if depth == 0 => parts.push(std::mem::take(&mut part)),
            word => {
                part.push(' ');
                part.push_str(word);
            }
        }
    }
    parts.push(part);
    parts.iter().all(|part| part.split(" OR ").any(|licence| allowed.contains(licence.trim())))
}

#[test]
fn an_expression_of_licences_is_met_if_one_of_each_choice_is_allowed() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/X", true),
        ("(X OR MIT) AND ISC", true),
        ("(X OR MIT) AND Y", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn everything_that_is_built_in_is_permissive_and_from_the_registry() {
    let Some(packages) = packages() else { return };
    let allowed = allowed();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| text(package, "name") != "firelink") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !is_met(licence, &allowed) {
            wrong.push(format!("{name}: the licence `{licence}`"));
        }
        if !text(package, "source").starts_with("registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name}: from {}", package["source"]));
        }
        if ["openssl-sys", "aws-lc-sys"].contains(&name) {
            wrong.push(format!("{name}: deny.toml says why it is not wanted"));
        }
    }
    assert!(packages.len() > 50 && wrong.is_empty(), "{} packages: {wrong:#?}", packages.len());
}

#[test]
fn the_rust_that_is_stated_is_enough_for_every_dependency() {
    let Some(packages) = packages() else { return };
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    let own = packages.iter().find(|package| text(package, "name") == "firelink").expect("ourselves");
    let stated = version(text(own, "rust_version"));
    assert!(!stated.is_empty(), "Cargo.toml states a rust-version");
    let newer: Vec<&str> = packages
        .iter()
        .filter(|package| version(text(package, "rust_version")) > stated)
        .map(|package| text(package, "name"))
        .collect();
    assert!(newer.is_empty(), "these need a newer Rust than Cargo.toml states: {newer:?}");
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let count = count_unsafe(&path);
                if count > 0 {
                    found.insert(path.strip_prefix(root()).expect("below it").display().to_string(), count);
                }
            }
        }
    }
    let listed: BTreeMap<String, usize> = UNSAFE.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
    assert_eq!(found, listed, "found, and listed in this test");
}

fn count_unsafe(path: &PathBuf) -> usize {
    let source = std::fs::read_to_string(path).expect("a source file");
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let starts = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    code.map(|line| starts.iter().map(|start| line.matches(start).count()).sum::<usize>()).sum()
}
