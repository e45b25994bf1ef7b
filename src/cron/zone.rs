//! Time zones: which offset from UTC holds when.
//!
//! The rules of all IANA zones are in the binary (see `build.rs`), because small boxes often have no zoneinfo. A
//! [`Zone`] is two bytes: the number of a zone, or of rules without a name. The
//! tables end with the year 2099; changes that they repeat each year are repeated for ever.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use super::calendar::{DAY, date_of, first_day_of};
use super::period::Period;
use super::system;
use super::tzif::Rules;
use crate::model::WallTime;
use crate::text::nearest;

mod data {
    use crate::cron::calendar::{DAY, weekday_of};

    include!(concat!(env!("OUT_DIR"), "/zones.rs"));

    /// The name of a zone.
    pub(super) fn name(index: usize) -> Option<&'static str> {
        let start = if index == 0 { 0 } else { usize::from(ZONES.get(index - 1)?.0) };
        NAMES.get(start..usize::from(ZONES.get(index)?.0))
    }

    /// How many zones there are.
    pub(super) const COUNT: usize = ZONES.len();

    /// The starts of a zone's periods, and their offsets as numbers for [`offset`].
    pub(super) fn table(index: usize) -> (&'static [i64], &'static [u16]) {
        let table = usize::from(ZONES[index].1);
        let start = if table == 0 { 0 } else { TABLE_ENDS[table - 1] as usize };
        let range = start..TABLE_ENDS[table] as usize;
        (&STARTS[range.clone()], &OFFSETS[range])
    }

    /// A change that every year has.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Change {
        days_after_1_march: u16,
        weekday: u8,
        second: u32,
        /// Seconds east of UTC, from then on.
        pub(super) offset: i32,
    }

    impl Change {
        /// When it happens in the year that begins with this 1 March.
        pub(super) fn in_year_from(self, march: i64) -> i64 {
            let earliest = march + i64::from(self.days_after_1_march);
            let wait = (i64::from(self.weekday) - i64::from(weekday_of(earliest))).rem_euclid(7);
            (earliest + wait) * DAY + i64::from(self.second)
        }
    }

    /// The two changes of each year after the end of a zone's table, if it has any.
    pub(super) fn tail(index: usize) -> Option<[Change; 2]> {
        let change = |(days_after_1_march, weekday, second, offset)| Change { days_after_1_march, weekday, second, offset };
        TAILS[usize::from(ZONES[index].1)].map(|pair| pair.map(change))
    }

    /// Seconds east of UTC.
    pub(super) fn offset(number: u16) -> i32 {
        DISTINCT[usize::from(number)]
    }
}

/// A time zone: one of the IANA database, or the system's own.
///
/// The number of a zone of the database, or from `data::COUNT` on the place of rules without a name in `UNNAMED`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(u16);

/// Rules of the system that are not those of a named zone, each once. They stay for the life of the process, so that a
/// [`Zone`] is a number: there are as many as the system's rules had different contents at a load of the configuration.
static UNNAMED: OnceLock<Box<Unnamed>> = OnceLock::new();

struct Unnamed {
    rules: Rules,
    next: OnceLock<Box<Unnamed>>,
}

/// The number of the first zone without a name.
const FIRST_UNNAMED: u16 = data::COUNT as u16;

/// The last second of a [`WallTime`].
const END_OF_TIME: i64 = WallTime::MAX.as_secs();

/// The error of an unknown zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    /// Names the text.
    pub message: String,
    /// The zone that was probably meant, or the form that is accepted.
    pub help: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for ZoneError {}

impl Zone {
    /// Universal time.
    #[must_use]
    pub fn utc() -> Zone {
        Zone::find("UTC").unwrap_or(Zone(0))
    }

    /// The zone of a name of the IANA database, written exactly like there.
    ///
    /// # Errors
    /// Names the text, and the zone that was probably meant.
    pub fn parse(name: &str) -> Result<Zone, ZoneError> {
        Zone::find(name).ok_or_else(|| {
            let help = match Zone::likely(name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a name of the IANA database, like `Europe/Berlin` or `UTC`".into(),
            };
            ZoneError { message: format!("`{name}` is not a time zone"), help }
        })
    }

