//! How the watch of a queue is read from its keys.

use super::{Ack, QueueUrl, SqsWatch};
use crate::triggers::aws::{ClientSettings, check_endpoint};
use crate::triggers::watch::keys::{SOURCE_KEYS, read_filter, read_timeout, read_word};
use crate::triggers::{Keys, Spread, Text};

const SOURCE_HELP: &str = "for example `source: \"sqs://sqs.eu-central-1.amazonaws.com/123456789012/inbox\"`";

/// Keys of other sources, and why a queue does not take them.
const NOT_OF_QUEUES: [(&str, &str); 6] = [
    ("poll_interval", "messages are received at once"),
    ("existing", "every message makes a run, whenever it was sent"),
    ("batch", "each message makes a run of its own"),
    ("ordered", "a queue is not listed"),
    ("recursive", "a message may be about any key"),
    ("stable_for", "a message is about complete objects"),
];

/// Reads every key before it gives up, so that all mistakes are reported at once.
pub(in crate::triggers) fn read(keys: &mut dyn Keys, spread: Spread) -> Option<SqsWatch> {
    for (key, why) in NOT_OF_QUEUES {
        if keys.has(key) {
            let message = format!("`{key}` is not for queues, and this source is one");
            keys.error(keys.place(key), message, format!("{why}: leave the key out"));
        }
    }
    let filter = read_filter(keys);
    let ack = read_ack(keys);
    if !cfg!(feature = "sqs") {
        keys.error(
            keys.place("source"),
            "this build of firelink has no SQS support".into(),
            "build it with the cargo feature `sqs`".into(),
        );
        return None;
    }
    let (queue, client) = read_source(keys)?;
    Some(SqsWatch { queue, filter: filter?, ack: ack?, spread, client })
}

fn read_source(keys: &mut dyn Keys) -> Option<(QueueUrl, ClientSettings)> {
    if keys.map("source", SOURCE_KEYS).is_none() {
        let text = keys.text("source")?;
        return Some((read_queue(keys, &text)?, ClientSettings::default()));
    }
    let mut map = keys.map("source", SOURCE_KEYS)?;
    for key in ["s3", "path_style", "anonymous"].into_iter().filter(|key| map.has(key)).collect::<Vec<_>>() {
        let message = format!("`{key}` is for buckets, and this source is a queue");
        map.error(map.place(key), message, "a job watches one thing: leave the key out".into());
    }
    let queue = map.text("sqs").and_then(|text| read_queue(&mut *map, &text));
    let mut client = ClientSettings {
        region: read_word(&mut *map, "region", "for example `region: eu-central-1`"),
        profile: read_word(&mut *map, "profile", "name a profile of ~/.aws/config"),
        timeout: read_timeout(&mut *map),
        ..ClientSettings::default()
    };
    if let Some(text) = map.text("endpoint") {
        match check_endpoint(&text.value) {
            Ok(endpoint) => client.endpoint = Some(endpoint),
            Err(message) => {
                map.error(text.place, message, "for example `endpoint: http://192.168.1.5:9324`".into());
                return None;
            }
        }
    }
    Some((queue?, client))
}

fn read_queue(keys: &mut dyn Keys, text: &Text) -> Option<QueueUrl> {
    match QueueUrl::parse(&text.value) {
        Ok(queue) => Some(queue),
        Err(message) => {
            keys.error(text.place, message, SOURCE_HELP.into());
            None
        }
    }
}

fn read_ack(keys: &mut dyn Keys) -> Option<Ack> {
    if !keys.has("ack") {
        return Some(Ack::Stored);
    }
    let text = keys.text("ack")?;
    match text.value.as_str() {
        "stored" => Some(Ack::Stored),
        "after_success" => Some(Ack::AfterSuccess),
        other => {
            let help = "`stored` deletes a message once its run is in the store, `after_success` once its run has succeeded";
            keys.error(
                text.place,
                format!("invalid value `{other}` for `ack`: expected `stored` or `after_success`"),
                help.into(),
            );
            None
        }
    }
}
