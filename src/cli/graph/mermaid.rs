//! Mermaid's flowcharts, which Markdown pages show.

use std::fmt::Write as _;

use super::{condition, edges, name, trigger};
use crate::config::Config;
use crate::dag::Graph;
use crate::model::JobId;
use crate::text::{REPLACEMENT, is_unprintable};

pub(super) fn draw(config: &Config, graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for job in (0..).take(config.jobs.len()).map(JobId) {
        let (name, trigger) = (escaped(name(config, job)), escaped(&trigger(config, job)));
        let line = if trigger.is_empty() { String::new() } else { format!("<br/>{trigger}") };
        let _ = writeln!(text, "  j{}[\"{name}{line}\"]", job.0);
    }
    for (up, down) in edges(config, graph) {
        let arrow = condition(config, down).map_or_else(|| "-->".to_owned(), |word| format!("-->|{word}|"));
        let _ = writeln!(text, "  j{} {arrow} j{}", up.0, down.0);
    }
    text
}

/// Characters that could end the label, start a tag or an entity, or be read as Markdown, as numeric entities.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '*' | '_' | '\\' | ';' => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c if is_unprintable(c) => escaped.push(REPLACEMENT),
            c => escaped.push(c),
        }
    }
    escaped
}
