//! The answers of the API, which are those of the control socket.

use serde_json::{Value, json};

use crate::daemon::Place;
use crate::http::At;

const JOBS: &str = r#"
web: { listen: "127.0.0.1:0", token_file: token }
timezone: UTC
jobs:
  - name: first
    description: The beginning
    tags: [a, b]
    trigger: { type: cron, schedule: "0 18 1 1 *" }
    command: ["echo", "hello world"]
    env: { SECRET: hidden-value }
  - name: second
    trigger: manual
    depends_on: [first]
    command: "echo out; exit 3"
    retry: { attempts: 2, delay: 10ms }
  - name: third
    trigger: manual
    depends_on: [second, first]
    condition: all_done
"#;

pub const TOKEN: &str = "0123456789abcdef0123";

/// On two hooks, of which one refuses and the other is not called.
#[cfg(feature = "notify")]
const HOOKS: &str = "notify: [{ url: \"http://127.0.0.1:9/\", retry: 1 }, { url: \"http://127.0.0.1:9/\", on: [missed] }]\n";
#[cfg(not(feature = "notify"))]
const HOOKS: &str = "";

fn place() -> Place {
    let place = Place::new(&format!("{HOOKS}{JOBS}"));
    place.write("token", TOKEN);
    place
}

/// A run that waits for nothing, once it has ended, however that was.
fn forced(place: &Place, job: &str) -> Value {
    let output = place.firelink(&["ctl", "trigger", job, "--force", "--wait", "--format", "json"]);
    serde_json::from_slice(&output.stdout).expect("a run")
}

#[test]
fn status_is_that_of_the_control_socket_with_the_need_for_a_token() {
    let place = place();
    let mut daemon = place.start();
    let mut shown = At::of(&mut daemon).json("/api/v1/status");
    assert_eq!(shown.as_object_mut().unwrap().remove("token"), Some("needed".into()));
    assert_eq!(shown, daemon.status());
    daemon.terminate();
}

#[test]
fn the_graph_has_layers_edges_and_states() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    daemon.trigger("first");
    let graph = at.json("/api/v1/graph");
    let layers: Vec<(&str, u64)> = graph["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["name"].as_str().unwrap(), job["layer"].as_u64().unwrap()))
        .collect();
    assert_eq!(layers, [("first", 0), ("second", 1), ("third", 2)]);
    assert_eq!(graph["jobs"][0]["last_state"], "succeeded");
    assert_eq!(graph["edges"].as_array().unwrap().len(), 3);
    assert_eq!(graph["edges"][1], json!({ "from": "second", "to": "third", "condition": "all_done" }));
    daemon.terminate();
}

#[test]
fn a_job_has_all_details_except_for_the_values_of_its_variables() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let job = at.json("/api/v1/jobs/first");
    assert_eq!(job["job"], daemon.job("first"));
    assert_eq!(job["description"], "The beginning");
    assert_eq!(job["tags"], json!(["a", "b"]));
    assert_eq!(job["summary"], "cron 0 18 1 1 *");
    assert_eq!(job["timezone"], "UTC");
    assert_eq!(job["downstream"], json!(["second", "third"]));
    assert_eq!(job["command"], "echo 'hello world'");
    let next = job["next"].as_array().unwrap();
    assert_eq!(next.len(), 10);
    assert!(next.iter().all(|at| at.as_str().unwrap().contains("-01-01T18:00:00")), "{next:?}");
    assert_eq!(next[0], job["job"]["next_at"]);
    assert!(!job.to_string().contains("hidden-value"));
    assert_eq!(at.json("/api/v1/jobs/third")["command"], Value::Null);
    let missing = at.get("/api/v1/jobs/frist");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json(), json!({ "error": "there is no job `frist`, did you mean `first`?", "code": "not_found" }));
    daemon.terminate();
}

