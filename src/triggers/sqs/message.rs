//! The content of a message: objects, as S3 or EventBridge report them, or any other text.

use serde_json::{Map, Value, json};

use crate::triggers::aws::url_encoding::decode;
use crate::triggers::watch::NameFilter;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// A run, with this payload.
    Event(Value),
    /// No run, for this reason; the message is deleted.
    Ignored(&'static str),
}

/// Parses the body of a message. The same message always makes the same payload, by which its run is found later.
pub(super) fn read(id: &str, body: &str, filter: Option<&NameFilter>) -> Content {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return Content::Event(json!({ "message_id": id, "body": body }));
    };
    // An SNS topic between bucket and queue wraps the message.
    let inner = match (&value["Type"], &value["TopicArn"], &value["Message"]) {
        (Value::String(kind), Value::String(_), Value::String(text)) if kind == "Notification" => Some(text),
        _ => None,
    };
    let value = match inner {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
        None => value,
    };
    if value["Event"] == "s3:TestEvent" {
        return Content::Ignored("it is the test message of a bucket's notifications");
    }
    let Some(mut objects) = objects_of_s3(&value).or_else(|| object_of_event_bridge(&value).map(|object| vec![object])) else {
        return Content::Event(json!({ "message_id": id, "body": value }));
    };
    let key = |object: &Map<String, Value>| object["key"].as_str().map(str::to_owned).unwrap_or_default();
    objects.retain(|object| filter.is_none_or(|filter| filter.matches("", &key(object))));
    match (objects.len(), objects.pop()) {
        (_, None) => Content::Ignored("none of its objects matches the filter"),
        (1, Some(mut object)) => {
            object.insert("message_id".to_owned(), id.into());
            Content::Event(Value::Object(object))
        }
        (count, Some(last)) => {
            let bucket = last["bucket"].clone();
            objects.push(last);
            Content::Event(json!({ "message_id": id, "bucket": bucket, "count": count, "objects": objects }))
        }
    }
}

/// The objects of a notification by S3 or a compatible server. `None` unless each record has one: no part of a message may be
/// lost.
fn objects_of_s3(value: &Value) -> Option<Vec<Map<String, Value>>> {
    let records = value["Records"].as_array().filter(|records| !records.is_empty())?;
    let object = |record: &Value| {
        let (bucket, object) = (record["s3"]["bucket"]["name"].as_str()?, &record["s3"]["object"]);
        // Only here keys are form-encoded: a space is a `+`.
        let key = object["key"].as_str()?;
        let key = decode(key).unwrap_or_else(|| key.to_owned());
        let rest = [
            ("size", &object["size"]),
            ("etag", &object["eTag"]),
            ("version_id", &object["versionId"]),
            ("event", &record["eventName"]),
            ("time", &record["eventTime"]),
        ];
        Some(object_of(bucket, &key, &rest))
    };
    records.iter().map(object).collect()
}

/// The object of an S3 event that EventBridge sent.
fn object_of_event_bridge(value: &Value) -> Option<Map<String, Value>> {
    let kind = value["detail-type"].as_str().filter(|_| value["source"] == "aws.s3")?;
    let (bucket, object) = (value["detail"]["bucket"]["name"].as_str()?, &value["detail"]["object"]);
    let rest = [
        ("size", &object["size"]),
        ("etag", &object["etag"]),
        ("version_id", &object["version-id"]),
        ("event", &json!(kind)),
        ("time", &value["time"]),
    ];
    Some(object_of(bucket, object["key"].as_str()?, &rest))
}

