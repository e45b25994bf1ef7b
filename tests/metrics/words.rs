//! The documentation, the alerts and the dashboard agree with the metrics.

use std::collections::BTreeSet;

use crate::scrape::{families, lively};

fn file(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_documentation_lists_every_metric_as_it_is_and_no_other() {
    let page = file("docs/metrics.md");
    let documented: BTreeSet<Vec<String>> = page
        .lines()
        .filter(|line| line.starts_with("| `firelink_") || line.starts_with("| `process_"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    lively(|_, at| {
        let exposed = families(&at.get("/metrics").text());
        let exposed: BTreeSet<Vec<String>> = exposed
            .into_iter()
            .map(|(name, family)| {
                let labels: Vec<String> = family.labels.into_iter().collect();
                vec![name, family.kind, labels.join(", "), family.about.replace('`', "")]
            })
            .collect();
        let differ: Vec<_> = documented.symmetric_difference(&exposed).collect();
        assert!(differ.is_empty(), "only in one of docs/metrics.md and the daemon's answer: {differ:#?}");
    });
}

/// Names of metrics in a text of queries.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("firelink_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_query_only_existing_metrics() {
    lively(|_, at| {
        let exposed = families(&at.get("/metrics").text());
        let known: BTreeSet<&str> =
            exposed.values().flat_map(|family| family.samples.keys()).map(|sample| sample.split('{').next().unwrap()).collect();
        for path in ["packaging/prometheus/alerts.yml", "packaging/grafana/firelink.json", "tests/metrics/alerts.test.yml"] {
            let asked = names(&file(path));
            assert!(asked.len() > 5, "{path}: {asked:?}");
            // Histograms and counters are queried by the names of their samples.
            let unknown: Vec<&String> = asked.iter().filter(|name| !known.contains(&***name)).collect();
            assert!(unknown.is_empty(), "{path} asks for {unknown:?}");
        }
    });
}

#[test]
fn the_dashboard_is_valid_and_every_panel_has_a_query() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("packaging/grafana/firelink.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let expressions: Vec<&str> =
            panel["targets"].as_array().unwrap().iter().map(|target| target["expr"].as_str().unwrap()).collect();
        assert!(!expressions.is_empty() && expressions.iter().all(|one| !names(one).is_empty()), "{panel}");
    }
    assert!(panels.len() > 10);
}
