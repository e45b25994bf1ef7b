//! `reload`: the daemon reloads its configuration, or replaces itself by a new program.

use serde::{Deserialize, Serialize};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Report what would change without changing it.
    #[serde(default)]
    pub dry_run: bool,
    /// Replace the daemon by the program at its path, which may be a newer one. Running jobs continue.
    #[serde(default)]
    pub exec: bool,
}

/// The reply: jobs by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// New jobs.
    pub added: Vec<String>,
    /// Changed jobs.
    pub changed: Vec<String>,
    /// Removed jobs.
    pub removed: Vec<String>,
    /// The number of unchanged jobs.
    pub unchanged: usize,
    /// Changes that need a restart to take effect, and the warnings about the file.
    pub warnings: Vec<String>,
}

/// The reply as text.
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

/// As one line: `1 added, 2 changed, 0 removed, 7 unchanged`.
#[must_use]
pub fn summary(answer: &Reloaded) -> String {
    let Reloaded { added, changed, removed, unchanged, .. } = answer;
    format!("{} added, {} changed, {} removed, {unchanged} unchanged", added.len(), changed.len(), removed.len())
}
