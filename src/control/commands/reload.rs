//! `reload`: the configuration is read anew, or the daemon replaces itself and does so.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Nothing is changed; the answer says what would be.
    #[serde(default)]
    pub dry_run: bool,
    /// The daemon replaces itself by the program at its path, which may be a newer one. What runs goes on.
    #[serde(default)]
    pub exec: bool,
}

/// The answer: jobs by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Jobs that are new.
    pub added: Vec<String>,
    /// Jobs of which anything is another than before.
    pub changed: Vec<String>,
    /// Jobs that are gone.
    pub removed: Vec<String>,
    /// How many jobs go on untouched.
    pub unchanged: usize,
    /// What needs a restart to take effect, a sentence each, and the file's own warnings.
    pub warnings: Vec<String>,
}

/// For a terminal.
#[must_use]
pub fn render(answer: &Reloaded, dry_run: bool) -> String {
    let mut text = String::new();
    for (mark, jobs) in [('+', &answer.added), ('~', &answer.changed), ('-', &answer.removed)] {
        for job in jobs {
            text.push_str(&format!("{mark} {job}\n"));
        }
    }
    let done = if dry_run { "would be reloaded" } else { "reloaded" };
    text.push_str(&format!("{done}: {}\n", summary(answer)));
    for warning in &answer.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// In a line: `1 added, 2 changed, 0 removed, 7 unchanged`.
#[must_use]
pub fn summary(answer: &Reloaded) -> String {
    let Reloaded { added, changed, removed, unchanged, .. } = answer;
    format!("{} added, {} changed, {} removed, {unchanged} unchanged", added.len(), changed.len(), removed.len())
}
