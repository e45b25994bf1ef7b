//! `firelink check`: is the configuration right, and what will it do?

use std::fmt::Write as _;
use std::path::PathBuf;

use argh::FromArgs;

use super::load::load;
use super::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::{self, Config, Surroundings};
use crate::engine::rules::Timing;
use crate::model::WallTime;

/// check a configuration and show when each job fires next
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: PathBuf,
    /// text (default) or json
    #[argh(option, default = "Format::Text", from_str_fn(parse_format))]
    format: Format,
}

pub(super) fn run(args: &Args) -> Done {
    let surroundings = Surroundings::of_this_process();
    if args.format == Format::Json {
        let loaded = config::load(&args.config, &surroundings);
        let report = config::Report::of(&loaded);
        print_json(&report)?;
        return if report.ok { Ok(()) } else { Err(Failure::silent(2)) };
    }
    let config = load(&args.config, &surroundings)?;
    print(&render(&config, super::next::now()))
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
            Timing::Every { period, .. } => format!("every {}", crate::model::format_duration(*period)),
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
