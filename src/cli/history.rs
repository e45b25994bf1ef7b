//! `firelink history`: past runs, with or without a daemon.

use std::path::PathBuf;

use argh::FromArgs;

use super::load::state_dir;
use super::out::{Done, Failure, Format, parse_format, print, print_json};
use crate::config::Surroundings;
use crate::control::commands::run_line;
use crate::model::{RunView, StateWord};
use crate::store::{Filter, History};
use crate::triggers::cron::Zone;

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
    /// at most this many; 20 if not given
    #[argh(option, default = "20")]
    limit: usize,
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

fn parse_state(word: &str) -> Result<StateWord, String> {
    StateWord::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = StateWord::ALL.iter().map(|state| state.as_str()).collect();
        format!("`{word}` is not a state; write one of {}", words.join(", "))
    })
}

pub(super) fn run(args: &Args) -> Done {
    let config = match &args.config {
        Some(path) => Some(super::load::load(path, &Surroundings::of_this_process())?),
        None => None,
    };
    let dir = state_dir(args.state_dir.as_deref(), config.as_ref())?;
    let failed = |error: crate::store::StoreError| Failure::failed(error.to_string());
    let Some(history) = History::open(&dir).map_err(failed)? else {
        return Err(Failure::failed(format!(
            "there is no state in {}; name the daemon's with --state-dir (its log says where it is)",
            dir.display()
        )));
    };
    if let Some(job) = &args.job
        && !history.job_names().any(|name| name == job)
    {
        let hint =
            crate::model::nearest(job, history.job_names()).map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        return Err(Failure::failed(format!("no job `{job}` has ever been loaded{hint}")));
    }
    let zone = config.as_ref().map_or_else(Zone::system, |config| config.zone);
    let filter = Filter { job: args.job.clone(), state: args.state, limit: args.limit };
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
