//! How the watch of a bucket is read from its keys.

use std::time::Duration;

use super::{Address, S3Watch};
use crate::model::format_duration;
use crate::triggers::aws::{ClientSettings, check_endpoint};
use crate::triggers::watch::keys::{
    SOURCE_HELP, SOURCE_KEYS, read_existing, read_filter, read_poll_interval, read_timeout, read_word,
};
use crate::triggers::{Keys, Spread, Text};

/// At longer intervals the polls of a month cost less than 1.50 dollars.
const CHEAP_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Reads every key before it gives up, so that all mistakes are reported at once.
pub(in crate::triggers) fn read(keys: &mut dyn Keys, spread: Spread) -> Option<S3Watch> {
    for key in ["recursive", "stable_for"] {
        if keys.has(key) {
            let message = format!("`{key}` is for folders, and this source is a bucket");
            keys.error(
                keys.place(key),
                message,
                "a prefix includes all keys that begin with it, and objects are complete when they appear".into(),
            );
        }
    }
    let source = read_source(keys);
    let filter = read_filter(keys);
    let poll_interval = read_poll_interval(keys);
    let existing = read_existing(keys);
    let batch = if keys.has("batch") { keys.flag("batch") } else { Some(false) };
    let ordered = if keys.has("ordered") { keys.flag("ordered") } else { Some(false) };
    let (address, client) = source?;
    // Only AWS charges for requests.
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
        keys.error(text.place, format!("`{scheme}://` can't be watched"), SOURCE_HELP.into());
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
        match check_endpoint(&text.value) {
            Ok(endpoint) => client.endpoint = Some(endpoint),
            Err(message) => {
                keys.error(text.place, message, "for example `endpoint: http://192.168.1.5:9000`".into());
                return None;
            }
        }
    }
    if client.anonymous && client.profile.is_some() {
        keys.warn(keys.place("profile"), "`profile` has no effect with `anonymous: true`".into(), "leave one of them out".into());
    }
    address.map(|address| (address, client))
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

/// Warns of expensive polls. The price is Amazon's for the first page of a listing (standard storage, us-east-1, in November
/// 2026); the message has its date because it changes.
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
        "Amazon charges about ${dollars:.2} for them ($0.005 a thousand, November 2026), and as much again for each further \
         1,000 keys below the prefix; poll less often"
    );
    keys.warn(keys.place("poll_interval"), message, help);
}
