//! `firelink history`: past runs, with or without a daemon.

use std::fmt::Write as _;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde::Serialize;

use super::load::state_dir;
use super::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::Surroundings;
use crate::control::commands::run_line;
use crate::cron::{Zone, parse_rfc3339};
use crate::model::{RunId, RunView, StateWord, WallTime, parse_duration};
use crate::store::{AttemptView, Filter, History, StoreError};

/// show past runs, newest first
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "history")]
pub struct Args {
    /// of this job only
    #[argh(option)]
    job: Option<String>,
    /// in this state only: pending, running, succeeded, failed, timed_out, cancelled, skipped, lost or missed
    #[argh(option, from_str_fn(parse_state))]
    state: Option<StateWord>,
    /// due then or later: an instant in RFC 3339, or how long ago, like 2h
    #[argh(option, from_str_fn(parse_instant))]
    since: Option<WallTime>,
    /// due before then: an instant in RFC 3339, or how long ago, like 2h
    #[argh(option, from_str_fn(parse_instant))]
    until: Option<WallTime>,
    /// at most this many; 20 if not given
    #[argh(option, default = "20")]
    limit: usize,
    /// this run alone, with its attempts and the end of its output
    #[argh(option)]
    run: Option<u64>,
    /// how many lines of the output --run shows; 10 if not given
    #[argh(option)]
    tail: Option<usize>,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
    /// where the state is kept, if not in the default place
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// the configuration, for its state_dir and its time zone
    #[argh(option)]
    config: Option<PathBuf>,
}

/// Lines of a run's output that are shown if nobody says how many.
const TAIL: usize = 10;

/// The end of a log in which its last lines are looked for.
const TAIL_BYTES: u64 = 256 * 1024;

fn parse_state(word: &str) -> Result<StateWord, String> {
    StateWord::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = StateWord::ALL.iter().map(|state| state.as_str()).collect();
        format!("`{word}` is not a state; write one of {}", words.join(", "))
    })
}

fn parse_instant(text: &str) -> Result<WallTime, String> {
    match (parse_rfc3339(text), parse_duration(text)) {
        (Ok(at), _) => Ok(at),
        (_, Ok(ago)) => Ok(super::next::now() - ago),
        _ => Err(format!("`{text}` is neither an instant like 2026-11-23T18:00:00+01:00 nor a duration like 90m or 2d")),
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
            "there is no state in {}; name the daemon's with --state-dir (its log says where it is)",
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

/// A run with what the list leaves out.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    run: RunView,
    /// Those that failed and were followed by another.
    attempts: Vec<AttemptView>,
    /// The last lines of its output.
    output: Vec<String>,
}

fn show_one(args: &Args, history: &History, id: RunId, zone: Zone, dir: &Path) -> Done {
    let Some(row) = history.run(id).map_err(failed)? else {
        return Err(Failure::failed(format!("there is no run {id} in {}, or it is there no more", dir.display())));
    };
    let run = row.view(history.job_name(row.job_row), zone, dir);
    let attempts = history.attempts(id).map_err(failed)?.into_iter().map(|row| row.view(zone)).collect();
    let output = match &run.log {
        Some(path) => last_lines(Path::new(path), args.tail.unwrap_or(TAIL))
            .map_err(|error| Failure::failed(format!("can't read {path}: {error}")))?,
        None => Vec::new(),
    };
    let whole = Whole { run, attempts, output };
    match args.format {
        Format::Json => print_json(&whole),
        Format::Text => print(&whole.render()),
    }
}

impl Whole {
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
            let told = |text: &Option<String>| text.clone().unwrap_or_default();
            let _ = writeln!(text, "attempt {} ended {}: {}", attempt.attempt, told(&attempt.ended_at), told(&attempt.reason));
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

/// The last lines of a file; bytes that are no text are shown as such.
fn last_lines(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    // The first one began before what was read.
    if from > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    let lines = lines.split_off(lines.len().saturating_sub(count));
    Ok(lines.into_iter().map(str::to_owned).collect())
}
