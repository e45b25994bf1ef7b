//! The real Prometheus and its promtool.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::daemon::{Place, TEST_TIMEOUT, text};
use crate::http::At;
use crate::scrape::{JOBS, lively};
use crate::skip::skip;

/// True if the program is there; else the test is skipped.
fn is_there(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file());
    if !found {
        skip(format_args!("there is no {program} (Debian's package `prometheus`)"));
    }
    found
}

/// Runs promtool, which must find nothing wrong.
fn promtool(place: &Place, args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(place.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {said}\n{input}");
}

#[test]
fn promtool_accepts_the_metrics() {
    if !is_there("promtool") {
        return;
    }
    lively(|place, at| promtool(place, &["check", "metrics"], &at.get("/metrics").text()));
    let place = Place::new("metrics: { textfile: firelink.prom }\njobs: [{ name: a, trigger: manual }]\n");
    let daemon = place.start();
    daemon.trigger("a");
    daemon.terminate();
    let file = place.read("firelink.prom");
    assert!(file.contains("firelink_runs_total"), "{file}");
    promtool(&place, &["check", "metrics"], &file);
}

#[test]
fn the_alerts_are_valid_and_fire_when_they_should() {
    if !is_there("promtool") {
        return;
    }
    let place = Place::new(JOBS);
    place.write("alerts.yml", include_str!("../../packaging/prometheus/alerts.yml"));
    place.write("alerts.test.yml", include_str!("alerts.test.yml"));
    promtool(&place, &["check", "rules", "alerts.yml"], "");
    promtool(&place, &["test", "rules", "alerts.test.yml"], "");
}

/// Prometheus, until it is dropped.
struct Prometheus {
    child: Child,
    at: At,
}

impl Prometheus {
    fn start(place: &Place, target: &At) -> Prometheus {
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nrule_files: [alerts.yml]\nscrape_configs:\n  - job_name: firelink\n    \
             static_configs: [{{ targets: [\"{}\"] }}]\n",
            target.address
        );
        place.write("prometheus.yml", &config);
        place.write("alerts.yml", include_str!("../../packaging/prometheus/alerts.yml"));
        promtool(place, &["check", "config", "prometheus.yml"], "");
        let mut child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(place.path("."))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = lines.find_map(|line| {
            let line = line.expect("a line of prometheus");
            let rest = line.contains("Listening on").then(|| line.split_once("address=")).flatten();
            let address = rest.map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default().to_owned());
            said.push(line);
            address
        });
        // The pipe is read on, or Prometheus blocks when it is full.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("prometheus does not listen:\n{}", said.join("\n")));
        Prometheus { child, at: At { address } }
    }

    /// The result of a query.
    fn ask(&self, query: &str) -> Vec<Value> {
        let coded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.at.get(&format!("/api/v1/query?query={coded}"));
        // It answers with 503 until it is ready.
        let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else { return Vec::new() };
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Asks until there is an answer that will do.
    fn wait(&self, query: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let result = self.ask(query);
            if is(&result) {
                return result;
            }
            assert!(Instant::now() < deadline, "{query} gives {result:?}\n{}", self.at.get("/api/v1/targets").text());
            std::thread::yield_now();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_the_daemon_and_knows_its_runs() {
    if !is_there("prometheus") || !is_there("promtool") {
        return;
    }
    lively(|place, at| {
        let prometheus = Prometheus::start(place, at);
        let failed = r#"firelink_runs_total{job_name="bad",state="failed"}"#;
        let runs = prometheus.wait(failed, |found| !found.is_empty());
        assert_eq!(runs[0]["metric"]["job"], "firelink", "{runs:?}");
        assert_eq!(runs[0]["value"][1], "1", "{runs:?}");
        let up = prometheus.wait("up == 1", |found| !found.is_empty());
        assert_eq!(up.len(), 1);
        // It goes on: a second scrape knows of what has happened since.
        let more = r#"sum(firelink_runs_total{job_name="fires"})"#;
        let count = |found: &[Value]| found.first().and_then(|one| one["value"][1].as_str()?.parse::<f64>().ok()).unwrap_or(0.0);
        let first = count(&prometheus.ask(more));
        prometheus.wait(more, |found| count(found) > first);
        let delay = "histogram_quantile(0.5, sum by (le) (firelink_firing_delay_seconds_bucket))";
        prometheus.wait(delay, |found| count(found) > 0.0);
        let types = prometheus.at.get("/api/v1/metadata?metric=firelink_run_duration_seconds").json();
        assert_eq!(types["data"]["firelink_run_duration_seconds"][0]["type"], "histogram", "{types}");
    });
}
