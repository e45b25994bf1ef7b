//! `firelink next`: the next firings of a schedule, or of the jobs of a configuration.

mod schedule;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use argh::FromArgs;

pub use schedule::{NextFormat, NextRequest, render_next};

use crate::cli::clock::now;
use crate::cli::load::load;
use crate::cli::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::Surroundings;
use crate::cron::{Zone, parse_rfc3339};
use crate::engine::timing::Timing;
use crate::model::WallTime;
use crate::text::nearest;

/// show when a schedule, or each cron job of a configuration, fires next
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "next")]
pub struct Args {
    /// a configuration, instead of --schedule
    #[argh(positional)]
    config: Option<PathBuf>,
    /// only this job of the configuration
    #[argh(option)]
    job: Option<String>,
    /// a schedule: five fields, six with leading seconds, or a macro like @daily
    #[argh(option)]
    schedule: Option<String>,
    /// the schedule's time zone, like Europe/Berlin (default: the system's)
    #[argh(option)]
    timezone: Option<String>,
    /// list firings after this time, in RFC 3339 (default: now)
    #[argh(option)]
    after: Option<String>,
    /// how many firings (default 5)
    #[argh(option, default = "5")]
    count: usize,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
}

pub(super) fn run(args: &Args) -> Done {
    match (&args.config, &args.schedule) {
        (Some(config), None) => of_config(args, config),
        (None, Some(schedule)) => of_schedule(args, schedule),
        (Some(_), Some(_)) => Err(Failure::usage("give a configuration or --schedule, not both")),
        (None, None) => Err(Failure::usage("give a configuration, or a schedule: firelink next --schedule \"0 18 * * *\"")),
    }
}

fn of_schedule(args: &Args, schedule: &str) -> Done {
    if args.job.is_some() {
        return Err(Failure::usage("--job needs a configuration"));
    }
    let request = NextRequest {
        schedule,
        timezone: args.timezone.as_deref().ok_or_else(Zone::system),
        after: args.after.as_deref().ok_or_else(now),
        count: args.count,
        format: match args.format {
            Format::Text => NextFormat::Text,
            Format::Json => NextFormat::Json,
        },
    };
    print(&render_next(&request).map_err(Failure::usage)?)
}

fn of_config(args: &Args, path: &Path) -> Done {
    if args.timezone.is_some() {
        return Err(Failure::usage("--timezone goes with --schedule; the jobs of a configuration have their own"));
    }
    let after = match args.after.as_deref() {
        Some(text) => parse_rfc3339(text).map_err(|error| Failure::usage(format!("--after: {error}")))?,
        None => now(),
    };
    let config = load(path, &Surroundings::of_this_process())?;
    let wanted = match args.job.as_deref() {
        None => None,
        Some(name) => Some(config.jobs.iter().position(|job| &*job.name == name).ok_or_else(|| {
            let near = nearest(name, config.jobs.iter().map(|job| &*job.name));
            let near = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            Failure::failed(format!("there is no job `{name}`{near}"))
        })?),
    };
    let mut firings: Vec<(WallTime, usize)> = Vec::new();
    for (index, rules) in config.rules.jobs.iter().enumerate() {
        if wanted.is_none_or(|wanted| wanted == index)
            && rules.enabled
            && let Timing::Wall(wall) = &rules.timing
        {
            let mut last = after;
            for _ in 0..args.count {
                let Some(next) = wall.next_after(last) else { break };
                firings.push((next, index));
                last = next;
            }
        }
    }
    firings.sort_by(|a, b| (a.0, &config.jobs[a.1].name).cmp(&(b.0, &config.jobs[b.1].name)));
    // With --job its firings, else the next firings of the whole file.
    firings.truncate(args.count);
    let shown = firings.iter().map(|(at, index)| (config.jobs[*index].zone.rfc3339(*at), &*config.jobs[*index].name));
    match (args.format, wanted) {
        (Format::Json, Some(_)) => print_json(&shown.map(|(at, _)| at).collect::<Vec<_>>()),
        (Format::Json, None) => {
            print_json(&shown.map(|(at, job)| serde_json::json!({ "at": at, "job": job })).collect::<Vec<_>>())
        }
        (Format::Text, _) => {
            let mut text = String::new();
            for (at, job) in shown {
                let _ = writeln!(text, "{at}  {job}");
            }
            if text.is_empty() {
                text.push_str("no cron job fires\n");
            }
            print(&text)
        }
    }
}
