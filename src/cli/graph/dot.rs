//! Graphviz's language (graphviz.org, The DOT Language).

use std::fmt::Write as _;

use super::{condition, edges, name, trigger};
use crate::config::Config;
use crate::dag::Graph;
use crate::model::JobId;
use crate::text::{REPLACEMENT, is_unprintable};

pub(super) fn draw(config: &Config, graph: &Graph) -> String {
    let mut text = String::from("digraph firelink {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for job in (0..).take(config.jobs.len()).map(JobId) {
        let (name, trigger) = (name(config, job), trigger(config, job));
        let label = if trigger.is_empty() { name.to_owned() } else { format!("{name}\n{trigger}") };
        let style = if config.rules.jobs[job.index()].enabled { "" } else { ", style=\"rounded,dashed\"" };
        let _ = writeln!(text, "  {} [label={}{style}];", quoted(name), quoted(&label));
    }
    for (up, down) in edges(config, graph) {
        let label = condition(config, down).map_or_else(String::new, |word| format!(" [label={}]", quoted(word)));
        let _ = writeln!(text, "  {} -> {}{label};", quoted(name(config, up)), quoted(name(config, down)));
    }
    text.push_str("}\n");
    text
}

/// Backslashes are doubled, since Graphviz expands sequences like `\N`, the node's name.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if is_unprintable(c) => quoted.push(REPLACEMENT),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
