//! Live events and output; the web UI across reloads.

use crate::api::{TOKEN, lacks};
use crate::daemon::{MARKS, Place, marks};
use crate::http::At;

#[test]
fn events_are_those_of_the_control_socket() {
    let place = Place::new("web: { listen: \"127.0.0.1:0\" }\njobs:\n  - name: a\n    trigger: manual\n    command: \"true\"\n");
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let mut events = at.events("/api/v1/events");
    events.wait_for_begin();
    let mut follower = daemon.follow();
    daemon.trigger("a");
    let ended = follower.ended("a");
    let mut seen = Vec::new();
    while let Some((name, event)) = events.next() {
        assert_eq!(name, "message");
        seen.push(event.clone());
        if event["what"] == "ended" {
            break;
        }
    }
    assert_eq!(seen.last(), Some(&ended));
    assert_eq!(seen, follower.seen);
    daemon.terminate();
}

#[test]
fn pauses_reloads_and_shutdown_are_events_as_the_openapi_document_describes() {
    let place = Place::new(
        "web: { listen: \"127.0.0.1:0\" }\njobs:\n  - { name: a, trigger: manual, command: \"true\" }\n  - { name: b, trigger: manual }\n",
    );
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let document = at.json("/api/v1/openapi.json");
    let mut events = at.events("/api/v1/events");
    events.wait_for_begin();
    let mut follower = daemon.follow();
    // To hold what is held already is no news.
    for asked in [&["pause", "a"][..], &["pause", "a"], &["pause"], &["resume"], &["reload"]] {
        place.prints(&[&["ctl"], asked].concat());
    }
    daemon.trigger("a");
    let ended = follower.ended("a");
    let mut seen = Vec::new();
    while seen.last() != Some(&ended) {
        seen.push(events.next().expect("an event").1);
    }
    assert_eq!(seen, follower.seen);
    let told: Vec<(&str, Option<&str>)> = seen.iter().map(|e| (e["what"].as_str().unwrap(), e["job"].as_str())).collect();
    assert_eq!(told[..4], [("paused", Some("a")), ("paused", None), ("resumed", None), ("reloaded", None)], "{told:?}");
    assert_eq!(seen[3]["reason"], "0 added, 0 changed, 0 removed, 2 unchanged");
    place.prints(&["stop"]);
    seen.push(follower.wait("the end", |event| event["what"] == "stopping"));
    let schema = &document["components"]["schemas"]["Event"];
    for event in &seen {
        let mut found = Vec::new();
        lacks(&document, schema, event, "event", &mut found);
        assert!(
            found.is_empty() && schema["properties"]["what"]["enum"].as_array().unwrap().contains(&event["what"]),
            "{found:?}"
        );
    }
    daemon.wait();
}

#[test]
fn output_is_streamed_until_the_end_of_the_run() {
    let place = Place::new(
        "web: { listen: \"127.0.0.1:0\" }\njobs:\n  - name: a\n    trigger: manual\n    command: \"echo one; cat gate; echo two\"\n",
    );
    place.make_pipe("gate");
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let run = place.json(&["ctl", "trigger", "a", "--format", "json"]);
    let mut output = at.events(&format!("/api/v1/runs/{}/log/stream", run["id"]));
    let mut text = String::new();
    while text != "one\n" {
        let data = output.wait("the first line", |name, _| name == "output");
        text.push_str(data["text"].as_str().unwrap());
    }
    std::fs::write(place.path("gate"), "middle\n").unwrap();
    let end = loop {
        let (name, data) = output.next().expect("an end");
        if name == "end" {
            break data;
        }
        text.push_str(data["text"].as_str().unwrap());
        assert_eq!(data["next"], text.len());
    };
    assert_eq!(text, "one\nmiddle\ntwo\n");
    assert_eq!((&end["id"], &end["state"]), (&run["id"], &"succeeded".into()));
    assert!(output.next().is_none(), "the stream ends with the run");
    daemon.terminate();
}

