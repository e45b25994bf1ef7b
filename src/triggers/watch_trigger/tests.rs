//! Reading the keys of watches: their values, and the errors with their places.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::parse_duration;
#[cfg(feature = "s3")]
use crate::triggers::aws::ClientSettings;
use crate::triggers::s3::keys::read;
#[cfg(feature = "s3")]
use crate::triggers::watch::Existing;
use crate::triggers::{Place, Text};

/// Keys as a map, with the value's length as its place.
#[derive(Default)]
struct FakeKeys {
    words: BTreeMap<&'static str, String>,
    source: Option<BTreeMap<&'static str, String>>,
    said: Vec<(Place, String)>,
}

impl FakeKeys {
    fn of(words: &[(&'static str, &str)]) -> FakeKeys {
        FakeKeys { words: words.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(), ..FakeKeys::default() }
    }

    fn with_map(words: &[(&'static str, &str)]) -> FakeKeys {
        FakeKeys { source: Some(words.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()), ..FakeKeys::default() }
    }
}

/// The keys of a nested map, which reports to its parent.
struct Inner<'a> {
    words: BTreeMap<&'static str, String>,
    said: &'a mut Vec<(Place, String)>,
}

macro_rules! read_words {
    () => {
        fn place(&self, key: &str) -> Place {
            self.words.get(key).map(|value| Place { start: 0, end: value.len() }).unwrap_or_default()
        }
        fn text(&mut self, key: &str) -> Option<Text> {
            let value = self.words.get(key)?.clone();
            Some(Text { place: Place { start: 0, end: value.len() }, verbatim_at: Some(0), value })
        }
        fn texts(&mut self, key: &str) -> Vec<Text> {
            self.text(key).into_iter().collect()
        }
        fn duration(&mut self, key: &str) -> Option<Duration> {
            parse_duration(self.words.get(key)?).ok()
        }
        fn command(&mut self, _: &str) -> Option<crate::exec::spec::Action> {
            None
        }
        fn flag(&mut self, key: &str) -> Option<bool> {
            self.words.get(key)?.parse().ok()
        }
        fn error(&mut self, place: Place, message: String, _: String) {
            self.said.push((place, message));
        }
        fn warn(&mut self, place: Place, message: String, _: String) {
            self.said.push((place, format!("warning: {message}")));
        }
    };
}

impl Keys for FakeKeys {
    fn has(&self, key: &str) -> bool {
        self.words.contains_key(key) || (key == "source" && self.source.is_some())
    }
    fn map(&mut self, key: &str, allowed: &[&str]) -> Option<Box<dyn Keys + '_>> {
        let words = (key == "source").then_some(self.source.clone())??;
        assert!(words.keys().all(|key| allowed.contains(key)), "these tests use known keys only");
        Some(Box::new(Inner { words, said: &mut self.said }))
    }
    read_words!();
}

impl Keys for Inner<'_> {
    fn has(&self, key: &str) -> bool {
        self.words.contains_key(key)
    }
    fn map(&mut self, _: &str, _: &[&str]) -> Option<Box<dyn Keys + '_>> {
        None
    }
    read_words!();
}

#[cfg(feature = "s3")]
fn read_well(mut keys: FakeKeys) -> S3Watch {
    let watch = read(&mut keys, Spread::default());
    assert_eq!(keys.said, []);
    watch.expect("a watch")
}

fn complaints(mut keys: FakeKeys) -> Vec<String> {
    assert!(read(&mut keys, Spread::default()).is_none());
    keys.said.into_iter().map(|(_, message)| message).collect()
}

#[cfg(feature = "s3")]
#[test]
fn a_url_alone_is_a_watch_with_the_defaults() {
    let watch = read_well(FakeKeys::of(&[("source", "s3://my-bucket/input/")]));
    assert_eq!((watch.bucket.as_str(), watch.prefix.as_str()), ("my-bucket", "input/"));
    assert_eq!(watch.poll_interval, Duration::from_secs(30));
    assert_eq!(watch.existing, Existing::Skip);
    assert!(!watch.batch && watch.filter.is_none());
    assert_eq!(watch.client, ClientSettings::default());
    assert_eq!(watch.to_string(), "s3://my-bucket/input/ every 30s");
}

