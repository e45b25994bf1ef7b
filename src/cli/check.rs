//! `firelink check`: the diagnostics of a configuration and its next firings, or a check of the state.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde::Serialize;

use super::load::{check, load, state_dir};
use super::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::{self, Config, Looked, NotLooked, Surroundings};
use crate::engine::timing::Timing;
use crate::helper::{Answer, Client, Failure as NoAnswer, MAX_PATHS_BYTES, Request, no_answer};
use crate::model::WallTime;

/// check a configuration and show when each job fires next; with --state, check the state instead
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: Option<PathBuf>,
    /// check the database in the state directory: that of --state-dir, of the configuration, or the default
    #[argh(switch)]
    state: bool,
    /// the state directory, for --state
    #[argh(option)]
    state_dir: Option<PathBuf>,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
}

pub(super) fn run(args: &Args) -> Done {
    let surroundings = Surroundings::of_this_process();
    match &args.config {
        _ if args.state => check_state(args, &surroundings),
        _ if args.state_dir.is_some() => Err(Failure::usage("--state-dir goes with --state")),
        Some(config) => check_config(config, args.format, &surroundings),
        None => Err(Failure::usage("give a configuration, or --state to check the state")),
    }
}

/// The most paths of one request.
const PATHS_AT_ONCE: usize = 256;

/// How many directories may hang before the rest is not looked at.
const MAX_HUNG: usize = 3;

/// Looks at paths by the helper process. Nothing else is asked of a directory in which a path does not answer.
fn look(paths: &[PathBuf]) -> Vec<Looked> {
    let mut looked: Vec<Looked> = Vec::with_capacity(paths.len());
    let mut hung: Vec<&Path> = Vec::new();
    let mut client = None;
    while let Some(path) = paths.get(looked.len()) {
        let is_hung = |path: &Path, hung: &[&Path]| hung.len() >= MAX_HUNG || hung.iter().any(|dir| path.starts_with(dir));
        if is_hung(path, &hung) {
            looked.push(Err(NotLooked::NoAnswer(no_answer())));
            continue;
        }
        let mut bytes = 0;
        let next = paths[looked.len()..].iter().take(PATHS_AT_ONCE).take_while(|path| {
            bytes += Request::cost_of(path);
            bytes <= MAX_PATHS_BYTES && !is_hung(path, &hung)
        });
        let request = Request::Stat(next.cloned().collect());
        let asked = match &mut client {
            Some(client) => Ok(client),
            None => Client::start().map(|started| client.insert(started)),
        };
        let asked = asked.and_then(|client: &mut Client| {
            client.ask(&request, None, |part| {
                let Answer::Stats(stats) = part else { return };
                let of_errno = |errno| NotLooked::Failed(io::Error::from_raw_os_error(errno));
                looked.extend(stats.into_iter().map(|stat| stat.map(|stat| stat.mode).map_err(of_errno)));
            })
        });
        match asked {
            Ok(()) => {}
            Err(NoAnswer::Hung) => {
                client = None;
                if let Some(path) = paths.get(looked.len()) {
                    hung.push(path.parent().unwrap_or(path));
                    looked.push(Err(NotLooked::NoAnswer(no_answer())));
                }
            }
            Err(failure) => {
                let failed = || Err(NotLooked::Failed(io::Error::other(failure.to_string())));
                looked.resize_with(paths.len(), failed);
            }
        }
    }
    looked
}

fn check_config(path: &Path, format: Format, surroundings: &Surroundings) -> Done {
    if format == Format::Json {
        let loaded = config::check(path, surroundings, &look);
        let report = config::Report::of(&loaded);
        print_json(&report)?;
        return if report.ok { Ok(()) } else { Err(Failure::silent(2)) };
    }
    let config = check(path, surroundings, &look)?;
    print(&render(&config, super::clock::now()))
}

/// The result of `--state`, as JSON.
#[derive(Debug, Serialize)]
struct StateReport {
    ok: bool,
    state_dir: String,
    /// The faults that were found.
    errors: Vec<String>,
}

fn check_state(args: &Args, surroundings: &Surroundings) -> Done {
    let config = args.config.as_deref().map(|path| load(path, surroundings)).transpose()?;
    let dir = state_dir(args.state_dir.as_deref(), config.as_ref())?;
    let faults = match crate::store::inspect(&dir) {
        Ok(Some(faults)) => faults,
        Ok(None) => return Err(Failure::failed(format!("there is no state in {}", dir.display()))),
        Err(error) => return Err(Failure::failed(error.to_string())),
    };
    let report = StateReport { ok: faults.is_empty(), state_dir: dir.display().to_string(), errors: faults };
    match args.format {
        Format::Json => print_json(&report)?,
        Format::Text if report.ok => print(&format!("{}: the state is intact\n", report.state_dir))?,
        Format::Text => {
            let faults: String = report.errors.iter().map(|fault| format!("  {fault}\n")).collect();
            let next_step = "restart the daemon: it moves a damaged database aside and starts with an empty one";
            print(&format!("{}: the state is damaged\n{faults}{next_step}\n", report.state_dir))?;
        }
    }
    if report.ok { Ok(()) } else { Err(Failure::silent(1)) }
}

fn render(config: &Config, now: WallTime) -> String {
    let jobs = config.jobs.len();
    let mut text = format!(
        "{}: {jobs} job{}, time zone {}\n\n",
        config.path.display(),
        if jobs == 1 { "" } else { "s" },
        config.zone.name()
    );
    let width = config.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(3).clamp(3, 24);
    let _ = writeln!(text, "{:<width$}  {:<34}  NEXT / AFTER", "JOB", "TRIGGER");
    for (job, rules) in config.jobs.iter().zip(&config.rules.jobs) {
        let next = match &rules.timing {
            _ if !rules.enabled => "disabled".into(),
            Timing::Wall(wall) => wall.next_after(now).map_or_else(|| "at the daemon's start".into(), |at| job.zone.rfc3339(at)),
            Timing::Every(grid) => format!("every {}", crate::model::format_duration(grid.period)),
            Timing::Startup => "at the daemon's start".into(),
            Timing::None => String::new(),
        };
        let after: Vec<&str> = rules.depends_on.iter().map(|dep| &*config.jobs[dep.index()].name).collect();
        let after = if after.is_empty() { String::new() } else { format!("after {}", after.join(", ")) };
        let when = [next, after].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        let when = if when.is_empty() { "-" } else { &when };
        let _ = writeln!(text, "{:<width$}  {:<34}  {when}", job.name, job.trigger.summary());
    }
    text
}
