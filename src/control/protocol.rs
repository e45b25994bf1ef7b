//! The envelope of requests and replies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commands::{cancel, events, graph, health, job, logs, pause, reload, retry, status, stop, trigger};
use super::object::{Object, read_variant};

/// The protocol's version, sent with each request. A server refuses other versions with a message that names its own.
pub const VERSION: u32 = 1;

/// A request. On the wire the variant's name is `cmd`, beside its keys and [`VERSION`] as `v`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The state of the daemon and its jobs.
    Status(status::Request),
    /// Details of one job.
    Job(job::Request),
    /// The graph of dependencies.
    Graph(graph::Request),
    /// Whether the daemon is healthy.
    Health(health::Request),
    /// Triggers a job.
    Trigger(trigger::Request),
    /// Retries a run that did not succeed.
    Retry(retry::Request),
    /// Cancels a run.
    Cancel(cancel::Request),
    /// The path of a run's output.
    Logs(logs::Request),
    /// Subscribes to events, one per line.
    Events(events::Request),
    /// Pauses jobs.
    Pause(pause::Request),
    /// Resumes jobs.
    Resume(pause::Request),
    /// Reloads the configuration.
    Reload(reload::Request),
    /// Stops the daemon.
    Stop(stop::Request),
}

/// Why a request failed. The words are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It could not be parsed.
    BadRequest,
    /// No such job or run.
    NotFound,
    /// Not possible now.
    Refused,
    /// The configuration has errors.
    Invalid,
}

/// A reply on the wire: `ok` and the command's own keys, or `error` and `code`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// The request failed.
    Failed {
        /// Always false.
        ok: bool,
        /// The reason, for a person.
        error: String,
        /// The reason, for a program.
        code: ErrorCode,
    },
    /// The request succeeded.
    Done(Value),
}

impl Reply {
    /// A reply with the keys of `body`, which must serialize to an object.
    pub fn done(body: &impl Serialize) -> Reply {
        match serde_json::to_value(body) {
            Ok(Value::Object(mut map)) => {
                map.insert("ok".into(), Value::Bool(true));
                Reply::Done(Value::Object(map))
            }
            Ok(other) => Reply::Done(serde_json::json!({ "ok": true, "value": other })),
            Err(error) => Reply::failed(ErrorCode::Refused, format!("can't serialize the reply: {error}")),
        }
    }

    /// A refusal.
    #[must_use]
    pub fn failed(code: ErrorCode, error: impl Into<String>) -> Reply {
        Reply::Failed { ok: false, error: error.into(), code }
    }

    /// One line, newline included.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_else(|_| r#"{"ok":false,"error":"?","code":"refused"}"#.into());
        line.push('\n');
        line
    }
}

/// Parses a request.
///
/// # Errors
/// The reply to send, with a message about the line.
pub fn parse_request(line: &[u8]) -> Result<Request, Reply> {
    let bad = |error: String| Reply::failed(ErrorCode::BadRequest, error);
    let mut object: Object =
        serde_json::from_slice(line).map_err(|error| bad(format!("a request is one JSON object per line: {error}")))?;
    match object.remove("v") {
        Some(v) if v == VERSION => {}
        Some(v) => return Err(bad(format!("this daemon speaks version {VERSION} of the protocol, not {v}"))),
        None => return Err(bad(format!("a request carries its protocol version: \"v\":{VERSION}"))),
    }
    match object.remove("cmd") {
        Some(Value::String(name)) => read_variant(&name, object).map_err(|error| bad(error.to_string())),
        Some(other) => Err(bad(format!("`cmd` is the name of a command, not {other}"))),
        None => Err(bad("a request names its command: \"cmd\":\"status\", for example".to_owned())),
    }
}

/// Serializes a request, newline included.
#[must_use]
pub fn request_line(request: &Request) -> String {
    let mut object = Object::new();
    // serde writes a variant as one name with its keys.
    if let Ok(Value::Object(named)) = serde_json::to_value(request) {
        for (name, keys) in named {
            object.extend(keys.as_object().cloned().unwrap_or_default());
            object.insert("cmd".into(), name.into());
        }
    }
    object.insert("v".into(), VERSION.into());
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        for request in [
            Request::Status(status::Request { job: Some("a".into()) }),
            Request::Trigger(trigger::Request { job: "a".into(), wait: true, force: false, with_deps: true }),
            Request::Cancel(cancel::Request { run: crate::model::RunId(7) }),
            Request::Stop(stop::Request { now: true }),
        ] {
            assert_eq!(parse_request(request_line(&request).as_bytes()), Ok(request));
        }
    }

    #[test]
    fn the_shortest_request_is_parsed() {
        assert_eq!(parse_request(br#"{"v":1,"cmd":"status"}"#), Ok(Request::Status(status::Request { job: None })));
    }

    #[test]
    fn an_invalid_request_is_refused_with_a_reason() {
        for (line, reason) in [
            ("", "one JSON object"),
            ("hello", "one JSON object"),
            ("{}", "version"),
            (r#"{"v":2,"cmd":"status"}"#, "not 2"),
            (r#"{"v":1}"#, "cmd"),
            (r#"{"v":1,"cmd":7}"#, "not 7"),
            (r#"{"v":1,"cmd":"explode"}"#, "unknown command `explode`; known are `status`, "),
            (r#"{"v":1,"cmd":"statsu"}"#, "did you mean `status`?"),
            (r#"{"v":1,"cmd":"reload","dry-run":true}"#, "unknown key `dry-run` of `reload`, did you mean `dry_run`?"),
            (r#"{"v":1,"cmd":"reload","dry_run":"yes"}"#, "`dry_run`: invalid type"),
            (r#"{"v":1,"cmd":"events","job":"a"}"#, "unknown key `job` of `events`; it has none"),
            (r#"{"v":1,"cmd":"trigger"}"#, "missing field `job`"),
            (r#"{"v":1,"cmd":"cancel","run":"x"}"#, "`run`: invalid type"),
        ] {
            match parse_request(line.as_bytes()) {
                Err(Reply::Failed { error, code: ErrorCode::BadRequest, .. }) => {
                    assert!(error.contains(reason), "{line}: {error}")
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line: Vec<u8>) {
            let _ = parse_request(&line);
        }
    }
}
