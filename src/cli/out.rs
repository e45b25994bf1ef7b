//! Output of commands, and their exit codes.

use std::io::Write as _;
use std::process::ExitCode;

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    /// For stderr; empty if everything has been printed.
    text: String,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { code: 1, text: text.into() }
    }

    /// Usage or configuration: exit code 2.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: 2, text: text.into() }
    }

    /// No daemon: exit code 3.
    pub fn no_daemon(text: impl Into<String>) -> Failure {
        Failure { code: 3, text: text.into() }
    }

    /// Nothing is printed any more.
    pub fn silent(code: u8) -> Failure {
        Failure { code, text: String::new() }
    }
}

/// The result of a command.
pub(super) type Done = Result<(), Failure>;

/// The process's exit code; a failure is printed to stderr.
pub(super) fn finish(done: Done) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                let text = failure.text.trim_end();
                let prefix = if text.starts_with("error") { "" } else { "error: " };
                // A failed write to stderr can't be reported anywhere.
                let _ = writeln!(std::io::stderr(), "{prefix}{text}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to stdout. A closed pipe (`| head`) is not a failure.
pub(super) fn print(text: &str) -> Done {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(0)),
        Err(error) => Err(Failure::failed(format!("can't write to standard output: {error}"))),
    }
}

/// Writes a value as one line of JSON to stdout.
pub(super) fn print_json(value: &impl serde::Serialize) -> Done {
    let mut text = serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))?;
    text.push('\n');
    print(&text)
}

/// Writes a warning to stderr.
pub(super) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The value of `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Parses `text` or `json`.
///
/// # Errors
/// A message for any other word.
pub fn parse_format(word: &str) -> Result<Format, String> {
    match word {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("invalid format `{word}`: expected `text` or `json`")),
    }
}
