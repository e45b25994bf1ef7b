//! `watch`: a run for each new or changed object of a bucket, file of a folder, or message of a queue.
//!
//! This file reads the keys and makes a [`Trigger`] of them; the watching itself is [`super::s3`], [`super::files`] and
//! [`super::sqs`].
//!
//! ```yaml
//! trigger:
//!   type: watch
//!   source: "s3://bucket/prefix"     # or { s3: bucket/prefix, endpoint, region, path_style, anonymous, profile, timeout }
//!   filter: "*.tar.gz"               # without `/`: the last part of the key; with `/`: the key below the prefix
//!   poll_interval: 30s               # from the end of one poll to the next, plus up to a tenth of stable jitter
//!   existing: skip                   # or process: what the first scan does with the objects it finds
//!   batch: false                     # true: one run for all that one scan found, at most 1,000 objects a run
//!   ordered: false                   # true: keys only grow, so most polls list from the last key on
//!
//! trigger:
//!   type: watch
//!   source: /srv/inbox               # a folder; relative to the job's `cwd`
//!   recursive: true                  # its folders too
//!   stable_for: 2s                   # a file counts once it has not changed for so long
//!   poll_interval: 10s               # only for file systems without inotify
//!
//! trigger:
//!   type: watch
//!   source: "sqs://host/account/queue"   # or { sqs: "https://host/account/queue", endpoint, region, profile, timeout }
//!   filter: "*.csv"                  # of messages that tell of objects: which objects
//!   ack: stored                      # when a message is deleted; or after_success
//! ```

use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

use super::files::FileWatch;
use super::s3::{Address, ClientSettings, Existing, NameFilter, S3Watch, Spread};
use super::sqs::{self, SqsWatch};
use super::{JobContext, Keys, Source, Text, Trigger, TriggerType, stable_offset};
use crate::model::{TriggerWord, format_duration};

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType {
    word: TriggerWord::Watch.as_str(),
    keys: &["source", "filter", "poll_interval", "existing", "batch", "ordered", "recursive", "stable_for", "ack"],
    build,
};

/// The keys of `source` as a map.
pub(super) const SOURCE_KEYS: &[&str] = &["s3", "sqs", "endpoint", "region", "profile", "path_style", "anonymous", "timeout"];

const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// A listing costs money and radio time; more often than this is a mistake of units.
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// From here on the polls of a month cost less than a dollar and a half.
const CHEAP_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// A server across the world, on a link that has to be set up first, takes about as long.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

const SOURCE_HELP: &str = "for example `source: \"s3://bucket/prefix/\"`, or a folder: `source: /srv/inbox`";

