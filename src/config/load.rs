//! The way from a path or a text to a [`Config`].

use std::path::Path;

use super::findings::Findings;
use super::looks::Look;
use super::source::Source;
use super::yaml::{Document, Readers};
use super::{Config, Refused, Surroundings, file, lints, top};
use crate::text::quoted;

/// Chooses the YAML reader, see [`readers_of_environment`].
const VARIABLE: &str = "FIRELINK_YAML";

/// Reads and checks a file, without a look at the paths that it names.
///
/// # Errors
/// Every mistake in it, or why it could not be read.
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Config, Refused> {
    load_by(path, surroundings, Readers::Fast, None)
}

/// As [`load`], for a person who waits for the answer: the file is read by both YAML readers, and a difference between them
/// is an error; and the paths that it names are looked at.
///
/// # Errors
/// As of [`load`].
pub fn check(path: &Path, surroundings: &Surroundings, look: Look<'_>) -> Result<Config, Refused> {
    load_by(path, surroundings, Readers::Both, Some(look))
}

/// Checks a text as if it were the content of the file at `path`.
///
/// # Errors
/// Every mistake in it.
pub fn load_text(path: &Path, text: &str, surroundings: &Surroundings) -> Result<Config, Refused> {
    load_text_by(path, text, surroundings, Readers::Fast, None)
}

/// As [`load_text`], by both YAML readers, and with a look at the paths that it names.
///
/// # Errors
/// As of [`load_text`], and a difference between the readers.
pub fn check_text(path: &Path, text: &str, surroundings: &Surroundings, look: Look<'_>) -> Result<Config, Refused> {
    load_text_by(path, text, surroundings, Readers::Both, Some(look))
}

fn load_by(path: &Path, surroundings: &Surroundings, usual: Readers, look: Option<Look<'_>>) -> Result<Config, Refused> {
    let refused = |diagnostic: Box<super::Diagnostic>| Refused(vec![*diagnostic]);
    let readers = readers_of_environment(usual).map_err(|(message, help)| refused(file::unread(path, message, help)))?;
    let text = file::read(path, surroundings).map_err(refused)?;
    load_text_by(path, &text, surroundings, readers, look)
}

/// `full` turns the fast path off: the way out when it reads a file wrongly. `fast` says what holds without the variable.
fn readers_of_environment(usual: Readers) -> Result<Readers, (String, &'static str)> {
    match std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).as_deref() {
        None | Some("" | "fast") => Ok(usual),
        Some("full") => Ok(Readers::Full),
        Some(other) => {
            let message = format!("invalid value {} for the environment variable `{VARIABLE}`", quoted(other));
            Err((message, "write `fast` or `full`, or unset it"))
        }
    }
}

fn load_text_by(
    path: &Path,
    text: &str,
    surroundings: &Surroundings,
    readers: Readers,
    look: Option<Look<'_>>,
) -> Result<Config, Refused> {
    let findings = if look.is_some() { Findings::with_paths() } else { Findings::default() };
    let document = Document::parse(text, &findings, readers);
    let config = document.and_then(|document| top::read(path, &document, &findings, surroundings));
    let refused = findings.errors() > 0;
    if let Some(look) = look {
        lints::lint_files(&findings, look, surroundings);
    }
    let diagnostics = findings.into_diagnostics(&Source::new(path, text));
    match config {
        Some(mut config) if !refused => {
            config.warnings = diagnostics;
            Ok(config)
        }
        _ => Err(Refused(diagnostics)),
    }
}
