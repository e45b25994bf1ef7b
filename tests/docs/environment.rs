//! docs/environment.md: every variable that is set or read is there, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::daemon::Place;
use crate::{root, source_files};

type Names = BTreeSet<String>;

/// Variables of tests within the source.
fn is_of_a_test(name: &str) -> bool {
    name == "FIRELINK_ECHO" || name.starts_with("FIRELINK_TEST_")
}

/// The first cells of the tables below a heading.
fn documented(heading: &str) -> Names {
    let page = std::fs::read_to_string(root().join("docs/environment.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section `{heading}`"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = rows.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches('`').to_owned()).collect::<Vec<_>>());
    let names: Names = names.collect();
    assert!(!names.is_empty(), "{heading}");
    names
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// Names of variables with this prefix in a text.
fn names_in(text: &str) -> Names {
    let found =
        text.match_indices("FIRELINK_").map(|(at, _)| text[at..].chars().take_while(|c| is_of_name(*c)).collect::<String>());
    found.filter(|name| !name.ends_with('_')).collect()
}

#[test]
fn every_variable_of_the_source_is_documented_and_no_other() {
    let in_source: Names =
        source_files().iter().flat_map(|(_, text)| names_in(text)).filter(|name| !is_of_a_test(name)).collect();
    let page = std::fs::read_to_string(root().join("docs/environment.md")).unwrap();
    let differ: Vec<_> = in_source.symmetric_difference(&names_in(&page)).cloned().collect();
    assert!(in_source.len() > 15, "{in_source:?}");
    assert!(differ.is_empty(), "only in one of the source and docs/environment.md: {differ:?}");
}

#[test]
fn every_variable_that_the_source_asks_for_by_name_is_documented() {
    let known: Names = documented("What the daemon and the command line read").union(&documented("AWS")).cloned().collect();
    let mut asked = Names::new();
    for (path, text) in source_files() {
        // A test asks for what it likes.
        let text = text.split("#[cfg(test)]").next().unwrap();
        let calls = ["var(\"", "var_os(\"", "variable(\"", "number(\""].iter().flat_map(|call| text.split(*call).skip(1));
        for rest in calls {
            let name = rest.split('"').next().unwrap();
            if !name.is_empty() && name.chars().all(is_of_name) {
                asked.insert(name.to_owned());
                assert!(known.contains(name), "{}: {name} is not in docs/environment.md", path.display());
            }
        }
    }
    assert!(asked.len() > 8, "{asked:?}");
}

/// The variables of firelink that a process has found and written down, as `NAME=value` lines.
fn found(path: &Path) -> Names {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn jobs_hooks_and_plugins_find_the_variables_that_are_documented() {
    let write = |name: &str| format!("env | grep ^FIRELINK_ > {name}.part; mv {name}.part {name}");
    let place = Place::new(&format!(
        "jobs:\n  - {{ name: asked, trigger: manual, command: '{}; exit 3', on_failure: '{}', on_retry: '{}', retry: {{ attempts: 2, delay: 1ms }} }}\n  \
         - {{ name: files, trigger: {{ type: watch, source: inbox }}, command: '{}' }}\n  \
         - {{ name: leaves, trigger: manual, kill_mode: main, command: '{}', on_success: '{}' }}\n  \
         - {{ name: door, trigger: {{ type: plugin, command: '{}; exec sleep 1000' }} }}\n",
        write("asked"),
        write("failure"),
        write("retry"),
        write("files"),
        write("leaves"),
        write("left"),
        write("plugin"),
    ))
    // Neither is for the processes of another daemon.
    .with_env([("FIRELINK_STRAY", "1"), ("LISTEN_FDNAMES", "x")]);
    std::fs::create_dir(place.path("inbox")).unwrap();
    let daemon = place.start();
    daemon.trigger("asked");
    daemon.trigger("leaves");
    place.write("new", "x");
    std::fs::rename(place.path("new"), place.path("inbox/new")).unwrap();
    let names = ["asked", "failure", "retry", "files", "leaves", "left", "plugin"];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Some(missing) = names.iter().find(|name| !place.path(name).exists()) {
        assert!(std::time::Instant::now() < deadline, "{missing} was not written");
        // A look takes the daemon a turn, in which it gets on.
        daemon.status();
    }
    daemon.terminate();
    let mut attempt = documented("Every attempt");
    assert!(attempt.remove("FIRELINK_LEAVE"), "with `kill_mode: main` alone");
    let hook: Names = attempt.union(&documented("Hooks")).cloned().collect();
    let file: Names = attempt.iter().cloned().chain(["FIRELINK_FILE".to_owned()]).collect();
    let leaves: Names = attempt.iter().cloned().chain(["FIRELINK_LEAVE".to_owned()]).collect();
    assert!(documented("By trigger").contains("FIRELINK_FILE"));
    for (name, expected) in names.iter().zip([&attempt, &hook, &hook, &file, &leaves, &hook, &documented("Plugins")]) {
        assert_eq!(found(&place.path(name)), *expected, "{name}");
    }
}