/// A payload with the keys of the watch of a bucket; attributes that are null, as of a removed object, are omitted.
fn object_of(bucket: &str, key: &str, rest: &[(&str, &Value)]) -> Map<String, Value> {
    let known = [("bucket", bucket.into()), ("key", key.into())].map(|(name, value)| (name.to_owned(), value));
    let rest = rest.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| ((*name).to_owned(), (*value).clone()));
    known.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(body: &str) -> Value {
        match read("m-1", body, None) {
            Content::Event(event) => event,
            Content::Ignored(reason) => panic!("no event: {reason}"),
        }
    }

    fn record(key: &str) -> Value {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2024-05-01T12:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": { "name": "box", "arn": "arn:aws:s3:::box" },
                "object": { "key": key, "size": 7, "eTag": "abc", "sequencer": "0055" },
            },
        })
    }

    fn object(key: &str) -> Value {
        json!({
            "bucket": "box", "key": key, "size": 7, "etag": "abc", "event": "ObjectCreated:Put",
            "time": "2024-05-01T12:00:00.000Z",
        })
    }

    #[test]
    fn a_notification_of_s3_is_an_event_with_the_key_decoded() {
        let event = event_of(&json!({ "Records": [record("in/a+b%2Bc%C3%BC.csv")] }).to_string());
        let mut expected = object("in/a b+cü.csv");
        expected["message_id"] = "m-1".into();
        assert_eq!(event, expected);
    }

    #[test]
    fn a_message_wrapped_by_sns_is_unwrapped() {
        let inner = json!({ "Records": [record("a")] }).to_string();
        let outer = json!({ "Type": "Notification", "TopicArn": "arn:x", "Message": inner }).to_string();
        assert_eq!(event_of(&outer), event_of(&inner));
        let plain = json!({ "Type": "Notification", "TopicArn": "arn:x", "Message": "hello" }).to_string();
        assert_eq!(event_of(&plain), json!({ "message_id": "m-1", "body": "hello" }));
    }

    #[test]
    fn an_event_of_eventbridge_is_an_event_with_the_key_as_it_is() {
        let body = json!({
            "version": "0", "id": "17", "detail-type": "Object Created", "source": "aws.s3", "time": "2024-05-01T12:00:00Z",
            "detail": { "bucket": { "name": "box" }, "object": { "key": "a+b%20", "size": 5, "etag": "e", "version-id": "v" } },
        });
        let expected = json!({
            "bucket": "box", "key": "a+b%20", "size": 5, "etag": "e", "version_id": "v", "event": "Object Created",
            "time": "2024-05-01T12:00:00Z", "message_id": "m-1",
        });
        assert_eq!(event_of(&body.to_string()), expected);
    }

    #[test]
    fn several_objects_of_one_message_are_one_event() {
        let event = event_of(&json!({ "Records": [record("a"), record("b")] }).to_string());
        let expected = json!({ "message_id": "m-1", "bucket": "box", "count": 2, "objects": [object("a"), object("b")] });
        assert_eq!(event, expected);
    }

    #[test]
    fn other_messages_are_passed_on_unchanged() {
        for (body, kept) in [
            ("plain words", json!("plain words")),
            ("{\"a\": [1, null]}", json!({ "a": [1, null] })),
            ("17", json!(17)),
            ("", json!("")),
            ("{\"Records\": []}", json!({ "Records": [] })),
            ("{\"Records\": [{\"s3\": {}}]}", json!({ "Records": [{ "s3": {} }] })),
            ("{\"detail-type\": \"x\", \"source\": \"me\"}", json!({ "detail-type": "x", "source": "me" })),
        ] {
            assert_eq!(event_of(body), json!({ "message_id": "m-1", "body": kept }), "{body}");
        }
        let mixed = json!({ "Records": [record("a"), { "other": 1 }] });
        assert_eq!(event_of(&mixed.to_string())["body"], mixed, "a message that is only partly understood is passed on whole");
    }

    #[test]
    fn the_filter_applies_to_objects_and_not_to_other_messages() {
        let filter = NameFilter::parse("*.csv").expect("a glob");
        let two = json!({ "Records": [record("in/a.csv"), record("in/b.txt")] }).to_string();
        let Content::Event(event) = read("m-1", &two, Some(&filter)) else { panic!("no event") };
        assert_eq!((&event["key"], &event["count"]), (&json!("in/a.csv"), &Value::Null));
        let none = json!({ "Records": [record("in/b.txt")] }).to_string();
        assert!(matches!(read("m-1", &none, Some(&filter)), Content::Ignored(_)));
        assert!(matches!(read("m-1", "plain", Some(&filter)), Content::Event(_)));
    }

    #[test]
    fn the_test_message_of_a_bucket_makes_no_event() {
        let body = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "box" }).to_string();
        assert!(matches!(read("m-1", &body, None), Content::Ignored(_)));
    }
}
