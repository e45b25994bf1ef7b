//! The metrics of a scrape.

use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::Place;
use crate::http::At;

/// One of everything: what succeeds, fails, is retried, fires by itself, and watches.
pub const JOBS: &str = r#"
web: { listen: "127.0.0.1:0" }
jobs:
  - name: good
    trigger: manual
    command: "true"
  - name: bad
    trigger: manual
    command: "exit 3"
    retry: { attempts: 3, delay: 10ms }
  - name: fires
    trigger: { type: interval, every: 200ms }
    command: "true"
  - name: watches
    trigger: { type: watch, source: inbox, poll_interval: 1s }
  - name: yearly
    trigger: { type: cron, schedule: "0 0 1 1 *" }
"#;

/// A family of the older text format.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub about: String,
    pub labels: BTreeSet<String>,
    /// Name and labels as they stand there, and the value.
    pub samples: BTreeMap<String, f64>,
}

/// Reads a text of the older format.
pub fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, about)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().about = about.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let name = sample.split('{').next().unwrap();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let known = if families.contains_key(name) { name } else { bare };
            let family = families.get_mut(known).unwrap_or_else(|| panic!("{line} is of no family"));
            let labels = sample.split_once('{').map_or("", |(_, rest)| rest);
            let names = labels.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
            family.labels.extend(names.filter(|name| name != "le"));
            assert!(family.samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    families
}

/// The value of a sample.
pub fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// A daemon on [`JOBS`] to which everything has happened, for `use_it`.
pub fn lively(use_it: impl FnOnce(&Place, &At)) {
    let place = Place::new(JOBS);
    std::fs::create_dir(place.path("inbox")).unwrap();
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let mut follower = daemon.follow();
    daemon.trigger("good");
    daemon.trigger("bad");
    follower.ended("fires");
    use_it(&place, &at);
    daemon.terminate();
}

#[test]
fn runs_retries_and_firings_are_counted_as_they_happen() {
    lively(|_, at| {
        let text = at.get("/metrics").text();
        let says = |sample: &str| value(&text, sample).unwrap_or_else(|| panic!("no {sample} in\n{text}"));
        assert_eq!(says(r#"firelink_runs_total{job_name="good",state="succeeded"}"#), 1.0);
        assert_eq!(says(r#"firelink_runs_total{job_name="bad",state="failed"}"#), 1.0);
        assert_eq!(says(r#"firelink_runs_total{job_name="yearly",state="failed"}"#), 0.0);
        assert_eq!(says(r#"firelink_retries_total{job_name="bad"}"#), 2.0);
        assert_eq!(says(r#"firelink_run_duration_seconds_count{job_name="bad"}"#), 1.0);
        assert!(says("firelink_firing_delay_seconds_count") >= 1.0);
        // The interval's; the cron job's is a year away.
        let next = says("firelink_next_deadline_timestamp_seconds");
        assert!(next < says("process_start_time_seconds") + 1e6, "{next}");
        assert_eq!((says("firelink_jobs"), says("firelink_store_up"), says("firelink_warnings")), (5.0, 1.0, 0.0));
        assert!(says(r#"firelink_last_success_timestamp_seconds{job_name="good"}"#) > 1e9);
        assert!(value(&text, r#"firelink_last_success_timestamp_seconds{job_name="bad"}"#).is_none());
        assert!(says("process_resident_memory_bytes") > 1e6 && says("process_open_fds") > 5.0);
    });
}

#[test]
fn the_format_is_negotiated() {
    lively(|_, at| {
        let plain = at.get("/metrics");
        assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(plain.text().contains("# TYPE firelink_runs_total counter\n"));
        let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let new = at.send("GET", "/metrics", &[accept], "");
        assert_eq!(new.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        let text = new.text();
        assert!(text.contains("# TYPE firelink_runs counter\n") && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(at.post("/metrics", "", "").status, 403, "nothing is changed by it");
    });
}

#[test]
fn gauges_show_the_current_state() {
    let place = Place::new(
        "web: { listen: \"127.0.0.1:0\" }\njobs:\n  - { name: a, trigger: manual, command: 'cat gate', concurrency: queue }\n  \
         - { name: held, trigger: { type: cron, schedule: '0 0 1 1 *' } }\n",
    );
    place.make_pipe("gate");
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    let mut follower = daemon.follow();
    for _ in 0..3 {
        place.prints(&["ctl", "trigger", "a"]);
    }
    follower.started("a");
    place.prints(&["ctl", "pause", "held"]);
    let text = at.get("/metrics").text();
    assert_eq!(value(&text, r#"firelink_active_runs{state="running"}"#), Some(1.0), "{text}");
    assert_eq!(value(&text, r#"firelink_active_runs{state="pending"}"#), Some(2.0), "{text}");
    assert_eq!(value(&text, "firelink_paused_jobs"), Some(1.0), "{text}");
    place.prints(&["ctl", "stop", "--now"]);
    daemon.wait();
}

#[test]
fn a_reload_keeps_the_counts_of_jobs_that_stay() {
    let text = |jobs: &str| format!("web: {{ listen: \"127.0.0.1:0\" }}\njobs:\n{jobs}");
    let stays = "  - { name: stays, trigger: manual }\n";
    let place = Place::new(&text(&format!("  - {{ name: goes, trigger: manual }}\n{stays}")));
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    daemon.trigger("stays");
    daemon.trigger("goes");
    place.write("firelink.yaml", &text(stays));
    place.prints(&["ctl", "reload"]);
    daemon.trigger("stays");
    let told = at.get("/metrics").text();
    assert_eq!(value(&told, r#"firelink_runs_total{job_name="stays",state="succeeded"}"#), Some(2.0), "{told}");
    assert!(!told.contains("goes"), "{told}");
    daemon.terminate();
}

#[test]
fn the_last_success_outlives_the_daemon() {
    let place = Place::new("web: { listen: \"127.0.0.1:0\" }\njobs: [{ name: a, trigger: manual }]\n");
    let sample = r#"firelink_last_success_timestamp_seconds{job_name="a"}"#;
    let mut daemon = place.start();
    let at = At::of(&mut daemon);
    daemon.trigger("a");
    let first = value(&at.get("/metrics").text(), sample);
    assert!(first.is_some());
    daemon.terminate();
    let mut daemon = place.start();
    let told = At::of(&mut daemon).get("/metrics").text();
    assert_eq!(value(&told, sample), first);
    assert_eq!(value(&told, r#"firelink_runs_total{job_name="a",state="succeeded"}"#), Some(0.0));
    daemon.terminate();
}