#[test]
fn runs_attempts_and_output_can_be_read() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let run = forced(&place, "second");
    let id = run["id"].as_u64().unwrap();
    let whole = at.json(&format!("/api/v1/runs/{id}"));
    assert_eq!(whole["run"], run);
    let attempts: Vec<(u64, u64)> = whole["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["attempt"].as_u64().unwrap(), a["exit_code"].as_u64().unwrap()))
        .collect();
    assert_eq!(attempts, [(1, 3), (2, 3)]);
    assert_eq!(whole["event"], Value::Null);

    let log = at.get(&format!("/api/v1/runs/{id}/log"));
    assert_eq!(log.text(), "out\n[firelink: attempt 2]\nout\n");
    assert_eq!((log.header("x-log-next"), log.header("x-log-end")), (Some(&*log.body.len().to_string()), Some("true")));
    assert_eq!(at.get(&format!("/api/v1/runs/{id}/log?from=4")).text(), "[firelink: attempt 2]\nout\n");

    assert_eq!(at.json("/api/v1/runs?job=second&state=failed"), json!([run]));
    assert_eq!(at.json("/api/v1/runs?job=second&state=succeeded"), json!([]));
    assert_eq!(at.json(&format!("/api/v1/runs?before={id}")), json!([]));
    assert_eq!(at.json("/api/v1/runs?since=2200-01-01T00:00:00Z"), json!([]));
    for (path, word) in [
        ("/api/v1/runs?state=glad", "glad"),
        ("/api/v1/runs?since=yesterday", "RFC 3339"),
        ("/api/v1/runs?limit=few", "few"),
        ("/api/v1/runs?colour=red", "colour"),
        ("/api/v1/runs/1/log?from=x", "from"),
    ] {
        let refused = at.get(path);
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.json()["error"].as_str().unwrap().contains(word), "{path}: {}", refused.text());
    }
    assert_eq!(at.get("/api/v1/runs/999").status, 404);
    assert_eq!(at.get("/api/v1/nothing").json()["code"], "not_found");
    daemon.terminate();
}

