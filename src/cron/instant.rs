//! Instants as text: RFC 3339, in a zone's offset.

use std::fmt;

use chrono::DateTime;

use super::calendar::{DAY, date_of};
use super::zone::Zone;
use crate::model::WallTime;

/// The error of an invalid instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstantError {
    /// Names the text.
    pub message: String,
    /// The form that is accepted.
    pub help: String,
}

impl fmt::Display for InstantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for InstantError {}

/// Reads an instant with its offset: `2026-03-29T01:59:00+01:00`, or `…Z` for universal time.
///
/// # Errors
/// When it is anything else, or outside of the years 1678 to 2261, the range of [`WallTime`].
pub fn parse_rfc3339(text: &str) -> Result<WallTime, InstantError> {
    const HELP: &str = "write a date, a time and an offset, like `2026-03-29T01:59:00+01:00` or `2026-03-29T00:59:00Z`";
    let at = DateTime::parse_from_rfc3339(text)
        .map_err(|_| InstantError { message: format!("`{text}` is not an RFC 3339 instant"), help: HELP.into() })?;
    at.timestamp_nanos_opt().map(WallTime::from_nanos).ok_or_else(|| InstantError {
        message: format!("`{text}` is out of range"),
        help: "instants go from the year 1678 to the year 2261".into(),
    })
}

impl Zone {
    /// RFC 3339 in the zone's offset at that instant, with milliseconds unless they are 0.
    #[must_use]
    pub fn rfc3339(self, at: WallTime) -> String {
        // RFC 3339 has no seconds of offset, which local mean times before 1972 need. The nearest minute is then
        // what the text says, and its clock is moved by as much, so that the instant stays the same.
        let minutes = (i64::from(self.offset(at)) + 30).div_euclid(60);
        let local = at.as_secs() + minutes * 60;
        let date = date_of(local.div_euclid(DAY));
        let time = local.rem_euclid(DAY);
        let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
        let millis = at.as_nanos().rem_euclid(1_000_000_000) / 1_000_000;
        let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
        let sign = if minutes < 0 { '-' } else { '+' };
        let (off_hour, off_minute) = (minutes.abs() / 60, minutes.abs() % 60);
        format!(
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}{sign}{off_hour:02}:{off_minute:02}",
            date.year, date.month, date.day
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_instant_is_shown_in_the_offset_that_holds_then() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        for text in
            ["2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00", "2026-10-25T02:30:00+02:00", "1969-12-31T23:59:59+01:00"]
        {
            assert_eq!(berlin.rfc3339(parse_rfc3339(text).unwrap()), text);
        }
        let before_1893 = parse_rfc3339("1850-06-01T12:00:00Z").unwrap();
        assert_eq!(berlin.rfc3339(before_1893), "1850-06-01T12:53:00+00:53", "local mean time, 53 minutes and 28 seconds");
    }

    #[test]
    fn milliseconds_are_shown_unless_they_are_0() {
        let show = |nanos| Zone::utc().rfc3339(WallTime::from_nanos(nanos));
        assert_eq!(show(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(show(7_000_000), "1970-01-01T00:00:00.007+00:00");
        assert_eq!(show(999_999), "1970-01-01T00:00:00+00:00");
        assert_eq!(show(-1_000_000), "1969-12-31T23:59:59.999+00:00");
    }

    #[test]
    fn an_invalid_instant_is_an_error_with_an_example() {
        for text in ["", "now", "2026-03-29", "2026-03-29T01:59:00", "2026-02-30T00:00:00Z", "2026-03-29T25:00:00Z"] {
            let error = parse_rfc3339(text).unwrap_err();
            assert_eq!(error.message, format!("`{text}` is not an RFC 3339 instant"));
        }
        for text in ["1500-01-01T00:00:00Z", "2300-01-01T00:00:00Z"] {
            assert_eq!(parse_rfc3339(text).unwrap_err().message, format!("`{text}` is out of range"));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_to_the_same_millisecond(millis in -9_223_300_000_000_i64..9_223_300_000_000, zone in 0_usize..4) {
            let zone = ["UTC", "Europe/Berlin", "America/St_Johns", "Africa/Monrovia"][zone];
            let at = WallTime::from_nanos(millis * 1_000_000);
            prop_assert_eq!(parse_rfc3339(&Zone::parse(zone).unwrap().rfc3339(at)), Ok(at));
        }

        #[test]
        fn no_instant_makes_the_printer_panic(nanos: i64) {
            let shown = Zone::parse("Pacific/Apia").unwrap().rfc3339(WallTime::from_nanos(nanos));
            prop_assert!(shown.len() >= 25);
        }
    }
}