#[cfg(feature = "s3")]
#[test]
fn a_map_holds_the_settings_of_the_client() {
    let watch = read_well(FakeKeys::with_map(&[
        ("s3", "s3://my-bucket/in"),
        ("endpoint", "http://192.168.1.5:9000/"),
        ("region", "garage"),
        ("profile", "box"),
        ("path_style", "true"),
        ("anonymous", "false"),
        ("timeout", "1m"),
    ]));
    assert_eq!((watch.bucket.as_str(), watch.prefix.as_str()), ("my-bucket", "in"));
    assert_eq!(watch.client.endpoint.as_deref(), Some("http://192.168.1.5:9000"));
    assert_eq!(watch.client.path_style, Some(true));
    assert_eq!(watch.client.timeout, Some(Duration::from_secs(60)));
    let shown =
        "s3://my-bucket/in every 30s endpoint http://192.168.1.5:9000 region garage profile box path_style true timeout 1m";
    assert_eq!(watch.to_string(), shown);
    assert_eq!(watch.identity(), "http://192.168.1.5:9000|my-bucket|in");
}

#[cfg(feature = "s3")]
#[test]
fn every_key_is_in_the_summary_because_a_reload_compares_it() {
    let keys = [
        ("source", "s3://abc"),
        ("filter", "*.gz"),
        ("poll_interval", "15s"),
        ("existing", "process"),
        ("batch", "true"),
        ("ordered", "true"),
    ];
    assert_eq!(read_well(FakeKeys::of(&keys)).to_string(), "s3://abc/ filter *.gz every 15s existing process batch ordered");
}

#[cfg(feature = "s3")]
#[test]
fn an_invalid_bucket_name_is_located_within_the_source() {
    let mut keys = FakeKeys::of(&[("source", "s3://My-bucket/x")]);
    assert!(read(&mut keys, Spread::default()).is_none());
    assert_eq!(keys.said, [(Place { start: 5, end: 6 }, "`M` is not allowed in a bucket's name".to_owned())]);
}

#[test]
fn a_path_is_a_folder_relative_to_cwd_and_every_key_is_in_the_summary() {
    let cx = JobContext { job: "a", zone: crate::cron::Zone::utc(), cwd: std::path::Path::new("/srv"), machine_seed: 0 };
    let summary = |keys: &[(&'static str, &'static str)]| build(&mut FakeKeys::of(keys), &cx).expect("a folder").summary();
    for path in ["/srv/in", "in", "./in", "in/"] {
        assert_eq!(summary(&[("source", path)]), "watch /srv/in");
    }
    let all = [
        ("source", "in"),
        ("recursive", "true"),
        ("filter", "*.gz"),
        ("stable_for", "2s"),
        ("poll_interval", "15s"),
        ("existing", "process"),
        ("batch", "true"),
    ];
    assert_eq!(summary(&all), "watch /srv/in recursive filter *.gz stable for 2s every 15s existing process batch");
}

#[cfg(feature = "s3")]
#[test]
fn a_timeout_below_a_second_is_an_error() {
    let mut keys = FakeKeys::with_map(&[("s3", "abc"), ("timeout", "20ms")]);
    read(&mut keys, Spread::default());
    assert_eq!(keys.said, [(Place { start: 0, end: 4 }, "a `timeout` of 20ms is too short".to_owned())]);
}

#[test]
fn keys_of_a_bucket_are_errors_for_a_folder() {
    let cx = JobContext { job: "a", zone: crate::cron::Zone::utc(), cwd: std::path::Path::new("/srv"), machine_seed: 0 };
    let mut keys = FakeKeys::of(&[("source", "in"), ("ordered", "true")]);
    build(&mut keys, &cx);
    let place = Place { start: 0, end: 4 };
    assert_eq!(keys.said, [(place, "`ordered` is for buckets, and this source is a folder".to_owned())]);
}

#[test]
fn unknown_schemes_are_errors() {
    assert_eq!(complaints(FakeKeys::of(&[("source", "gs://b")])), ["`gs://` can't be watched"]);
    assert_eq!(complaints(FakeKeys::default()), ["a `watch` trigger needs `source`"]);
}

#[test]
fn all_errors_are_reported_at_once() {
    let keys = [("source", "gs://here"), ("filter", "[a"), ("poll_interval", "10ms"), ("existing", "all")];
    let said = complaints(FakeKeys::of(&keys));
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[1].contains("not a glob"), "{said:?}");
    assert!(said[2].contains("too short"), "{said:?}");
    assert!(said[3].contains("expected `skip` or `process`"), "{said:?}");
}