#[test]
fn actions_with_the_token_are_executed() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let mut follower = daemon.follow();
    let done = at.post("/api/v1/jobs/first/trigger", TOKEN, "{}");
    assert_eq!((done.status, &done.json()["ok"]), (200, &json!(true)), "{}", done.text());
    assert_eq!(done.json()["run"]["job"], "first");
    follower.ended("first");
    let failed = follower.ended("second");
    follower.ended("third");

    let id = failed["run"].as_u64().unwrap();
    let again = at.post(&format!("/api/v1/runs/{id}/retry"), TOKEN, r#"{"downstream":true}"#);
    assert_eq!(again.status, 200, "{}", again.text());
    follower.ended("second");
    assert_eq!(at.post("/api/v1/jobs/first/pause", TOKEN, "").json(), json!({ "ok": true, "paused": 1 }));
    assert_eq!(at.json("/api/v1/jobs/first")["job"]["paused"], true);
    let held = at.post("/api/v1/jobs/first/trigger", TOKEN, "").json();
    let held = held["run"]["id"].as_u64().unwrap();
    assert_eq!(at.post(&format!("/api/v1/runs/{held}/cancel"), TOKEN, "").json()["run"]["id"], held);
    assert_eq!(at.post("/api/v1/jobs/first/resume", TOKEN, "").json()["paused"], 0);
    let over = at.post(&format!("/api/v1/runs/{id}/cancel"), TOKEN, "");
    assert_eq!((over.status, &over.json()["code"]), (409, &json!("refused")));
    assert_eq!(at.post("/api/v1/jobs/nobody/trigger", TOKEN, "").status, 404);
    for body in ["{", "[]", r#"{"force":"yes"}"#, r#"{"forse":true}"#] {
        assert_eq!(at.post("/api/v1/jobs/first/trigger", TOKEN, body).status, 400, "{body}");
    }
    let told = |path: &str, body: &str| at.post(path, TOKEN, body).json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(told("/api/v1/jobs/first/trigger", r#"{"forse":true}"#), "unknown key `forse` of the body, did you mean `force`?");
    assert!(told("/api/v1/jobs/first/trigger", r#"{"force":"yes"}"#).starts_with("`force`: invalid type"));
    assert_eq!(told("/api/v1/jobs/first/pause", r#"{"force":true}"#), "unknown key `force` of the body; it has none");
    daemon.terminate();
}

#[test]
fn health_and_readiness_are_reported() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    assert_eq!((at.get("/healthz").status, at.get("/healthz").text()), (200, "ok\n".into()));
    assert_eq!(at.json("/readyz"), json!({ "ready": true, "problems": [] }));
    daemon.terminate();
}

/// Follows `$ref`, and finds what an answer lacks of its schema: keys and types.
pub fn lacks(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let target = document.pointer(target.trim_start_matches('#')).unwrap_or_else(|| panic!("{target} is nowhere"));
        return lacks(document, target, value, at, found);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |one: &&Value| {
            let mut found = Vec::new();
            lacks(document, one, value, at, &mut found);
            found.is_empty()
        };
        if any.iter().filter(fits).count() == 0 {
            found.push(format!("{at} fits nothing"));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(some) => some.contains(&kind.into()),
        _ => true,
    };
    if !allowed {
        found.push(format!("{at} is {kind}"));
    }
    if let (Some(known), Value::Object(keys)) = (schema["properties"].as_object(), value) {
        let missing = schema["required"].as_array().unwrap().iter().filter(|name| !keys.contains_key(name.as_str().unwrap()));
        found.extend(missing.map(|name| format!("{at} has no {name}")));
        for (name, value) in keys {
            match known.get(name) {
                Some(schema) => lacks(document, schema, value, &format!("{at}.{name}"), found),
                None => found.push(format!("{at}.{name} is not documented")),
            }
        }
    }
    if let Value::Array(items) = value {
        items.iter().for_each(|item| lacks(document, &schema["items"], item, &format!("{at}[]"), found));
    }
}

#[test]
fn every_path_answers_as_the_openapi_document_describes() {
    let place = place();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let id = forced(&place, "second")["id"].as_u64().unwrap();
    let document = at.json("/api/v1/openapi.json");
    let mut paths = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, told) in methods.as_object().unwrap() {
            paths += 1;
            let path = path.replace("{id}", &id.to_string()).replace("{name}", "first");
            let (kind, schema) = told["responses"]["200"]["content"].as_object().unwrap().iter().next().unwrap();
            if kind == "text/event-stream" {
                at.events(&path);
                continue;
            }
            let response = if method == "post" { at.post(&path, TOKEN, "") } else { at.get(&path) };
            if response.status == 409 && path.ends_with("/cancel") {
                continue;
            }
            assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
            if kind == "application/json" {
                let mut found = Vec::new();
                lacks(&document, &schema["schema"], &response.json(), "answer", &mut found);
                assert_eq!(found, Vec::<String>::new(), "{method} {path}");
            }
        }
    }
    assert_eq!(paths, 17);
    daemon.terminate();
}

#[test]
fn long_answers_are_compressed_for_clients_that_accept_it() {
    let jobs: String = (0..40).map(|number| format!("  - {{ name: job{number}, trigger: manual }}\n")).collect();
    let place = Place::new(&format!("web: {{ listen: \"127.0.0.1:0\" }}\njobs:\n{jobs}"));
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let plain = at.get("/api/v1/status");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    let packed = at.send("GET", "/api/v1/status", &["Accept-Encoding: gzip, br"], "");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("content-length"), Some(&*packed.body.len().to_string()));
    assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*packed.body), &mut text).unwrap();
    assert_eq!(text, plain.text());
    // Short ones are sent as they are, errors too.
    let short = at.send("GET", "/api/v1/jobs/nobody", &["Accept-Encoding: gzip"], "");
    assert_eq!((short.status, short.header("content-encoding")), (404, None));
    let head = at.send("HEAD", "/api/v1/status", &["Accept-Encoding: gzip"], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    daemon.terminate();
}
