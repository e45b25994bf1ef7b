//! The references of keys and commands: the schema against files, and generated files against their sources.
//!
//! `FIRELINK_UPDATE=1 cargo test --test reference` regenerates docs/configuration.md, the man pages and the completions.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

// Without S3 the reader refuses every bucket.
#[cfg(feature = "s3")]
#[path = "reference/agreement.rs"]
mod agreement;
#[path = "reference/commands.rs"]
mod commands;
#[path = "reference/completions.rs"]
mod completions;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "reference/man.rs"]
mod man;
#[path = "reference/markdown.rs"]
mod markdown;
#[path = "reference/schema.rs"]
mod schema;
#[path = "support/skip.rs"]
mod skip;
#[path = "reference/yaml.rs"]
mod yaml;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file of the repository with its generated content, or writes it with `FIRELINK_UPDATE`.
fn assert_current(path: &str, text: &str) {
    let full = root().join(path);
    if std::env::var_os("FIRELINK_UPDATE").is_some() {
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, text).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&full).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).position(|(one, other)| one != other);
    let line = differs.unwrap_or_else(|| written.lines().count().min(text.lines().count())) + 1;
    assert!(
        written == text,
        "{path} is out of date from line {line} on; FIRELINK_UPDATE=1 cargo test --test reference regenerates it"
    );
}

/// YAML files of a folder, by name.
fn yaml_files(folder: &str) -> Vec<(String, String)> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut files: Vec<(String, String)> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is there");
    files
}
