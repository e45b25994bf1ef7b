//! `firelink simulate`: the runs of a configuration in virtual time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;
use serde_json::json;

use super::load::load;
use super::out::{Done, Failure, Format, parse_format, print};
use crate::config::{Config, Surroundings};
use crate::cron::parse_rfc3339;
use crate::engine::simulate::{Attempted, Step, What, simulate};
use crate::model::{Exit, WallTime};

/// show what would run when, by the real engine in virtual time: no process is started, every attempt succeeds at once,
/// and watches and plugins produce no events
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "simulate")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: PathBuf,
    /// the start, in RFC 3339, like 2026-10-25T00:00:00+02:00
    #[argh(option)]
    from: String,
    /// the end (exclusive), in RFC 3339
    #[argh(option)]
    to: String,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
}

/// The size of the output buffer in bytes.
const CHUNK: usize = 64 * 1024;

pub(super) fn run(args: &Args) -> Done {
    let instant = |option: &str, text: &str| parse_rfc3339(text).map_err(|error| Failure::usage(format!("{option}: {error}")));
    let (from, to) = (instant("--from", &args.from)?, instant("--to", &args.to)?);
    if to <= from {
        return Err(Failure::usage("--to must be later than --from"));
    }
    let config = load(&args.config, &Surroundings::of_this_process())?;
    let at_once = |_: &crate::engine::Spawn| Attempted { takes: Duration::ZERO, exit: Exit::Code(0) };
    let mut out = String::new();
    let mut done: Done = Ok(());
    let simulated = simulate(config.rules.clone(), from, to, at_once, |step| {
        match args.format {
            Format::Json => write_json(&mut out, &config, &step),
            Format::Text => write_text(&mut out, &config, &step),
        }
        if out.len() >= CHUNK {
            done = print(&out);
            out.clear();
        }
        done.is_ok()
    });
    done?;
    simulated.map_err(|_| Failure::failed("the dependencies have a cycle"))?;
    print(&out)
}

fn show(config: &Config, step: &Step, at: WallTime) -> String {
    config.jobs[step.job.index()].zone.rfc3339(at)
}

fn write_json(out: &mut String, config: &Config, step: &Step) {
    let line = json!({
        "at": show(config, step, step.at),
        "job": &*config.jobs[step.job.index()].name,
        "run": step.run,
        "what": step.what.as_str(),
        "state": step.state,
        "reason": step.reason,
    });
    let _ = writeln!(out, "{line}");
}

/// One line for the end of each run; its other steps take no time here.
fn write_text(out: &mut String, config: &Config, step: &Step) {
    if matches!(step.what, What::Scheduled | What::Started) {
        return;
    }
    let run = step.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
    let name = &config.jobs[step.job.index()].name;
    let reason = step.reason.as_deref().map_or_else(String::new, |reason| format!("  {reason}"));
    let _ = writeln!(out, "{}  {run:>6}  {name:<20}  {}{reason}", show(config, step, step.at), step.state);
}