    fn find(name: &str) -> Option<Zone> {
        let (mut low, mut high) = (0, data::COUNT);
        while low < high {
            let middle = low.midpoint(high);
            match data::name(middle)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return u16::try_from(middle).ok().map(Zone),
            }
        }
        None
    }

    fn likely(name: &str) -> Option<&'static str> {
        let names = || (0..data::COUNT).filter_map(data::name);
        let cities = || names().map(|full| full.rsplit_once('/').map_or(full, |(_, city)| city));
        nearest(name, names()).or_else(|| {
            let city = nearest(name, cities())?;
            names().find(|full| full.ends_with(city))
        })
    }

    /// The system's own zone: the one that `$TZ` names, else that of `/etc/localtime`, else UTC (tzset(3)).
    ///
    /// Reads files; the answer is two bytes, and a later change of the system's zone does not change it. Where the rules of the
    /// system are not those of the zone that it names (a newer zoneinfo, a copied file) or have no name at all (a POSIX
    /// string like `CET-1CEST,M3.5.0,M10.5.0/3`, usual on OpenWrt), the answer has the system's own rules as they are now.
    #[must_use]
    pub fn system() -> Zone {
        let name = || iana_time_zone::get_timezone().ok();
        match std::env::var("TZ") {
            Ok(text) => named_by_tz(&text).unwrap_or_else(|| Zone::unnamed(system::rules(Some(&text), name().as_deref()))),
            Err(_) => {
                let name = name();
                let named = name.as_deref().and_then(Zone::find);
                // A dangling link, on a box without zoneinfo, still says which zone is meant.
                if let Some(zone) = named.filter(|_| !system::has_localtime()) {
                    return zone;
                }
                let rules = system::rules(None, name.as_deref());
                named.filter(|zone| zone.agrees_with(&rules)).unwrap_or_else(|| Zone::unnamed(rules))
            }
        }
    }

    /// The zone with these rules.
    fn unnamed(rules: Rules) -> Zone {
        let mut place = &UNNAMED;
        let mut number = FIRST_UNNAMED;
        loop {
            let node = place.get_or_init(|| Box::new(Unnamed { rules: rules.clone(), next: OnceLock::new() }));
            if node.rules == rules || number == u16::MAX {
                return Zone(number);
            }
            (place, number) = (&node.next, number + 1);
        }
    }

    /// True if these rules give the same offsets as this zone for the next two years, sampled daily.
    fn agrees_with(self, rules: &Rules) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = i64::try_from(now.as_secs()).unwrap_or(0);
        (0..730).all(|day| {
            let at = now.saturating_add(day * DAY);
            self.offset_at(at) == rules.period_at(at).offset
        })
    }

    /// Its name, or `local` for the system's rules where they have none.
    #[must_use]
    pub fn name(self) -> &'static str {
        data::name(usize::from(self.0)).unwrap_or("local")
    }

    /// Seconds east of UTC at an instant.
    #[must_use]
    pub fn offset(self, at: WallTime) -> i32 {
        self.offset_at(at.as_secs())
    }

    fn offset_at(self, second: i64) -> i32 {
        self.period_at(second).offset
    }

    /// The period that an instant lies in.
    pub(super) fn period_at(self, second: i64) -> Period {
        if self.0 >= FIRST_UNNAMED {
            return unnamed_rules(self.0 - FIRST_UNNAMED).period_at(second);
        }
        let (starts, offsets) = data::table(usize::from(self.0));
        // Every table starts with a period from `i64::MIN`.
        let index = starts.partition_point(|start| *start <= second).saturating_sub(1);
        if index + 1 == starts.len()
            && let Some(tail) = data::tail(usize::from(self.0))
        {
            return period_of_tail(tail, second);
        }
        Period {
            start: starts[index],
            end: starts.get(index + 1).copied().unwrap_or(i64::MAX),
            offset: data::offset(offsets[index]),
            before: data::offset(offsets[index.saturating_sub(1)]),
        }
    }
}

