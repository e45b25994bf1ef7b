//! The daemon's log, on stderr: text by simplelog, or JSON lines of our own, which simplelog does not write.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};
use time::macros::format_description;

use super::out::{Failure, Format};
use crate::model::WallTime;

/// Starts the log.
pub(super) fn start(level: LevelFilter, format: Format) -> Result<(), Failure> {
    let started = match format {
        Format::Text => {
            let config = ConfigBuilder::new()
                .set_time_format_custom(format_description!(
                    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
                ))
                .set_target_level(LevelFilter::Off)
                .set_thread_level(LevelFilter::Off)
                .set_location_level(LevelFilter::Off)
                // The SDK's own crates have much to say at `info`; what matters of it reaches the log as our words.
                .add_filter_allow_str("firelink")
                .build();
            WriteLogger::init(level, config, std::io::stderr())
        }
        Format::Json => {
            log::set_max_level(level);
            log::set_boxed_logger(Box::new(JsonLog { level }))
        }
    };
    started.map_err(|error| Failure::failed(format!("can't start the log: {error}")))
}

/// Reads a level's word.
///
/// # Errors
/// A sentence with the words there are.
pub(super) fn parse_level(word: &str) -> Result<LevelFilter, String> {
    word.parse().map_err(|_| format!("`{word}` is not a log level; write off, error, warn, info, debug or trace"))
}

#[derive(Debug)]
struct JsonLog {
    level: LevelFilter,
}

impl Log for JsonLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && metadata.target().starts_with("firelink")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let line = serde_json::json!({
            "at": (WallTime::from_nanos(0) + since).to_string(),
            "level": record.level().as_str().to_ascii_lowercase(),
            "message": record.args().to_string(),
        });
        // A log that can't be written must not stop what it is about.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn flush(&self) {}
}
