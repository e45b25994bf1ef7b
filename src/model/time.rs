//! The two clocks, as two types.
//!
//! Wall time (`CLOCK_REALTIME`) may be set; elapsed time (`CLOCK_BOOTTIME`) only grows, also during suspend. There is no
//! conversion: a value of one is never compared with the other.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of the wall clock: nanoseconds since 1970-01-01T00:00:00Z, good until the year 2262.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(i64);

impl WallTime {
    /// The last representable instant.
    pub const MAX: WallTime = WallTime(i64::MAX);

    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> WallTime {
        WallTime(nanos)
    }

    /// From whole seconds since the epoch; saturates at the ends.
    #[must_use]
    pub const fn from_secs(secs: i64) -> WallTime {
        WallTime(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;
    fn add(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for WallTime {
    type Output = WallTime;
    fn sub(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// An instant of the elapsed clock: nanoseconds since boot, time asleep included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Elapsed(u64);

impl Elapsed {
    /// From nanoseconds since boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Elapsed {
        Elapsed(nanos)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub const fn since(self, earlier: Elapsed) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Elapsed {
    type Output = Elapsed;
    fn add(self, by: Duration) -> Elapsed {
        Elapsed(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One reading of both clocks, passed to everything that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_REALTIME`.
    pub wall: WallTime,
    /// `CLOCK_BOOTTIME`.
    pub elapsed: Elapsed,
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC, for logs and errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = chrono::DateTime::from_timestamp_nanos(self.0);
        f.write_str(&utc.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }
}