/// The rules at this place of [`UNNAMED`].
fn unnamed_rules(place: u16) -> &'static Rules {
    // Each number came from Zone::unnamed, which had filled its place before.
    let mut node = UNNAMED.get_or_init(|| Box::new(Unnamed { rules: Rules::utc(), next: OnceLock::new() }));
    for _ in 0..place {
        match node.next.get() {
            Some(next) => node = next,
            None => break,
        }
    }
    &node.rules
}

/// The period of an instant after the first of these yearly changes.
fn period_of_tail(tail: [data::Change; 2], second: i64) -> Period {
    let year = date_of(second.min(END_OF_TIME).div_euclid(DAY)).year;
    let mut period = Period { start: i64::MIN, end: i64::MAX, offset: tail[1].offset, before: tail[0].offset };
    for march in (year - 2..=year + 1).map(|year| first_day_of(year, 3)) {
        for (change, other) in [(tail[0], tail[1]), (tail[1], tail[0])] {
            let at = change.in_year_from(march);
            if at > second {
                return Period { end: at, ..period };
            }
            period = Period { start: at, end: i64::MAX, offset: change.offset, before: other.offset };
        }
    }
    period
}

/// What `$TZ` names, if it is a zone of the database; with or without the colon and the folder that tzset(3) allows.
fn named_by_tz(text: &str) -> Option<Zone> {
    let text = text.strip_prefix(':').unwrap_or(text);
    let name = text.split_once("/zoneinfo/").map_or(text, |(_, name)| name);
    if name.is_empty() { Some(Zone::utc()) } else { Zone::find(name) }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Offset, TimeZone};
    use chrono_tz::{TZ_VARIANTS, Tz};

    const YEAR_2100: i64 = 4_102_444_800;

    fn oracle(zone: Tz, at: i64) -> i32 {
        zone.offset_from_utc_datetime(&DateTime::from_timestamp(at, 0).unwrap().naive_utc()).fix().local_minus_utc()
    }

    #[test]
    fn every_zone_of_the_database_is_found_by_its_name() {
        for tz in TZ_VARIANTS {
            assert_eq!(Zone::parse(tz.name()).map(Zone::name), Ok(tz.name()));
        }
        assert_eq!(data::COUNT, TZ_VARIANTS.len());
    }

    #[test]
    fn every_period_of_every_zone_starts_and_ends_where_the_database_says() {
        for tz in TZ_VARIANTS {
            let zone = Zone::parse(tz.name()).unwrap();
            let mut period = zone.period_at(i64::MIN);
            while period.end < YEAR_2100 {
                let next = zone.period_at(period.end);
                assert_eq!((next.start, next.before), (period.end, period.offset), "{zone} {period:?}");
                assert_eq!(oracle(tz, next.start - 1), period.offset, "{zone} {period:?}");
                assert_eq!(oracle(tz, next.start), next.offset, "{zone} {next:?}");
                assert_eq!(zone.period_at(next.start - 1), period);
                period = next;
            }
        }
    }

    #[test]
    fn changes_that_the_tables_repeat_each_year_are_repeated_after_their_end() {
        let mut seen = 0;
        for zone in (0..data::COUNT).filter_map(data::name).filter_map(|name| Zone::parse(name).ok()) {
            let changes_at_the_end = zone.period_at(YEAR_2100 - 1).start > YEAR_2100 - 366 * DAY;
            let tail = data::tail(usize::from(zone.0));
            assert_eq!(tail.is_some(), changes_at_the_end, "{zone}");
            let Some(tail) = tail else { continue };
            seen += 1;
            // From 2089 to 2098 the table itself says what the yearly changes must yield.
            for at in (3_755_289_600..YEAR_2100 - 366 * DAY).step_by(86_400 * 5 + 3_601) {
                assert_eq!(period_of_tail(tail, at), zone.period_at(at), "{zone} {at}");
            }
            let mut period = zone.period_at(YEAR_2100);
            while period.start < END_OF_TIME {
                let next = zone.period_at(period.end);
                assert_eq!((next.start, next.before), (period.end, period.offset), "{zone} {period:?}");
                assert!((next.start - period.start) / DAY > 100, "{zone} {period:?}");
                period = next;
            }
        }
        assert!(seen > 100, "{seen} zones with yearly changes");
    }

    #[test]
    fn after_2099_a_zone_follows_the_rule_that_its_footer_in_zoneinfo_states() {
        // POSIX rules: M3.5.0/0 and M10.5.0/0; M4.1.6/24 and M9.1.6/24; M3.4.4/50, M10.4.4/50.
        for (name, at, offset) in [
            ("Asia/Beirut", "2100-03-27T21:59:59Z", 7_200),
            ("Asia/Beirut", "2100-03-27T22:00:00Z", 10_800),
            ("Europe/Berlin", "2101-03-27T00:59:59Z", 3_600),
            ("Europe/Berlin", "2101-03-27T01:00:00Z", 7_200),
            ("America/Santiago", "2150-07-01T00:00:00Z", -14_400),
            ("America/Santiago", "2150-12-31T00:00:00Z", -10_800),
            ("Asia/Gaza", "2200-07-01T00:00:00Z", 10_800),
            ("Africa/Casablanca", "2200-07-01T00:00:00Z", 3_600),
            ("Asia/Tokyo", "2200-07-01T00:00:00Z", 32_400),
        ] {
            assert_eq!(Zone::parse(name).unwrap().offset(crate::cron::parse_rfc3339(at).unwrap()), offset, "{name} {at}");
        }
    }

    #[test]
    fn between_its_changes_each_zone_has_the_offset_of_the_database() {
        // An odd step, so that the instants drift through the days of the week and the hours of the day.
        for tz in TZ_VARIANTS {
            let zone = Zone::parse(tz.name()).unwrap();
            for at in (-4_600_000_000..YEAR_2100).step_by(1_987_651) {
                assert_eq!(zone.offset_at(at), oracle(tz, at), "{zone} {at}");
            }
        }
    }

    #[test]
    fn the_error_of_a_misspelt_zone_has_the_nearest_name() {
        let help = |name: &str| Zone::parse(name).unwrap_err().help;
        assert_eq!(help("Europe/Berln"), "did you mean `Europe/Berlin`?");
        assert_eq!(help("europe/berlin"), "did you mean `Europe/Berlin`?");
        assert_eq!(help("America/New York"), "did you mean `America/New_York`?");
        assert_eq!(help("Tokyo"), "did you mean `Asia/Tokyo`?");
        assert_eq!(help("nowhere at all"), "write a name of the IANA database, like `Europe/Berlin` or `UTC`");
        assert_eq!(Zone::parse("").unwrap_err().message, "`` is not a time zone");
    }

    #[test]
    fn the_value_of_tz_is_read_as_by_tzset() {
        let berlin = Zone::parse("Europe/Berlin").ok();
        for text in ["Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin", ":/etc/zoneinfo/Europe/Berlin"] {
            assert_eq!(named_by_tz(text), berlin, "{text}");
        }
        assert_eq!(named_by_tz(""), Some(Zone::utc()));
        assert_eq!(named_by_tz("CET-1CEST,M3.5.0,M10.5.0/3"), None);
    }

    #[test]
    fn universal_time_is_universal_time() {
        assert_eq!(Zone::utc().name(), "UTC");
        let period = Zone::utc().period_at(0);
        assert_eq!((period.start, period.end, period.offset), (i64::MIN, i64::MAX, 0));
    }

    #[test]
    fn a_zone_is_two_bytes() {
        assert_eq!(size_of::<Zone>(), 2);
    }
}
