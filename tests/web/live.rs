//! Events and output as they come; the window as the configuration changes.

use crate::api::TOKEN;
use crate::daemon::Place;
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
fn output_is_told_as_it_comes_and_then_the_end() {
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
fn a_reload_opens_moves_changes_and_closes_the_window() {
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
fn a_window_that_cannot_be_opened_is_a_warning_and_jobs_run() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::new(&format!("web: {{ listen: \"{address}\" }}\njobs:\n  - name: a\n    trigger: manual\n"));
    let daemon = place.start();
    let warning = daemon.status()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("the window is not open") && warning.contains(&address.to_string()), "{warning}");
    assert_eq!(daemon.trigger("a")["state"], "succeeded");
    drop(taken);
    place.prints(&["ctl", "reload"]);
    assert_eq!(At { address: address.to_string() }.get("/healthz").status, 200);
    assert_eq!(daemon.status()["warnings"], serde_json::json!([]));
    daemon.terminate();
}
