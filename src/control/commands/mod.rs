//! One file per command: its request, its reply, and the reply as text for a terminal.

pub mod cancel;
pub mod events;
pub mod graph;
pub mod health;
pub mod job;
pub mod logs;
pub mod pause;
pub mod reload;
pub mod retry;
pub mod status;
pub mod stop;
pub mod trigger;

use crate::model::RunView;
use crate::text::printable;

/// A run as one line: `12  jobA  succeeded  cron  2026-11-23T18:00:00+01:00  exit code 0`.
#[must_use]
pub fn run_line(run: &RunView) -> String {
    let id = run.id.map_or_else(|| "-".into(), |id| id.to_string());
    let mut line = format!("{id:>6}  {:<20}  {:<9}  {:<10}  {:<25}", run.job, run.state, run.trigger, run.scheduled_at);
    let why = match (&run.reason, run.exit_code, &run.signal) {
        (Some(reason), _, _) => Some(printable(reason)),
        (None, Some(code), _) if code != 0 => Some(format!("exit code {code}")),
        (None, _, Some(signal)) => Some(format!("killed by {signal}")),
        (None, _, None) => None,
    };
    if let Some(why) = why {
        line.push_str("  ");
        line.push_str(&why);
    }
    line.trim_end().to_owned()
}