#[test]
fn output_past_max_size_is_streamed_on_and_offsets_stay_those_of_the_output() {
    let place = Place::new(&format!("web: {{ listen: \"127.0.0.1:0\" }}{MARKS}"));
    place.make_pipe("gate");
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let run = place.json(&["ctl", "trigger", "marks", "--format", "json"])["id"].clone();
    let mut stream = at.events(&format!("/api/v1/runs/{run}/log/stream"));
    let mut text = String::new();
    let mut half = 0;
    for n in 1..=30 {
        std::fs::write(place.path("gate"), "go\n").unwrap();
        while !text.ends_with(&format!("mark {n}\n")) {
            let data = stream.wait("the next mark", |name, _| name == "output");
            text.push_str(data["text"].as_str().unwrap());
            assert_eq!(data["next"], text.len(), "nothing is missing");
        }
        if n == 15 {
            half = text.len();
        }
    }
    let whole = marks(1..=30);
    assert_eq!(text, whole);
    stream.wait("the end", |name, _| name == "end");
    daemon.terminate();
    // In the joined log an offset means what it meant before. The half is in what was cut.
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let all = at.get(&format!("/api/v1/runs/{run}/log")).text();
    let (head, rest) = all.split_once("\n[firelink: ").unwrap();
    let (cut, tail) = rest.split_once(" bytes cut here]\n").unwrap();
    let cut: usize = cut.parse().unwrap();
    assert_eq!(head.len() + cut + tail.len(), whole.len());
    assert!(whole.starts_with(head) && whole.ends_with(tail));
    let later = at.get(&format!("/api/v1/runs/{run}/log?from={half}"));
    assert_eq!(later.text(), format!("\n[firelink: {} bytes cut here]\n{tail}", head.len() + cut - half));
    let near_end = whole.len() - 8;
    let last = at.get(&format!("/api/v1/runs/{run}/log?from={near_end}"));
    assert_eq!((last.text(), last.header("x-log-next")), ("mark 30\n".into(), Some(&*whole.len().to_string())));
    daemon.terminate();
}

#[test]
fn a_reload_opens_moves_changes_and_closes_the_web_ui() {
    let jobs = "jobs:\n  - name: a\n    trigger: manual\n";
    let place = Place::new(jobs);
    place.write("token", TOKEN);
    let mut daemon = place.start();
    let reload = |web: &str| {
        place.write("firelink.yaml", &format!("{web}{jobs}"));
        place.prints(&["ctl", "reload"])
    };
    reload("web: { listen: \"127.0.0.1:0\" }\n");
    let first = At::of(&mut daemon);
    assert_eq!(first.json("/api/v1/status")["token"], "not_configured");
    // The same place with other settings.
    reload("web: { listen: \"127.0.0.1:0\", token_file: token }\n");
    assert_eq!(first.json("/api/v1/status")["token"], "needed");
    // The same port on another address, which needs the old listener gone.
    let port = first.address.rsplit_once(':').unwrap().1;
    reload(&format!("web: {{ listen: \"0.0.0.0:{port}\", token_file: token }}\n"));
    assert_eq!(first.get("/api/v1/status").status, 401);
    assert_eq!(first.get("/healthz").status, 200);
    let socket = place.path("web.sock");
    reload(&format!("web: {{ listen: \"unix:{}\" }}\n", socket.display()));
    assert!(std::net::TcpStream::connect(&first.address).is_err(), "the old place is closed");
    assert!(socket.exists());
    reload("");
    assert!(!socket.exists());
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    daemon.terminate();
}

#[test]
fn a_web_ui_that_cannot_be_opened_is_a_warning_and_jobs_run() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::new(&format!("web: {{ listen: \"{address}\" }}\njobs:\n  - name: a\n    trigger: manual\n"));
    let daemon = place.start();
    let warning = daemon.status()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("the web UI is not open") && warning.contains(&address.to_string()), "{warning}");
    assert_eq!(daemon.trigger("a")["state"], "succeeded");
    drop(taken);
    place.prints(&["ctl", "reload"]);
    assert_eq!(At { address: address.to_string() }.get("/healthz").status, 200);
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    daemon.terminate();
}
