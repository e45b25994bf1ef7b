//! The output of `firelink next --schedule`, as a pure function.

use crate::cron::{Schedule, ScheduleError, Upcoming, Zone, parse_rfc3339};
use crate::model::WallTime;

/// More than a month of firings every half minute.
const MOST: usize = 100_000;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextFormat {
    /// One RFC 3339 instant a line.
    #[default]
    Text,
    /// A JSON array of RFC 3339 instants, on one line.
    Json,
}

impl NextFormat {
    /// Parses the value of `--format`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<NextFormat> {
        match word {
            "text" => Some(NextFormat::Text),
            "json" => Some(NextFormat::Json),
            _ => None,
        }
    }
}

/// A question for [`render_next`].
#[derive(Clone, Copy, Debug)]
pub struct NextRequest<'a> {
    /// The schedule's text.
    pub schedule: &'a str,
    /// An IANA name, or the default zone.
    pub timezone: Result<&'a str, Zone>,
    /// An RFC 3339 instant, or the default instant.
    pub after: Result<&'a str, WallTime>,
    /// The number of firings.
    pub count: usize,
    /// The output format.
    pub format: NextFormat,
}

/// The first `count` firings strictly after an instant, each in the zone's own offset then; ends with a newline unless
/// empty.
///
/// # Errors
/// A message about the schedule (with a caret under the token), the zone, the instant or the count, without a final newline.
pub fn render_next(request: &NextRequest<'_>) -> Result<String, String> {
    let schedule = Schedule::parse(request.schedule).map_err(|error: ScheduleError| error.render(request.schedule))?;
    let explain = |message: String, help: String| format!("{message}\nhelp: {help}");
    let zone = match request.timezone {
        Ok(name) => Zone::parse(name).map_err(|error| explain(error.message, error.help))?,
        Err(zone) => zone,
    };
    let after = match request.after {
        Ok(text) => parse_rfc3339(text).map_err(|error| explain(error.message, error.help))?,
        Err(after) => after,
    };
    if request.count > MOST {
        return Err(explain(format!("{} firings are too many", request.count), format!("ask for {MOST} at most")));
    }
    let schedules = [schedule];
    let firings = Upcoming::new(&schedules, zone, after).take(request.count).map(|at| zone.rfc3339(at));
    Ok(match request.format {
        NextFormat::Text => firings.map(|line| line + "\n").collect(),
        // Digits and signs need no escapes in JSON.
        NextFormat::Json => format!("[{}]\n", firings.map(|at| format!("\"{at}\"")).collect::<Vec<_>>().join(", ")),
    })
}
