//! Durations and sizes as text: `1h30m`, `250ms`, `10MiB`. A bare number is refused, because each scheduler has its own
//! default unit.

use std::fmt;
use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Why a duration or a size was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// The error, with the text.
    pub message: String,
    /// The expected form.
    pub help: String,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for UnitError {}

/// Reads `250ms`, `10s`, `5m`, `1h30m`, `2d`: whole numbers with units, the larger unit first, each at most once.
///
/// # Errors
/// Any other text, and a duration longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const HELP: &str = "write a duration with units, like `250ms`, `10s`, `5m`, `1h30m` or `2d`";
    const CENTURY: u64 = 100 * 365 * 86_400 * 1_000_000_000;
    let bad = |message: String| UnitError { message, help: HELP.into() };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad("the duration is empty".into()));
    }
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (digits, tail) = split_digits(rest);
        if digits.is_empty() {
            return Err(bad(format!("`{text}` is not a duration")));
        }
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if unit.is_empty() {
            return Err(bad(format!("`{text}` has no unit")));
        }
        let Some(&(_, scale)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(bad(format!("`{unit}` is not a unit of time")));
        };
        if scale >= smallest {
            return Err(bad(format!("`{text}` does not go from larger to smaller units")));
        }
        smallest = scale;
        let part = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
        total = match part.and_then(|part| total.checked_add(part)) {
            Some(sum) if sum <= CENTURY => sum,
            _ => return Err(bad(format!("`{text}` is longer than 100 years"))),
        };
        rest = tail;
    }
    Ok(Duration::from_nanos(total))
}

/// Reads `64KiB`, `10MiB`, `1MB`, `512B` into bytes.
///
/// # Errors
/// Any other text, and a size that does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = |message: String| UnitError { message, help: "write a size with its unit, like `64KiB`, `10MiB` or `1MB`".into() };
    let (digits, unit) = split_digits(text.trim());
    if digits.is_empty() {
        return Err(bad(format!("`{text}` is not a size")));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(bad(format!("`{text}` has no unit")));
    }
    let Some(&(_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(bad(format!("`{unit}` is not a unit of size")));
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    bytes.ok_or_else(|| bad(format!("`{text}` is too large")))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The shortest form that [`parse_duration`] reads back to the same value, exact to the millisecond: `1h30m`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, scale) in DURATION_UNITS {
        if rest >= scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// The shortest form that [`parse_size`] reads back to the same value: `10MiB`, `1MB`, `1500B`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let fits =
        SIZE_UNITS.iter().filter(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)).max_by_key(|(_, scale)| *scale);
    match fits {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => "0B".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), Ok(ms), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_units() {
        for text in ["", "10", "10 s", "s", "1x", "5m1h", "1h1h", "-1s", "1.5h", "99999999999999999999s", "40000d", "1\u{0661}s"]
        {
            let error = parse_duration(text).expect_err(text);
            assert!(error.help.contains("1h30m"), "{text}: {error}");
        }
        assert_eq!(parse_duration("10").unwrap_err().message, "`10` has no unit");
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("64KiB", 65_536), ("10MiB", 10_485_760), ("1MB", 1_000_000), ("512B", 512), ("1 GiB", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "1K", "MiB", "-1B", "99999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms in 0u64..3_000_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_printed_size_reads_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