#[test]
fn a_map_needs_a_bucket_and_a_valid_endpoint() {
    assert_eq!(complaints(FakeKeys::with_map(&[("region", "x")])), ["a `source` map needs `s3` or `sqs`"]);
    let said = complaints(FakeKeys::with_map(&[("s3", "abc"), ("endpoint", "10.0.0.1:9000")]));
    assert!(said.iter().any(|message| message.contains("does not start with `http://`")), "{said:?}");
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_build_without_s3_reports_that() {
    assert_eq!(complaints(FakeKeys::of(&[("source", "s3://abc")])), ["this build of firelink has no S3 support"]);
}

#[test]
fn an_object_becomes_variables() {
    let event = json!({"bucket": "b", "key": "in/line\nbreak ü.csv", "size": 12, "etag": "abc", "last_modified": null});
    let env = object_env(&event);
    let expected = [
        ("FIRELINK_OBJECT_BUCKET", "b"),
        ("FIRELINK_OBJECT_KEY", "in/line\nbreak ü.csv"),
        ("FIRELINK_OBJECT_SIZE", "12"),
        ("FIRELINK_OBJECT_ETAG", "abc"),
    ];
    assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.into())));
}

#[test]
fn a_batch_has_a_bucket_but_no_single_key() {
    let event = json!({"bucket": "b", "count": 1, "objects": [{"key": "k", "size": 1, "etag": "e"}]});
    assert_eq!(object_env(&event), [("FIRELINK_OBJECT_BUCKET".to_owned(), "b".into())]);
}

/// The summary of what `build` makes of these keys, and its messages.
#[cfg(feature = "s3")]
fn built(mut keys: FakeKeys) -> (Option<String>, Vec<String>) {
    let cx = JobContext { job: "a", zone: crate::cron::Zone::utc(), cwd: std::path::Path::new("/srv"), machine_seed: 0 };
    let summary = build(&mut keys, &cx).map(|trigger| trigger.summary());
    (summary, keys.said.into_iter().map(|(_, message)| message).collect())
}

#[cfg(feature = "sqs")]
#[test]
fn every_key_of_a_queue_is_in_its_summary() {
    let short = [("source", "sqs://sqs.eu-west-1.amazonaws.com/1/in")];
    assert_eq!(built(FakeKeys::of(&short)), (Some("watch sqs://sqs.eu-west-1.amazonaws.com/1/in".into()), vec![]));
    let mut keys = FakeKeys::with_map(&[
        ("sqs", "http://127.0.0.1:9324/1/in"),
        ("endpoint", "http://127.0.0.1:5000"),
        ("region", "r"),
        ("profile", "p"),
        ("timeout", "5s"),
    ]);
    keys.words = [("filter", "*.gz"), ("ack", "after_success")].map(|(key, value)| (key, value.to_owned())).into();
    let shown = "watch http://127.0.0.1:9324/1/in filter *.gz ack after_success endpoint http://127.0.0.1:5000 region r profile p timeout 5s";
    assert_eq!(built(keys), (Some(shown.into()), vec![]));
}

#[cfg(feature = "sqs")]
#[test]
fn keys_of_other_sources_are_errors_for_a_queue() {
    let keys = [
        ("source", "sqs://host/"),
        ("poll_interval", "30s"),
        ("existing", "skip"),
        ("batch", "true"),
        ("ordered", "true"),
        ("recursive", "true"),
        ("stable_for", "1s"),
        ("filter", "["),
        ("ack", "never"),
    ];
    let (summary, said) = built(FakeKeys::of(&keys));
    assert_eq!((summary, said.len()), (None, 9), "{said:#?}");
    let keys = FakeKeys::with_map(&[("sqs", "sqs://host/1/in"), ("s3", "box"), ("path_style", "true"), ("anonymous", "true")]);
    assert_eq!(built(keys).1.len(), 3);
}

#[cfg(all(feature = "s3", not(feature = "sqs")))]
#[test]
fn a_build_without_sqs_reports_that() {
    assert_eq!(built(FakeKeys::of(&[("source", "sqs://h/1/q")])).1, ["this build of firelink has no SQS support"]);
}

#[cfg(feature = "s3")]
#[test]
fn ack_is_an_error_for_other_sources() {
    for source in ["in", "s3://box/"] {
        let (_, said) = built(FakeKeys::of(&[("source", source), ("ack", "stored")]));
        assert_eq!(said, ["`ack` is for queues, and this source is not one"]);
    }
}
