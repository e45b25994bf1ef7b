//! The daemon's log: text (by simplelog) or JSON, on stderr or in a file; or the journal's form if stderr is the journal,
//! which adds the time itself and reads the level from a prefix like `<6>` (sd-daemon(3)).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};
use time::macros::format_description;

use super::out::{Failure, Format};
use crate::model::WallTime;
use crate::reactor::LogFile;

/// Installs the logger, for the file if there is one.
pub(super) fn start(level: LevelFilter, format: Format, file: Option<LogFile>) -> Result<(), Failure> {
    let output = Output { file, line: Vec::new() };
    let ours = |shape, output| {
        log::set_max_level(level);
        log::set_boxed_logger(Box::new(Logger { level, shape, output: Mutex::new(output) }))
    };
    let started = match format {
        Format::Json => ours(Shape::Json, output),
        Format::Text if output.file.is_none() && stderr_is_the_journal() => ours(Shape::Journal, output),
        Format::Text => WriteLogger::init(level, text_config(), output),
    };
    started.map_err(|error| Failure::failed(format!("can't start the log: {error}")))
}

/// Parses a log level.
///
/// # Errors
/// A message with the known levels.
pub(super) fn parse_level(word: &str) -> Result<LevelFilter, String> {
    word.parse().map_err(|_| format!("invalid log level `{word}`: expected off, error, warn, info, debug or trace"))
}

fn text_config() -> simplelog::Config {
    ConfigBuilder::new()
        .set_time_format_custom(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_allow_str(OWN)
        .build()
}

/// Records of other crates are dropped: the AWS SDK's are noise, and its errors are logged by the triggers.
const OWN: &str = "firelink";

/// The file, else stderr. Writes whole lines, so that a rotation never cuts one.
#[derive(Debug)]
struct Output {
    file: Option<LogFile>,
    line: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if !self.line.ends_with(b"\n") {
            return Ok(bytes.len());
        }
        let line = std::mem::take(&mut self.line);
        match &self.file {
            Some(file) => file.append(&String::from_utf8_lossy(&line)),
            None => io::stderr().lock().write_all(&line),
        }?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True if `$JOURNAL_STREAM` names the file that stderr is (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    // Through /proc, because std has no fstat(2).
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Json,
    Journal,
}

#[derive(Debug)]
struct Logger {
    level: LevelFilter,
    shape: Shape,
    output: Mutex<Output>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && metadata.target().starts_with(OWN)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let line = line(self.shape, WallTime::from_nanos(0) + since, record.level(), &record.args().to_string());
        // A failed write of the log must not stop the daemon.
        let _ = self.output.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn line(shape: Shape, at: WallTime, level: Level, message: &str) -> String {
    match shape {
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
    fn a_record_in_each_format() {
        let formatted = |shape| line(shape, WallTime::from_nanos(1_500_000_000), Level::Warn, "a\nb");
        assert_eq!(formatted(Shape::Json), "{\"at\":\"1970-01-01T00:00:01.500Z\",\"level\":\"warn\",\"message\":\"a\\nb\"}\n");
        assert_eq!(formatted(Shape::Journal), "<4>a\n<4>b\n");
    }
}
