//! `firelink history`: past runs, from the database, with or without a daemon.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde::Serialize;

use super::load::state_dir;
use super::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::Surroundings;
use crate::control::commands::run_line;
use crate::cron::{Zone, parse_rfc3339};
use crate::logs::{LogPaths, LogReader};
use crate::model::{RunId, RunView, StateWord, WallTime, parse_duration};
use crate::store::{AttemptView, Filter, History, StoreError};

/// show past runs, newest first
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "history")]
pub struct Args {
    /// runs of this job only
    #[argh(option)]
    job: Option<String>,
    /// runs in this state only: pending, running, succeeded, failed, timed_out, cancelled, skipped, lost or missed
    #[argh(option, from_str_fn(parse_state))]
    state: Option<StateWord>,
    /// runs due at this time or later: RFC 3339, or how long ago, like 2h
    #[argh(option, from_str_fn(parse_instant))]
    since: Option<WallTime>,
    /// runs due before this time: RFC 3339, or how long ago, like 2h
    #[argh(option, from_str_fn(parse_instant))]
    until: Option<WallTime>,
    /// the number of runs at most (default 20)
    #[argh(option, default = "20")]
    limit: usize,
    /// only this run, with its attempts and the end of its output
    #[argh(option)]
    run: Option<u64>,
    /// how many lines of the output --run shows (default 10)
    #[argh(option)]
    tail: Option<usize>,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// the state directory, instead of the default
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// a configuration, for its state_dir and its time zone
    #[argh(option)]
    config: Option<PathBuf>,
}

/// The default of `--tail`, in lines.
const TAIL: usize = 10;

/// How much of the end of a log is searched for its last lines.
const TAIL_BYTES: usize = 256 * 1024;

fn parse_state(word: &str) -> Result<StateWord, String> {
    StateWord::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = StateWord::ALL.iter().map(|state| state.as_str()).collect();
        format!("invalid state `{word}`: expected one of {}", words.join(", "))
    })
}

fn parse_instant(text: &str) -> Result<WallTime, String> {
    match (parse_rfc3339(text), parse_duration(text)) {
        (Ok(at), _) => Ok(at),
        (_, Ok(ago)) => Ok(super::clock::now() - ago),
        _ => Err(format!("invalid time `{text}`: expected one like 2026-11-23T18:00:00+01:00, or a duration like 90m or 2d")),
    }
}

fn failed(error: StoreError) -> Failure {
    Failure::failed(error.to_string())
}

pub(super) fn run(args: &Args) -> Done {
    let config = match &args.config {
        Some(path) => Some(super::load::load(path, &Surroundings::of_this_process())?),
        None => None,
    };
    let dir = state_dir(args.state_dir.as_deref(), config.as_ref())?;
    let Some(history) = History::open(&dir).map_err(failed)? else {
        return Err(Failure::failed(format!(
            "there is no state in {}; name the daemon's state directory with --state-dir; it is in the first line of the daemon's log",
            dir.display()
        )));
    };
    let zone = config.as_ref().map_or_else(Zone::system, |config| config.zone);
    if let Some(id) = args.run {
        return show_one(args, &history, RunId(id), zone, &dir);
    }
    if args.tail.is_some() {
        return Err(Failure::usage("--tail goes with --run"));
    }
    if let Some(job) = &args.job
        && !history.job_names().any(|name| name == job)
    {
        let hint =
            crate::text::nearest(job, history.job_names()).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        return Err(Failure::failed(format!("no job `{job}` has ever been loaded{hint}")));
    }
    let filter = Filter {
        job: args.job.clone(),
        state: args.state,
        since: args.since,
        until: args.until,
        before: None,
        limit: args.limit,
    };
    let runs: Vec<RunView> = history
        .query(&filter)
        .map_err(failed)?
        .into_iter()
        .map(|entry| match entry {
            Ok(run) => run.view(history.job_name(run.job_row), zone, &dir),
            Err(missed) => missed.view(history.job_name(missed.job_row), zone),
        })
        .collect();
    match args.format {
        Format::Json => print_json(&runs),
        Format::Text => {
            let mut text = format!("{:>6}  {:<20}  {:<9}  {:<10}  SCHEDULED\n", "RUN", "JOB", "STATE", "TRIGGER");
            for run in &runs {
                text.push_str(&run_line(run));
                text.push('\n');
            }
            print(&text)
        }
    }
}

/// A run with its attempts and output.
#[derive(Debug, Serialize)]
struct RunDetails {
    #[serde(flatten)]
    run: RunView,
    /// Those that failed and were retried.
    attempts: Vec<AttemptView>,
    /// The last lines of its output.
    output: Vec<String>,
}

fn show_one(args: &Args, history: &History, id: RunId, zone: Zone, dir: &Path) -> Done {
    let Some(row) = history.run(id).map_err(failed)? else {
        return Err(Failure::failed(format!("there is no run {id} in {}, or it has been pruned", dir.display())));
    };
    let run = row.view(history.job_name(row.job_row), zone, dir);
    let attempts = history.attempts(id).map_err(failed)?.into_iter().map(|row| row.view(zone)).collect();
    let output = match &run.log {
        Some(path) => last_lines(LogPaths::within(dir, &run.job, id), run.state.is_end(), args.tail.unwrap_or(TAIL))
            .map_err(|error| Failure::failed(format!("can't read {path}: {error}")))?,
        None => Vec::new(),
    };
    let details = RunDetails { run, attempts, output };
    match args.format {
        Format::Json => print_json(&details),
        Format::Text => print(&details.render()),
    }
}

impl RunDetails {
    fn render(&self) -> String {
        let run = &self.run;
        let mut text = format!("{}\n\n", run_line(run));
        let mut line = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{name:<10}{value}");
            }
        };
        line("scheduled", Some(&run.scheduled_at));
        line("started", run.started_at.as_deref());
        line("ended", run.ended_at.as_deref());
        line("event", run.event.as_ref().map(ToString::to_string).as_deref());
        line("log", run.log.as_deref());
        for attempt in &self.attempts {
            let shown = |text: &Option<String>| text.clone().unwrap_or_default();
            let _ = writeln!(text, "attempt {} ended {}: {}", attempt.attempt, shown(&attempt.ended_at), shown(&attempt.reason));
        }
        if !self.output.is_empty() {
            text.push('\n');
            for line in &self.output {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// The last lines of a log; invalid UTF-8 is replaced. `over` if its run has ended.
fn last_lines(paths: LogPaths, over: bool, count: usize) -> std::io::Result<Vec<String>> {
    let mut log = LogReader::new(paths, 0);
    log.seek_to_last(TAIL_BYTES as u64, over)?;
    let from = log.offset();
    let text = log.text(TAIL_BYTES, over)?.text;
    let mut lines: Vec<&str> = text.lines().collect();
    // The first line is cut.
    if from > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    let lines = lines.split_off(lines.len().saturating_sub(count));
    Ok(lines.into_iter().map(str::to_owned).collect())
}
