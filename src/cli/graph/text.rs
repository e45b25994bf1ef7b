//! For a terminal: a line for each job with its lanes on the left. Long lines are wrapped, and nothing is cut.

use super::{condition, name, trigger};
use crate::cli::terminal::{Colour, Terminal};
use crate::config::Config;
use crate::dag::Graph;
use crate::drawing::{Cell, LANES, Row, lanes};
use crate::model::JobId;

/// Narrower than this, lines are left to wrap by themselves.
const NARROWEST: usize = 40;

pub(super) fn draw(config: &Config, graph: &Graph, terminal: Terminal) -> String {
    let rows = lanes(graph);
    let lanes = rows.iter().map(|row| row.cells.len()).max().unwrap_or(1).min(LANES + 1);
    let names = rows.iter().map(|row| name(config, row.job).chars().count()).max().unwrap_or(0);
    let width = terminal.width.max(NARROWEST);
    // After a long name the words start on their own line.
    let name_width = names.min(24).min(width / 3);
    let mut text = String::new();
    for row in &rows {
        let own = name(config, row.job);
        let indent = 2 * lanes + name_width + 2;
        let words = wrapped(&words(config, graph, row.job), width.saturating_sub(indent));
        let mut lines = words.iter();
        let padded = format!("{own:<name_width$}");
        let first = if own.chars().count() > name_width { None } else { lines.next() };
        let mut line = format!("{}{}", strokes(row, lanes, terminal.unicode), terminal.paint(Colour::Bold, padded.trim_end()));
        if let Some(first) = first {
            line.push_str(&" ".repeat(name_width - own.chars().count() + 2));
            line.push_str(first);
        }
        text.push_str(line.trim_end());
        text.push('\n');
        for more in lines {
            let below = strokes(&below(row), lanes, terminal.unicode);
            text.push_str(format!("{below}{}{more}", " ".repeat(name_width + 2)).trim_end());
            text.push('\n');
        }
    }
    text
}

/// `cron 0 18 * * *; after fetch, count`.
fn words(config: &Config, graph: &Graph, job: JobId) -> String {
    let mut words = trigger(config, job);
    let upstream: Vec<&str> = graph.upstream(job).iter().map(|up| name(config, *up)).collect();
    if !upstream.is_empty() {
        let separator = if words.is_empty() { "" } else { "; " };
        let how = condition(config, job).map_or_else(String::new, |word| format!(" ({word})"));
        words.push_str(&format!("{separator}after {}{how}", upstream.join(", ")));
    }
    words
}

/// Wraps at spaces; a word longer than a line is not broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The lanes that continue below a row.
fn below(row: &Row) -> Row {
    let cells = row.cells.iter().map(|cell| Cell { up: cell.down, down: cell.down, ..Cell::default() });
    Row { job: row.job, cells: cells.collect() }
}

fn strokes(row: &Row, lanes: usize, unicode: bool) -> String {
    let mut text = String::new();
    for column in 0..lanes {
        let cell = row.cells.get(column).copied().unwrap_or_default();
        text.push(if unicode { line_drawing(cell) } else { ascii(cell) });
        text.push(match (cell.right, unicode) {
            (true, true) => '─',
            (true, false) => '-',
            (false, _) => ' ',
        });
    }
    text
}

fn line_drawing(cell: Cell) -> char {
    let Cell { is_job, up, down, left, right, passed } = cell;
    match (up, down, left, right) {
        _ if is_job => '●',
        _ if passed => '│',
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, true, false, false) => '│',
        (true, false, true, true) => '┴',
        (true, false, true, false) => '╯',
        (true, false, false, true) => '╰',
        (false, _, true, true) => '─',
        _ => ' ',
    }
}

fn ascii(cell: Cell) -> char {
    let Cell { is_job, up, down, left, right, passed } = cell;
    match (up, down, left || right) {
        _ if is_job => '*',
        _ if passed => '|',
        (true, true, true) => '+',
        (true, true, false) => '|',
        (true, false, true) => '\'',
        (false, _, true) => '-',
        _ => ' ',
    }
}
