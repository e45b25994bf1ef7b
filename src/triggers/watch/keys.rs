//! The keys that the watches of several types of source share, and how their values are read.

use std::time::Duration;

use super::{Existing, NameFilter};
use crate::model::format_duration;
use crate::triggers::Keys;
use crate::triggers::defaults::POLL_INTERVAL;

/// The keys of `source` as a map.
pub(in crate::triggers) const SOURCE_KEYS: &[&str] =
    &["s3", "sqs", "endpoint", "region", "profile", "path_style", "anonymous", "timeout"];

pub(in crate::triggers) const SOURCE_HELP: &str =
    "for example `source: \"s3://bucket/prefix/\"`, or a folder: `source: /srv/inbox`";

/// A listing costs money and air time; a shorter interval is a mistake of units.
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A distant server over a mobile link that has to be established first takes about as long.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads `timeout`; one that is too short is reported and read as absent.
pub(in crate::triggers) fn read_timeout(keys: &mut dyn Keys) -> Option<Duration> {
    let timeout = keys.duration("timeout")?;
    if timeout < SHORTEST_TIMEOUT {
        let message = format!("a `timeout` of {} is too short", format_duration(timeout));
        keys.error(keys.place("timeout"), message, "it must be at least 1s: a mobile link needs as long to wake up".into());
        return None;
    }
    Some(timeout)
}

/// Reads a text that may not be empty; an empty one is reported and read as absent.
pub(in crate::triggers) fn read_word(keys: &mut dyn Keys, key: &str, help: &str) -> Option<String> {
    let text = keys.text(key)?;
    if text.value.trim().is_empty() {
        keys.error(text.place, format!("`{key}` is empty"), help.into());
        return None;
    }
    Some(text.value)
}

/// Reads `filter`. The outer `None` is an error, which was reported; the inner one an absent key.
#[expect(clippy::option_option, reason = "absent and invalid are different results")]
pub(in crate::triggers) fn read_filter(keys: &mut dyn Keys) -> Option<Option<NameFilter>> {
    if !keys.has("filter") {
        return Some(None);
    }
    let text = keys.text("filter")?;
    match NameFilter::parse(&text.value) {
        Ok(filter) => Some(Some(filter)),
        Err(message) => {
            keys.error(text.place, message, "a filter is a glob like `*.csv`, `data-[0-9]*.json` or `2024/**/*.gz`".into());
            None
        }
    }
}

pub(in crate::triggers) fn read_poll_interval(keys: &mut dyn Keys) -> Option<Duration> {
    if !keys.has("poll_interval") {
        return Some(POLL_INTERVAL);
    }
    let interval = keys.duration("poll_interval")?;
    if interval < SHORTEST_POLL_INTERVAL {
        let message = format!("a `poll_interval` of {} is too short", format_duration(interval));
        keys.error(keys.place("poll_interval"), message, "it must be at least 1s".into());
        return None;
    }
    Some(interval)
}

pub(in crate::triggers) fn read_existing(keys: &mut dyn Keys) -> Option<Existing> {
    if !keys.has("existing") {
        return Some(Existing::Skip);
    }
    let text = keys.text("existing")?;
    match text.value.as_str() {
        "skip" => Some(Existing::Skip),
        "process" => Some(Existing::Process),
        other => {
            let help = "with `skip`, objects that the first scan finds count as seen; with `process`, they make runs";
            keys.error(text.place, format!("invalid value `{other}` for `existing`: expected `skip` or `process`"), help.into());
            None
        }
    }
}
