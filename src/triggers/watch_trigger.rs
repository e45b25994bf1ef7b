//! `watch`: a run for each new or changed object of a bucket, file of a folder, or message of a queue.
//!
//! This file chooses the type of source; [`super::s3`], [`super::files`] and [`super::sqs`] read its keys and watch it.
//!
//! ```yaml
//! trigger:
//!   type: watch
//!   source: "s3://bucket/prefix"     # or { s3: bucket/prefix, endpoint, region, path_style, anonymous, profile, timeout }
//!   filter: "*.tar.gz"               # without `/`: the last part of the key; with `/`: the key below the prefix
//!   poll_interval: 30s               # from the end of one poll to the next, plus up to a tenth of stable jitter
//!   existing: skip                   # or process: what the first scan does with the objects that it finds
//!   batch: false                     # true: one run for all objects of a scan, at most 1,000 each
//!   ordered: false                   # true: keys only grow, so most polls list from the last key on
//!
//! trigger:
//!   type: watch
//!   source: /srv/inbox               # a folder; relative to the job's `cwd`
//!   recursive: true                  # directories below it too
//!   stable_for: 2s                   # a file is ready once it has not changed for this long
//!   poll_interval: 10s               # only for file systems without inotify
//!
//! trigger:
//!   type: watch
//!   source: "sqs://host/account/queue"   # or { sqs: "https://host/account/queue", endpoint, region, profile, timeout }
//!   filter: "*.csv"                  # which objects, for messages about objects
//!   ack: stored                      # when a message is deleted; or after_success
//! ```

use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

use super::files::{self, FileWatch};
use super::s3::{self, S3Watch};
use super::sqs::{self, SqsWatch};
use super::watch::keys::SOURCE_KEYS;
use super::{JobContext, Keys, Source, Spread, Trigger, TriggerType, stable_offset};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType {
    word: TriggerWord::Watch.as_str(),
    keys: &["source", "filter", "poll_interval", "existing", "batch", "ordered", "recursive", "stable_for", "ack"],
    build,
};

fn build(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    // A share of a second rather than of the interval: a job keeps its share when the interval changes.
    let spread = Spread::from_offset(stable_offset(Duration::from_secs(1), cx));
    if is_queue(keys) {
        return Some(Box::new(Watch::Queue(sqs::keys::read(keys, spread)?)));
    }
    if keys.has("ack") {
        let message = "`ack` is for queues, and this source is not one".to_owned();
        keys.error(keys.place("ack"), message, "objects and files are not deleted: leave the key out".into());
    }
    if is_folder(keys) {
        return Some(Box::new(Watch::Folder(files::keys::read(keys, cx)?)));
    }
    Some(Box::new(Watch::Bucket(s3::keys::read(keys, spread)?)))
}

/// True if `source` names a queue.
fn is_queue(keys: &mut dyn Keys) -> bool {
    if !keys.has("source") {
        return false;
    }
    if let Some(map) = keys.map("source", SOURCE_KEYS) {
        return map.has("sqs");
    }
    keys.text("source").is_some_and(|text| text.value.starts_with("sqs://"))
}

/// True if `source` is a text without a URL scheme.
fn is_folder(keys: &mut dyn Keys) -> bool {
    keys.has("source")
        && keys.map("source", SOURCE_KEYS).is_none()
        && keys.text("source").is_some_and(|text| !text.value.contains("://"))
}

/// One job's watch, as configured.
#[derive(Debug, PartialEq)]
enum Watch {
    Bucket(S3Watch),
    Queue(SqsWatch),
    Folder(FileWatch),
}

impl Trigger for Watch {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Watch
    }

    fn summary(&self) -> String {
        match self {
            Watch::Bucket(watch) => format!("watch {watch}"),
            Watch::Queue(watch) => format!("watch {watch}"),
            Watch::Folder(watch) => format!("watch {watch}"),
        }
    }

    fn source(&self) -> Option<Box<dyn Source>> {
        match self {
            #[cfg(feature = "s3")]
            Watch::Bucket(watch) => Some(watch.source()),
            #[cfg(feature = "sqs")]
            Watch::Queue(watch) => Some(watch.source()),
            Watch::Folder(watch) => Some(watch.source()),
            // Not reached: without its feature, no configuration with such a source loads.
            #[cfg(not(feature = "s3"))]
            Watch::Bucket(_) => None,
            #[cfg(not(feature = "sqs"))]
            Watch::Queue(_) => None,
        }
    }

    fn event_env(&self, event: &Value) -> Vec<(String, OsString)> {
        match self {
            Watch::Bucket(_) | Watch::Queue(_) => object_env(event),
            Watch::Folder(_) => files::path_of(event).map(|path| ("FIRELINK_FILE".to_owned(), path)).into_iter().collect(),
        }
    }
}

/// The variables of an event about objects. A batch has a bucket but no single key: its objects are in `FIRELINK_EVENT`.
fn object_env(event: &Value) -> Vec<(String, OsString)> {
    const NAMES: [(&str, &str); 4] = [
        ("FIRELINK_OBJECT_BUCKET", "bucket"),
        ("FIRELINK_OBJECT_KEY", "key"),
        ("FIRELINK_OBJECT_SIZE", "size"),
        ("FIRELINK_OBJECT_ETAG", "etag"),
    ];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let found = NAMES.iter().filter_map(|(name, field)| Some(((*name).to_owned(), text(event.get(field)?)?.into())));
    found.collect()
}

#[cfg(test)]
mod tests;
