//! SVG: a box for each job in columns by layer, and a curve for each edge, in the viewer's light or dark theme.

use std::fmt::Write as _;

use super::{condition, name, trigger};
use crate::config::Config;
use crate::dag::Graph;
use crate::drawing::{Layout, Line, Place};
use crate::model::JobId;
use crate::text::{REPLACEMENT, is_unprintable};

/// In pixels: the height of a row and of a box in it, the width of a letter at most, the gap between columns, the padding.
const ROW: f64 = 56.0;
const BOX: f64 = 40.0;
const LETTER: f64 = 7.3;
const GAP: f64 = 56.0;
const EDGE: f64 = 16.0;

/// The longest text of a box, in letters; the tooltip has all of it.
const LONGEST: usize = 30;

const STYLE: &str = "<style>
  svg { color-scheme: light dark; --line: #8a8f98; --ink: #1d2127; --soft: #5f6670; --fill: #f4f5f7; }
  @media (prefers-color-scheme: dark) { svg { --line: #767d88; --ink: #e8eaed; --soft: #a3aab4; --fill: #24282f; } }
  text { font: 12px ui-monospace, monospace; fill: var(--ink); }
  text.soft { font-size: 11px; fill: var(--soft); }
  rect { fill: var(--fill); stroke: var(--line); }
  .off rect { stroke-dasharray: 4 3; }
  path { fill: none; stroke: var(--line); stroke-width: 1.5; }
  path.head { fill: var(--line); stroke: none; }
</style>
";

pub(super) fn draw(config: &Config, graph: &Graph) -> String {
    let layout = Layout::of(graph);
    let jobs = || (0..).take(config.jobs.len()).map(JobId);
    let letters = |job| name(config, job).chars().count().max(trigger(config, job).chars().count());
    let widest = jobs().map(letters).max().unwrap_or(0).clamp(8, LONGEST);
    let width = widest as f64 * LETTER + EDGE;
    let picture = Picture { width };
    let across = f64::from(layout.columns) * (width + GAP) - GAP + 2.0 * EDGE;
    let down = layout.rows * ROW - (ROW - BOX) + 2.0 * EDGE;
    let (across, down) = (across.max(2.0 * EDGE), down.max(2.0 * EDGE));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{across:.0}\" height=\"{down:.0}\" viewBox=\"0 0 {across:.0} {down:.0}\" \
         role=\"img\">\n<title>{}</title>\n{STYLE}<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"head\" d=\"M0 0 8 4 0 8z\"/></marker></defs>\n",
        escaped(&config.path.display().to_string())
    );
    for line in &layout.lines {
        let condition = condition(config, line.to).map_or_else(String::new, |word| format!(" ({word})"));
        let tip = format!("{} to {}{condition}", name(config, line.from), name(config, line.to));
        let _ = writeln!(
            text,
            "<path marker-end=\"url(#head)\" d=\"{}\"><title>{}</title></path>",
            picture.curve(line, &layout.places),
            escaped(&tip)
        );
    }
    for job in jobs() {
        let place = layout.places[job.index()];
        let (x, y) = (picture.left(place), picture.middle(place));
        let (name, words) = (name(config, job), trigger(config, job));
        let off = if config.rules.jobs[job.index()].enabled { "" } else { " class=\"off\"" };
        let name_y = if words.is_empty() { y + 4.0 } else { y - 3.0 };
        let _ = writeln!(
            text,
            "<g{off}><title>{}</title><rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BOX}\" rx=\"6\"/><text x=\"{:.1}\" \
             y=\"{name_y:.1}\">{}</text>{}</g>",
            escaped(format!("{name} {words}").trim_end()),
            y - BOX / 2.0,
            x + EDGE / 2.0,
            escaped(&shortened(name)),
            soft(&words, x + EDGE / 2.0, y + 13.0),
        );
    }
    text.push_str("</svg>\n");
    text
}

struct Picture {
    width: f64,
}

impl Picture {
    fn left(&self, place: Place) -> f64 {
        EDGE + f64::from(place.column) * (self.width + GAP)
    }

    fn middle(&self, place: Place) -> f64 {
        EDGE + BOX / 2.0 + place.row * ROW
    }

    /// From the right edge of one box, through the bends as straight lines over their columns, to the left edge of the
    /// other.
    fn curve(&self, line: &Line, places: &[Place]) -> String {
        let (from, to) = (places[line.from.index()], places[line.to.index()]);
        let mut at = (self.left(from) + self.width, self.middle(from));
        let mut path = format!("M{:.1} {:.1}", at.0, at.1);
        for place in line.bends.iter().chain([&to]) {
            let (x, y) = (self.left(*place), self.middle(*place));
            let half = (x - at.0) / 2.0;
            let _ = write!(path, "C{:.1} {:.1} {:.1} {y:.1} {x:.1} {y:.1}", at.0 + half, at.1, x - half);
            at = (x + self.width, y);
            if place != &to {
                let _ = write!(path, "H{:.1}", at.0);
            }
        }
        path
    }
}

fn soft(words: &str, x: f64, y: f64) -> String {
    if words.is_empty() {
        return String::new();
    }
    format!("<text class=\"soft\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&shortened(words)))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if is_unprintable(c) => escaped.push(REPLACEMENT),
            c => escaped.push(c),
        }
    }
    escaped
}
