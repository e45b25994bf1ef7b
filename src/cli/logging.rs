//! The daemon's log: lines of text or of JSON, on stderr or in a file; and the journal's own form where stderr is the
//! journal, which stamps the time itself and takes the level from `<6>` (sd-daemon(3)).

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::out::{Failure, Format};
use crate::model::WallTime;
use crate::reactor::LogFile;

/// Starts the log, in the file if there is one.
pub(super) fn start(level: LevelFilter, format: Format, file: Option<LogFile>) -> Result<(), Failure> {
    let shape = match format {
        Format::Json => Shape::Json,
        Format::Text if file.is_none() && stderr_is_the_journal() => Shape::Journal,
        Format::Text => Shape::Text,
    };
    log::set_max_level(level);
    let started = log::set_boxed_logger(Box::new(Logger { level, shape, file }));
    started.map_err(|error| Failure::failed(format!("can't start the log: {error}")))
}

/// Reads a level's word.
///
/// # Errors
/// A sentence with the words there are.
pub(super) fn parse_level(word: &str) -> Result<LevelFilter, String> {
    word.parse().map_err(|_| format!("`{word}` is not a log level; write off, error, warn, info, debug or trace"))
}

/// True if `$JOURNAL_STREAM` names the file that stderr is (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    // By its link in /proc, because std has no face for fstat(2).
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Json,
    Journal,
}

#[derive(Debug)]
struct Logger {
    level: LevelFilter,
    shape: Shape,
    file: Option<LogFile>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The SDK's own crates have much to say at `info`; what matters of it reaches the log as our words.
        metadata.level() <= self.level && metadata.target().starts_with("firelink")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let line = line(self.shape, WallTime::from_nanos(0) + since, record.level(), &record.args().to_string());
        // A log that can't be written must not stop what it is about.
        let _ = match &self.file {
            Some(file) => file.append(&line),
            None => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

fn line(shape: Shape, at: WallTime, level: Level, message: &str) -> String {
    match shape {
        Shape::Text => {
            let millis = at.as_nanos() / 1_000_000;
            let at = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
            format!("{} [{level}] {message}\n", at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        }
        Shape::Json => {
            let level = level.as_str().to_ascii_lowercase();
            format!("{}\n", serde_json::json!({ "at": at.to_string(), "level": level, "message": message }))
        }
        Shape::Journal => {
            // syslog(3): an error, a warning, informational, debug.
            let number = match level {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            let mut text = String::new();
            for line in message.lines() {
                let _ = writeln!(text, "<{number}>{line}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_of_a_line() {
        let told = |shape| line(shape, WallTime::from_nanos(1_500_000_000), Level::Warn, "a\nb");
        assert_eq!(told(Shape::Text), "1970-01-01T00:00:01.500Z [WARN] a\nb\n");
        assert_eq!(told(Shape::Json), "{\"at\":\"1970-01-01T00:00:01.500Z\",\"level\":\"warn\",\"message\":\"a\\nb\"}\n");
        assert_eq!(told(Shape::Journal), "<4>a\n<4>b\n");
    }
}