fn build(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    // A share of a second rather than of the interval: the same job keeps its place when the interval changes.
    let spread = Spread::from_offset(stable_offset(Duration::from_secs(1), cx));
    if is_queue(keys) {
        let watch = sqs::keys::read(keys, spread)?;
        return Some(Box::new(Queue { watch }));
    }
    if keys.has("ack") {
        let message = "`ack` is about queues, and this source is none".to_owned();
        keys.error(keys.place("ack"), message, "objects and files stay where they are: leave the key out".into());
    }
    if is_folder(keys) {
        let watch = read_folder(keys, cx)?;
        return Some(Box::new(Folder { watch }));
    }
    let watch = read(keys, spread)?;
    Some(Box::new(Watch { watch }))
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

/// True if `source` is a text without a scheme.
fn is_folder(keys: &mut dyn Keys) -> bool {
    keys.has("source")
        && keys.map("source", SOURCE_KEYS).is_none()
        && keys.text("source").is_some_and(|text| !text.value.contains("://"))
}

fn read_folder(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<FileWatch> {
    if keys.has("ordered") {
        let message = "`ordered` is about buckets, and this source is a folder".to_owned();
        keys.error(keys.place("ordered"), message, "a folder is watched without reading it anew: leave the key out".into());
    }
    let filter = read_filter(keys);
    let existing = read_existing(keys);
    let poll_interval = if keys.has("poll_interval") { Some(read_poll_interval(keys)?) } else { None };
    let (batch, recursive) = (keys.flag("batch"), keys.flag("recursive"));
    let stable_for = keys.duration("stable_for");
    let source = keys.text("source")?;
    if source.value.is_empty() {
        keys.error(source.place, "`source` is empty".into(), SOURCE_HELP.into());
        return None;
    }
    if stable_for.is_none() && keys.has("stable_for") {
        return None;
    }
    Some(FileWatch {
        folder: cx.cwd.join(&source.value).components().collect(),
        recursive: recursive.unwrap_or(false),
        filter: filter?,
        stable_for: stable_for.filter(|period| !period.is_zero()),
        poll_interval,
        existing: existing?,
        batch: batch.unwrap_or(false),
    })
}

/// Reads every key before it gives up, so that all mistakes are reported at once.
fn read(keys: &mut dyn Keys, spread: Spread) -> Option<S3Watch> {
    for key in ["recursive", "stable_for"] {
        if keys.has(key) {
            let message = format!("`{key}` is about folders, and this source is a bucket");
            keys.error(keys.place(key), message, "a prefix holds all keys that begin with it, whole when they appear".into());
        }
    }
    let source = read_source(keys);
    let filter = read_filter(keys);
    let poll_interval = read_poll_interval(keys);
    let existing = read_existing(keys);
    let batch = if keys.has("batch") { keys.flag("batch") } else { Some(false) };
    let ordered = if keys.has("ordered") { keys.flag("ordered") } else { Some(false) };
    let (address, client) = source?;
    // A server of one's own asks for no money.
    if let (Some(interval), None) = (poll_interval, &client.endpoint) {
        warn_of_cost(keys, interval);
    }
    Some(S3Watch {
        bucket: address.bucket,
        prefix: address.prefix,
        filter: filter?,
        poll_interval: poll_interval?,
        existing: existing?,
        batch: batch?,
        ordered: ordered?,
        spread,
        client,
    })
}

fn read_source(keys: &mut dyn Keys) -> Option<(Address, ClientSettings)> {
    if !keys.has("source") {
        keys.error(keys.place("source"), "a `watch` trigger needs `source`".into(), SOURCE_HELP.into());
        return None;
    }
    if let Some(mut map) = keys.map("source", SOURCE_KEYS) {
        return read_source_map(&mut *map);
    }
    let text = keys.text("source")?;
    let Some(after_scheme) = text.value.strip_prefix("s3://") else {
        let scheme = text.value.split_once("://").map_or("", |(scheme, _)| scheme);
        keys.error(text.place, format!("`{scheme}://` is not a source that can be watched"), SOURCE_HELP.into());
        return None;
    };
    let offset = text.value.len() - after_scheme.len();
    let address = read_address(keys, &text, offset)?;
    Some((address, ClientSettings::default()))
}

fn read_source_map(keys: &mut dyn Keys) -> Option<(Address, ClientSettings)> {
    let address = if keys.has("s3") {
        let text = keys.text("s3");
        text.and_then(|text| {
            let offset = if text.value.starts_with("s3://") { "s3://".len() } else { 0 };
            read_address(keys, &text, offset)
        })
    } else {
        keys.error(keys.place("s3"), "a `source` map needs `s3` or `sqs`".into(), "for example `s3: bucket/prefix/`".into());
        None
    };
    let mut client = ClientSettings {
        region: read_word(keys, "region", "for example `region: eu-central-1`"),
        profile: read_word(keys, "profile", "name a profile of ~/.aws/config"),
        path_style: keys.flag("path_style"),
        anonymous: keys.flag("anonymous").unwrap_or(false),
        timeout: read_timeout(keys),
        ..ClientSettings::default()
    };
    if let Some(text) = keys.text("endpoint") {
        match super::s3::check_endpoint(&text.value) {
            Ok(endpoint) => client.endpoint = Some(endpoint),
            Err(message) => {
                keys.error(text.place, message, "for example `endpoint: http://192.168.1.5:9000`".into());
                return None;
            }
        }
    }
    if client.anonymous && client.profile.is_some() {
        keys.warn(
            keys.place("profile"),
            "`profile` is of no use beside `anonymous: true`".into(),
            "leave one of them out".into(),
        );
    }
    address.map(|address| (address, client))
}

/// Too short a limit is reported and read as absent.
pub(super) fn read_timeout(keys: &mut dyn Keys) -> Option<Duration> {
    let timeout = keys.duration("timeout")?;
    if timeout < SHORTEST_TIMEOUT {
        let message = format!("a `timeout` of {} is too short", format_duration(timeout));
        keys.error(keys.place("timeout"), message, "it must be at least 1s: a mobile link needs as long to wake up".into());
        return None;
    }
    Some(timeout)
}

/// A word that may not be empty; an empty one is reported and read as absent.
pub(super) fn read_word(keys: &mut dyn Keys, key: &str, help: &str) -> Option<String> {
    let text = keys.text(key)?;
    if text.value.trim().is_empty() {
        keys.error(text.place, format!("`{key}` is empty"), help.into());
        return None;
    }
    Some(text.value)
}

/// Reads `bucket/prefix` from `text`, starting at the byte `offset`.
fn read_address(keys: &mut dyn Keys, text: &Text, offset: usize) -> Option<Address> {
    if !cfg!(feature = "s3") {
        keys.error(
            text.place,
            "this build of firelink has no S3 support".into(),
            "build it with the cargo feature `s3`, which is on by default".into(),
        );
        return None;
    }
    match Address::parse(&text.value[offset..]) {
        Ok(address) => Some(address),
        Err(mistake) => {
            let place = text.place_of(offset + mistake.at.start..offset + mistake.at.end);
            keys.error(place, mistake.message, mistake.help.into());
            None
        }
    }
}

/// The outer `None` is a mistake, the inner one an absent key.
#[expect(clippy::option_option, reason = "absent and wrong are different answers here")]
pub(super) fn read_filter(keys: &mut dyn Keys) -> Option<Option<NameFilter>> {
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

fn read_poll_interval(keys: &mut dyn Keys) -> Option<Duration> {
    if !keys.has("poll_interval") {
        return Some(DEFAULT_POLL_INTERVAL);
    }
    let interval = keys.duration("poll_interval")?;
    if interval < SHORTEST_POLL_INTERVAL {
        let message = format!("a `poll_interval` of {} is too short", format_duration(interval));
        keys.error(keys.place("poll_interval"), message, "it must be at least 1s".into());
        return None;
    }
    Some(interval)
}

/// Warns of polls that cost more than they need to. The price is Amazon's for the first page of a listing (standard
/// storage, us-east-1, in November 2026); it is said with its date because it changes.
fn warn_of_cost(keys: &mut dyn Keys, interval: Duration) {
    const DOLLARS_PER_REQUEST: f64 = 0.005 / 1_000.0;
    const MONTH_SECS: f64 = 30.0 * 86_400.0;
    if interval >= CHEAP_POLL_INTERVAL {
        return;
    }
    let requests = MONTH_SECS / interval.as_secs_f64();
    let message =
        format!("a poll every {} is about {:.1} million LIST requests a month", format_duration(interval), requests / 1e6);
    let dollars = requests * DOLLARS_PER_REQUEST;
    let help = format!(
        "Amazon takes about ${dollars:.2} for them ($0.005 a thousand, November 2026), and as much again for each further \
         1,000 keys below the prefix; poll less often"
    );
    keys.warn(keys.place("poll_interval"), message, help);
}

fn read_existing(keys: &mut dyn Keys) -> Option<Existing> {
    if !keys.has("existing") {
        return Some(Existing::Skip);
    }
    let text = keys.text("existing")?;
    match text.value.as_str() {
        "skip" => Some(Existing::Skip),
        "process" => Some(Existing::Process),
        other => {
            let help = "`skip` takes what is there at first as seen, `process` makes runs of it";
            keys.error(text.place, format!("`{other}` is neither `skip` nor `process`"), help.into());
            None
        }
    }
}

#[derive(Debug, PartialEq)]
struct Watch {
    watch: S3Watch,
}

impl Trigger for Watch {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Watch
    }

    fn summary(&self) -> String {
        format!("watch {}", self.watch)
    }

    #[cfg(feature = "s3")]
    fn source(&self) -> Option<Box<dyn Source>> {
        Some(self.watch.source())
    }

    // Not reached: without the feature no configuration with a bucket loads.
    #[cfg(not(feature = "s3"))]
    fn source(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn event_env(&self, event: &Value) -> Vec<(String, OsString)> {
        event_env(event)
    }
}

#[derive(Debug, PartialEq)]
struct Queue {
    watch: SqsWatch,
}

impl Trigger for Queue {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Watch
    }

    fn summary(&self) -> String {
        format!("watch {}", self.watch)
    }

    #[cfg(feature = "sqs")]
    fn source(&self) -> Option<Box<dyn Source>> {
        Some(self.watch.source())
    }

    // Not reached: without the feature no configuration with a queue loads.
    #[cfg(not(feature = "sqs"))]
    fn source(&self) -> Option<Box<dyn Source>> {
        None
    }

    fn event_env(&self, event: &Value) -> Vec<(String, OsString)> {
        event_env(event)
    }
}

#[derive(Debug, PartialEq)]
struct Folder {
    watch: FileWatch,
}

impl Trigger for Folder {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Watch
    }

    fn summary(&self) -> String {
        format!("watch {}", self.watch)
    }

    fn source(&self) -> Option<Box<dyn Source>> {
        Some(self.watch.source())
    }

    fn event_env(&self, event: &Value) -> Vec<(String, OsString)> {
        super::files::path_of(event).map(|path| ("FIRELINK_FILE".to_owned(), path)).into_iter().collect()
    }
}

/// The variables of one event. A batch has a bucket but no single key: its objects are in `FIRELINK_EVENT`.
fn event_env(event: &Value) -> Vec<(String, OsString)> {
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
