//! The rules of a zone as zoneinfo files have them (TZif, RFC 9636, versions 1 to 4). Pure: the bytes are handed in.

use super::period::Period;
use super::posix::Rule;

/// A zone's rules, read from a file or from a POSIX text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The offset before the first change.
    first: i32,
    /// Each change but the last, with the offset from then on, ordered.
    changes: Box<[(i64, i32)]>,
    /// The last change; `i64::MIN` if there is none.
    tail_from: i64,
    /// What holds from then on.
    tail: Rule,
}

/// The offset that a zone may have at most (RFC 9636, section 3.2).
const LARGEST_OFFSET: i32 = 26 * 3_600;

/// Reads big-endian numbers from the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?)).ok()
    }
}

/// A signed big-endian number of four or eight bytes.
fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        _ => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
    }
}

/// The counts of a header.
struct Header {
    version: u8,
    utc_flags: usize,
    standard_flags: usize,
    leap_seconds: usize,
    changes: usize,
    types: usize,
    letters: usize,
}

impl Header {
    fn read(from: &mut Reader<'_>) -> Option<Header> {
        if from.bytes(4)? != b"TZif" {
            return None;
        }
        let version = from.bytes(16)?[0];
        let (utc_flags, standard_flags, leap_seconds) = (from.count()?, from.count()?, from.count()?);
        Some(Header {
            version,
            utc_flags,
            standard_flags,
            leap_seconds,
            changes: from.count()?,
            types: from.count()?,
            letters: from.count()?,
        })
    }
}

impl Rules {
    /// The rules of a POSIX text; see [`Rule::parse`].
    pub(super) fn from_posix(text: &str) -> Option<Rules> {
        let tail = Rule::parse(text)?;
        Some(Rules { first: tail.period_at(i64::MIN).offset, changes: Box::default(), tail_from: i64::MIN, tail })
    }

    /// Universal time.
    pub(super) fn utc() -> Rules {
        Rules { first: 0, changes: Box::default(), tail_from: i64::MIN, tail: Rule::Fixed(0) }
    }

    /// The rules in a file; `None` if it is damaged, or no such file.
    pub(super) fn from_tzif(bytes: &[u8]) -> Option<Rules> {
        let mut from = Reader(bytes);
        let mut header = Header::read(&mut from)?;
        let mut width = 4;
        if header.version > 0 {
            // The same again with numbers of 32 bits, for readers of version 1.
            block(&mut from, &header, width)?;
            header = Header::read(&mut from)?;
            width = 8;
        }
        let mut changes = block(&mut from, &header, width)?;
        let first = changes.first;
        let footer = from.0.strip_prefix(b"\n").and_then(|rest| rest.split(|byte| *byte == b'\n').next()).unwrap_or_default();
        // A text that can't be read is as none: the last offset goes on.
        let rule = std::str::from_utf8(footer).ok().and_then(Rule::parse);
        let last = changes.all.pop();
        Some(Rules {
            first,
            changes: changes.all.into(),
            tail_from: last.map_or(i64::MIN, |(at, _)| at),
            tail: rule.unwrap_or(Rule::Fixed(last.map_or(first, |(_, offset)| offset))),
        })
    }

    /// The period that an instant lies in.
    pub(super) fn period_at(&self, second: i64) -> Period {
        let after = self.changes.partition_point(|(at, _)| *at <= second);
        let (start, offset) = match after.checked_sub(1) {
            Some(index) => self.changes[index],
            None => (i64::MIN, self.first),
        };
        if second < self.tail_from {
            let before = after.checked_sub(2).map_or(self.first, |index| self.changes[index].1);
            let end = self.changes.get(after).map_or(self.tail_from, |(at, _)| *at);
            return Period { start, end, offset, before };
        }
        let period = self.tail.period_at(second);
        if period.start > self.tail_from || self.tail_from == i64::MIN {
            return period;
        }
        Period { start: self.tail_from, before: offset, ..period }
    }
}

