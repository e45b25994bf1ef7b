//! A daemon to which everything has happened: `ctl status`, `ctl trigger`, `history`, and the metrics in their three forms.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use crate::daemon::Place;
use crate::json::Json;
use crate::s3::S3Server;
use crate::{assert_same, compare, compare_json, file, history, prints, start, wait_until, without};

/// Takes every delivery.
fn webhook() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() {
                let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    address
}

/// The body of `GET /metrics` over the web UI's socket.
fn metrics(place: &Place, accept: &str) -> String {
    let path = place.path("web.socket");
    let mut stream = wait_until("the web UI's socket", || UnixStream::connect(&path).ok());
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    // A response of known length is not chunked.
    assert!(head.to_ascii_lowercase().contains("content-length:"), "{head}");
    body.to_owned()
}

/// Names, types and labels with their values, in their order; of a sample's value and of a help text only that they are
/// there.
fn shape_of_metrics(text: &str) -> String {
    let line = |line: &str| {
        if let Some((name, about)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(!about.trim().is_empty(), "{line}");
            return format!("# HELP {name} <prose>\n");
        }
        if line.starts_with('#') {
            return format!("{line}\n");
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let sample = sample.split("version=\"").enumerate().map(|(index, part)| match (index, part.split_once('"')) {
            (0, _) | (_, None) => part.to_owned(),
            (_, Some((_, rest))) => format!("version=\"<version>\"{rest}"),
        });
        format!("{} <value>\n", sample.collect::<String>())
    };
    text.lines().map(line).collect()
}

/// The names of the jobs, as `status` lists them.
fn jobs(status: &str) -> Vec<String> {
    let status = Json::parse(status);
    let jobs = status.get("jobs").unwrap().items();
    jobs.iter().map(|job| job.get("name").and_then(Json::text).unwrap().to_owned()).collect()
}

/// Waits until as many runs of a job have ended.
fn ended(place: &Place, job: &str, count: usize) {
    wait_until(&format!("run {count} of {job}"), || {
        let runs = Json::parse(&history(place));
        let is_end = |run: &&Json| {
            run.get("job").and_then(Json::text) == Some(job) && !matches!(run.get("ended_at"), Some(Json::Null) | None)
        };
        (runs.items().iter().filter(is_end).count() >= count).then_some(())
    });
}

#[test]
fn status_history_and_metrics_of_a_daemon_have_the_same_shape() {
    let (server, hook) = (S3Server::start("my-bucket"), webhook());
    let config = std::fs::read_to_string(file("live/rich.yaml")).unwrap().replace("SERVER", &hook);
    let place = Place::new("").with_env(server.env()).with_env([("TZ", "UTC")]);
    place.write("rich.yaml", &config);
    place.write(
        "door.sh",
        "while [ ! -e ring ]; do sleep 0.02; done; echo '{\"edge\": \"rising\", \"n\": [1, 2.5, null]}'; exec sleep 1000\n",
    );
    std::fs::create_dir(place.path("inbox")).unwrap();
    std::fs::create_dir(place.path("numbers")).unwrap();
    let mut daemon = start(&place, "rich.yaml");
    daemon.wait_for_log("files: the first scan is done");
    // One after the other, so that the numbers of runs are the same each time.
    ended(&place, "at-start", 1);
    place.write("inbox-first", "x\n");
    std::fs::rename(place.path("inbox-first"), place.path("inbox/first file.txt")).unwrap();
    ended(&place, "files", 1);
    // A poll that came before this made the baseline.
    wait_until("a first listing", || (server.listings() > 1).then_some(()));
    server.put("my-bucket", "in/an object", b"xyz");
    ended(&place, "objects", 1);
    place.write("ring", "");
    ended(&place, "door", 1);
    let names = [(place.path("").display().to_string(), hook)];
    let place_name = names[0].0.trim_end_matches('/');
    let neutral = |said: &str| without(said, &[(place_name, "$DIR"), (&names[0].1, "$SERVER")]);
    let trigger = |job: &str| {
        // It fails if the run does.
        let output = crate::run(&place, &["ctl", "trigger", job, "--wait", "--format", "json"]);
        neutral(&crate::text(&output.stdout))
    };
    for job in ["good", "bad", "late", "shot"] {
        compare_json(&format!("live/trigger-{job}.json"), &trigger(job), &[]);
    }
    prints(&place, &["ctl", "pause", "held"]);
    prints(&place, &["ctl", "trigger", "held"]);
    for _ in 0..3 {
        prints(&place, &["ctl", "trigger", "gate"]);
    }
    for _ in 0..2 {
        prints(&place, &["ctl", "trigger", "refused"]);
    }
    // No slot is left for it.
    prints(&place, &["ctl", "trigger", "good"]);
    let status = || neutral(&prints(&place, &["ctl", "status", "--format", "json"]));
    let settled = wait_until("the delivery of a webhook, and two runs", || {
        let status = status();
        let parsed = Json::parse(&status);
        let delivered = parsed.get("notify")?.items().iter().any(|one| one.get("delivered").and_then(Json::number) == Some(1));
        let active = parsed.get("active")?.items();
        let running = active.iter().filter(|run| run.get("state").and_then(Json::text) == Some("running"));
        // `gate` says a word before it waits, and from then on has a log.
        let has_log = active.iter().any(|run| run.get("log").is_some_and(|log| *log != Json::Null));
        (delivered && has_log && running.count() == 2).then_some(status)
    });
    let names = jobs(&settled);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(names.len() >= 19, "{names:?}");
    compare_json("live/status.json", &settled, &names);
    let one = neutral(&prints(&place, &["ctl", "status", "both", "--format", "json"]));
    compare_json("live/status-both.json", &one, &names);
    compare_json("live/history.json", &neutral(&history(&place)), &names);
    let of_one = neutral(&prints(&place, &["history", "--run", "6", "--format", "json", "--state-dir", "state"]));
    compare_json("live/history-run.json", &of_one, &names);
    let classic = metrics(&place, "*/*");
    compare("live/metrics.prom", &classic, shape_of_metrics);
    compare("live/metrics.openmetrics", &metrics(&place, "application/openmetrics-text"), shape_of_metrics);
    let textfile = wait_until("the metrics in a file", || {
        let text = place.read("numbers/firelink.prom");
        text.contains("state=\"timed_out\"} 1").then_some(text)
    });
    // node_exporter has its own metrics of processes.
    let is_of_process = |line: &&str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with("process_");
    let without_process: String = classic.lines().filter(|line| !is_of_process(line)).map(|line| format!("{line}\n")).collect();
    assert_same("numbers/firelink.prom", &shape_of_metrics(&without_process), &shape_of_metrics(&textfile));
    prints(&place, &["ctl", "stop", "--now"]);
    daemon.wait();
}
