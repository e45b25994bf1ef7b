//! `firelink graph`: every format tells the same jobs and edges.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::support::{Place, text};

const JOBS: &str = r#"
jobs:
  - { name: fetch, trigger: cron, schedule: "0 18 * * *" }
  - { name: count, depends_on: [fetch] }
  - { name: convert, depends_on: [fetch], enabled: false }
  - { name: publish, depends_on: [count, convert, fetch], condition: all_done }
  - { name: alarm, depends_on: [publish], condition: any_failure }
  - { name: alone, trigger: { type: plugin, command: ["/bin/x", "<a & \"b\">"] } }
"#;

const EDGES: [(&str, &str); 6] = [
    ("convert", "publish"),
    ("count", "publish"),
    ("fetch", "convert"),
    ("fetch", "count"),
    ("fetch", "publish"),
    ("publish", "alarm"),
];

fn draw(format: &str) -> String {
    let output = Place::new(JOBS).firelink(&["graph", "firelink.yaml", "--format", format]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn edges() -> BTreeSet<(String, String)> {
    EDGES.iter().map(|(up, down)| ((*up).to_owned(), (*down).to_owned())).collect()
}

/// A tool's output for the drawing, which it must accept; `None` if the tool is not installed.
fn checked_by(tool: &str, args: &[&str], drawing: &str) -> Option<String> {
    let started = Command::new(tool).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        started => started.unwrap(),
    };
    child.stdin.take().unwrap().write_all(drawing.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{tool}: {}{drawing}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn text_has_a_line_a_job_with_its_lanes() {
    let expected = "\
*     fetch    cron 0 18 * * *
+-*   count    after fetch
+-|-* convert  disabled; after fetch
*-'-' publish  after count, convert, fetch (all_done)
*     alarm    after publish (any_failure)
*     alone    plugin /bin/x '<a & \"b\">'
";
    let place = Place::new(JOBS);
    let output = place.command(&["graph", "firelink.yaml"]).env("LC_ALL", "C").output().unwrap();
    let drawn = text(&output.stdout);
    let lanes = |text: &str| text.lines().map(|line| line.split("plugin").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(lanes(&drawn), lanes(expected), "{drawn}{}", text(&output.stderr));
}

#[test]
fn dot_tells_every_edge() {
    let drawn = draw("dot");
    let told: BTreeSet<(String, String)> = drawn
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(up, rest)| (up.trim().trim_matches('"').to_owned(), rest.split('"').nth(1).unwrap().to_owned()))
        .collect();
    assert_eq!(told, edges(), "{drawn}");
    assert_eq!(drawn.matches("all_done").count(), 3, "{drawn}");
}

#[test]
fn graphviz_reads_dot() {
    if checked_by("dot", &["-Tplain"], &draw("dot")).is_none() {
        super::skip::skip("there is no `dot` (Debian's package `graphviz`)");
    }
}

#[test]
fn mermaid_tells_every_edge_and_escapes_what_it_would_read_itself() {
    let drawn = draw("mermaid");
    let name = |node: &str| {
        let label = drawn.lines().find_map(|line| line.trim().strip_prefix(node)?.strip_prefix("[\"")).unwrap();
        label.split(['<', '"']).next().unwrap().to_owned()
    };
    let told: BTreeSet<(String, String)> = drawn
        .lines()
        .filter(|line| line.contains("-->"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (name(words[0]), name(words[2]))
        })
        .collect();
    assert_eq!(told, edges(), "{drawn}");
    assert!(drawn.contains("#60;a #38; #92;#34;b"), "{drawn}");
}

#[test]
fn svg_is_well_formed_and_has_a_box_a_job_and_a_curve_an_edge() {
    let drawn = draw("svg");
    assert_eq!((drawn.matches("<rect ").count(), drawn.matches("<path marker-end").count()), (6, 6), "{drawn}");
    let script = "import sys, xml.etree.ElementTree as e; r = e.fromstring(sys.stdin.read()); \
                  print('\\n'.join(t.text for t in r.iter('{http://www.w3.org/2000/svg}title')))";
    let titles = checked_by("python3", &["-c", script], &drawn).expect("python3");
    for (up, down) in EDGES {
        assert!(titles.contains(&format!("{up} to {down}")), "{titles}");
    }
    assert!(titles.contains("<a & "), "{titles}");
}