struct Changes {
    first: i32,
    all: Vec<(i64, i32)>,
}

/// Reads the data behind a header, whose times have so many bytes.
fn block(from: &mut Reader<'_>, header: &Header, width: usize) -> Option<Changes> {
    let times = from.bytes(header.changes.checked_mul(width)?)?;
    let kinds = from.bytes(header.changes)?;
    let types = from.bytes(header.types.checked_mul(6)?)?;
    from.bytes(header.letters)?;
    let leaps = from.bytes(header.leap_seconds.checked_mul(width + 4)?)?;
    from.bytes(header.standard_flags.checked_add(header.utc_flags)?)?;
    let offset_of = |kind: usize| {
        let offset = i32::from_be_bytes(types.get(kind * 6..)?.get(..4)?.try_into().ok()?);
        (offset.abs() <= LARGEST_OFFSET).then_some(offset)
    };
    // Files of the `right` kind count leap seconds; a WallTime does not.
    let leaps: Option<Vec<(i64, i64)>> =
        leaps.chunks_exact(width + 4).map(|leap| Some((integer(&leap[..width])?, integer(&leap[width..])?))).collect();
    let leaps = leaps?;
    let without_leaps = |at: i64| {
        let correction = leaps.iter().take_while(|(leap, _)| *leap <= at).last().map_or(0, |(_, correction)| *correction);
        at.checked_sub(correction)
    };
    let mut all: Vec<(i64, i32)> = Vec::with_capacity(header.changes);
    for (time, kind) in times.chunks_exact(width).zip(kinds) {
        let change = (without_leaps(integer(time)?)?, offset_of(usize::from(*kind))?);
        if all.last().is_some_and(|last| last.0 >= change.0) {
            return None;
        }
        all.push(change);
    }
    Some(Changes { first: offset_of(0)?, all })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::Zone;
    use proptest::prelude::*;

    /// 2037-01-01, where zic ends the table of a zone with a footer.
    const TABLE_END: i64 = 2_114_380_800;

    /// A zone as a file, with all its changes until `until`.
    fn tzif(zone: Zone, until: i64, footer: &str, version: u8) -> Vec<u8> {
        let mut periods = vec![zone.period_at(i64::MIN)];
        while periods[periods.len() - 1].end < until {
            periods.push(zone.period_at(periods[periods.len() - 1].end));
        }
        let mut offsets: Vec<i32> = periods.iter().map(|period| period.offset).collect();
        offsets.dedup();
        // The first type is what holds before the first change.
        let types: Vec<i32> = offsets.iter().fold(Vec::new(), |mut types, offset| {
            if !types.contains(offset) {
                types.push(*offset);
            }
            types
        });
        let block = |width: usize| {
            let kept: Vec<_> = periods[1..].iter().filter(|period| width == 8 || i32::try_from(period.start).is_ok()).collect();
            let mut out = b"TZif".to_vec();
            out.extend([version]);
            out.extend([0; 15]);
            for count in [0, 0, 0, kept.len(), types.len(), 4] {
                out.extend(u32::try_from(count).unwrap().to_be_bytes());
            }
            kept.iter().for_each(|period| out.extend(&period.start.to_be_bytes()[8 - width..]));
            out.extend(
                kept.iter()
                    .map(|period| u8::try_from(types.iter().position(|offset| *offset == period.offset).unwrap()).unwrap()),
            );
            types.iter().for_each(|offset| out.extend(offset.to_be_bytes().into_iter().chain([0, 0])));
            out.extend(b"LMT\0");
            out
        };
        match version {
            0 => block(4),
            _ => [block(4), block(8), format!("\n{footer}\n").into_bytes()].concat(),
        }
    }

    #[test]
    fn a_file_has_the_periods_of_the_zone_that_it_was_made_of() {
        for (name, footer) in [
            ("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"),
            ("America/Havana", "CST5CDT,M3.2.0/0,M11.1.0/1"),
            ("Australia/Lord_Howe", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"),
            ("America/Santiago", "<-04>4<-03>,M9.1.6/24,M4.1.6/24"),
            ("Pacific/Apia", "<+13>-13"),
            ("Asia/Tokyo", "JST-9"),
            ("UTC", "UTC0"),
        ] {
            let zone = Zone::parse(name).unwrap();
            let rules = Rules::from_tzif(&tzif(zone, TABLE_END, footer, b'2')).unwrap();
            let mut at = i64::MIN;
            loop {
                let (ours, embedded) = (rules.period_at(at), zone.period_at(at));
                assert_eq!(ours, embedded, "{name} {at}");
                if embedded.end == i64::MAX || embedded.end > crate::model::WallTime::MAX.as_secs() {
                    break;
                }
                assert_eq!(rules.period_at(embedded.end - 1), embedded, "{name} {at}");
                at = embedded.end;
            }
        }
    }

    #[test]
    fn without_a_footer_the_last_offset_goes_on() {
        let zone = Zone::parse("Africa/Casablanca").unwrap();
        let rules = Rules::from_tzif(&tzif(zone, TABLE_END, "", b'2')).unwrap();
        let last = zone.period_at(TABLE_END);
        assert_eq!(rules.period_at(last.start - 1), zone.period_at(last.start - 1));
        assert_eq!(rules.period_at(TABLE_END), Period { end: i64::MAX, ..last });
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let rules = Rules::from_tzif(&tzif(zone, TABLE_END, "", 0)).unwrap();
        let last = zone.period_at(TABLE_END);
        for at in (0..last.start).step_by(987_654) {
            assert_eq!(rules.period_at(at), zone.period_at(at), "{at}");
        }
        assert_eq!(rules.period_at(TABLE_END), Period { end: i64::MAX, ..last }, "version 1 has no footer");
    }

    #[test]
    fn leap_seconds_are_taken_off() {
        let mut file = b"TZif\0".to_vec();
        file.extend([0; 15]);
        for count in [0_u32, 0, 2, 1, 2, 4] {
            file.extend(count.to_be_bytes());
        }
        file.extend(1_000_012_i32.to_be_bytes());
        file.push(1);
        file.extend(
            [0_i32.to_be_bytes(), 3_600_i32.to_be_bytes()].iter().flat_map(|offset| offset.iter().copied().chain([0, 0])),
        );
        file.extend(b"LMT\0");
        for (at, correction) in [(500_000_i32, 12_i32), (2_000_000, 13)] {
            file.extend(at.to_be_bytes().into_iter().chain(correction.to_be_bytes()));
        }
        let rules = Rules::from_tzif(&file).unwrap();
        assert_eq!(rules.period_at(0), Period { start: i64::MIN, end: 1_000_000, offset: 0, before: 0 });
        assert_eq!(rules.period_at(1_000_000), Period { start: 1_000_000, end: i64::MAX, offset: 3_600, before: 0 });
    }

    #[test]
    fn a_file_that_is_cut_off_in_its_data_is_refused() {
        let file = tzif(Zone::parse("Europe/Berlin").unwrap(), TABLE_END, "", b'2');
        let data = file.len() - "\n\n".len();
        assert!((0..data).all(|length| Rules::from_tzif(&file[..length]).is_none()));
        assert!(Rules::from_tzif(&file[..data]).is_some(), "the footer may be absent");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            counts in prop::collection::vec(0_u8..4, 6),
            at: i64,
        ) {
            let header = |version| {
                let counts = counts.iter().flat_map(|count| u32::from(*count).to_be_bytes());
                b"TZif".iter().copied().chain([version]).chain([0; 15]).chain(counts)
            };
            for version in [0, b'2'] {
                let file: Vec<u8> = header(version).chain(bytes.iter().copied()).collect();
                if let Some(rules) = Rules::from_tzif(&file) {
                    let period = rules.period_at(at);
                    prop_assert!(period.start <= at && at <= period.end);
                }
            }
        }
    }
}
