//! `firelink next`: the instants at which a schedule fires.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use argh::FromArgs;

use crate::model::WallTime;
use crate::triggers::cron::{NextFormat, NextRequest, Zone, render_next};

/// show when a schedule fires next
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "next")]
pub struct Args {
    /// the schedule: five fields, six with leading seconds, or a macro like @daily
    #[argh(option)]
    pub schedule: String,
    /// the zone it is read in, like Europe/Berlin; the system's own if not given
    #[argh(option)]
    pub timezone: Option<String>,
    /// the instant, in RFC 3339, after which to look; now if not given
    #[argh(option)]
    pub after: Option<String>,
    /// how many firings; 5 if not given
    #[argh(option, default = "5")]
    pub count: usize,
    /// text or json
    #[argh(option, default = "NextFormat::Text", from_str_fn(parse_format))]
    pub format: NextFormat,
}

fn parse_format(word: &str) -> Result<NextFormat, String> {
    NextFormat::from_word(word).ok_or_else(|| format!("`{word}` is not a format; write `text` or `json`"))
}

/// Prints the firings: exit 0, or 2 with what is wrong with the schedule, the zone or the instant.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let request = NextRequest {
        schedule: &args.schedule,
        timezone: args.timezone.as_deref().ok_or_else(Zone::system),
        after: args.after.as_deref().ok_or(WallTime::from_nanos(0) + now),
        count: args.count,
        format: args.format,
    };
    match render_next(&request) {
        Ok(text) => match std::io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(text) => {
            // Nobody is left to be told when standard error can't be written.
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::from(2)
        }
    }
}
