//! Packs the data that the binary carries: the time zones, and the pages of the web UI.
//!
//! # Zones
//!
//! The time zones of `chrono-tz` become plain arrays of numbers in `OUT_DIR/zones.rs`. Linked in as it is, `chrono-tz` costs a position-independent binary 1.9 MB on disk and 1.8 MB of private memory:
//! each of its transitions carries a pointer to an abbreviation that firelink never prints, and the loader relocates every
//! page of them at start. The same rules as numbers take 0.4 MB of read-only data, of which only the pages of the zones
//! in use are ever read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};

/// Before the first transition of any zone (Manila, 1844).
const FIRST: i64 = -5_000_000_000;
/// 2101-01-01, after the last transition of the database's rules, which end with 2099.
const LAST: i64 = 4_133_980_800;
/// No zone has two changes less than a week minus an hour apart, so offsets that are equal at both ends of four days
/// hold throughout.
const STEP: i64 = 4 * 86_400;

/// From this year on the rules of every zone repeat yearly (Gaza's and Morocco's tables of Ramadan end before it). Within
/// eleven years a date falls on each day of the week, so these twelve show each rule's earliest and latest date.
const REPEATING: std::ops::Range<i32> = 2088..2100;

/// One of the two changes of a year, in UTC: the least number of days after 1 March, the weekday (Sunday is 0) of the first
/// match from there on, the second of the day, and the new offset in seconds.
type Change = (u16, u8, u32, i32);

/// The starts of a zone's periods, the first at `i64::MIN`, each with its offset from UTC in seconds.
type Periods = Vec<(i64, i32)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut zones: Vec<Tz> = TZ_VARIANTS.to_vec();
    zones.sort_unstable_by_key(|zone| zone.name());
    let mut tables: BTreeMap<Periods, usize> = BTreeMap::new();
    let mut order: Vec<Periods> = Vec::new();
    let mut text = String::new();
    let mut names = String::new();
    let mut rows = String::new();
    for zone in &zones {
        let periods = periods_of(*zone)?;
        let table = *tables.entry(periods.clone()).or_insert_with(|| {
            order.push(periods);
            order.len() - 1
        });
        names.push_str(zone.name());
        write!(rows, "({}, {table}), ", names.len())?;
    }
    let tails: Vec<Option<[Change; 2]>> = order.iter().map(|periods| tail_of(periods)).collect();
    let mut distinct: Vec<i32> = order.iter().flatten().map(|(_, offset)| *offset).collect();
    distinct.sort_unstable();
    distinct.dedup();
    writeln!(text, "/// The names of all zones, in order, without separators.\nstatic NAMES: &str = {names:?};")?;
    writeln!(text, "/// For each zone, in the order of names: where its name ends in `NAMES`, and its table.")?;
    writeln!(text, "static ZONES: [(u16, u16); {}] = [{rows}];", zones.len())?;
    let mut end = 0;
    let ends: Vec<usize> = order
        .iter()
        .map(|periods| {
            end += periods.len();
            end
        })
        .collect();
    writeln!(text, "/// Where each table ends in `STARTS` and `OFFSETS`.\nstatic TABLE_ENDS: [u32; {}] = {ends:?};", ends.len())?;
    let starts: Vec<i64> = order.iter().flatten().map(|(start, _)| *start).collect();
    writeln!(text, "/// Where periods start, in seconds since 1970 (UTC).\nstatic STARTS: [i64; {end}] = {starts:?};")?;
    let indices: Result<Vec<usize>, _> = order.iter().flatten().map(|(_, o)| distinct.binary_search(o)).collect();
    let indices = indices.map_err(|_| "an offset is missing from the list of offsets")?;
    writeln!(text, "/// The offset of each period, as an index into `DISTINCT`.\nstatic OFFSETS: [u16; {end}] = {indices:?};")?;
    writeln!(text, "{TAILS_DOC}static TAILS: [Option<[Yearly; 2]>; {}] = {tails:?};", tails.len())?;
    writeln!(text, "/// Every offset from UTC that is or was in use, in seconds.")?;
    writeln!(text, "static DISTINCT: [i32; {}] = {distinct:?};", distinct.len())?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("zones.rs"), text)?;
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_WEB").is_some() {
        pack_pages(Path::new(&out))?;
    }
    Ok(())
}

/// Packs the files of `src/web/assets` and lists them in `OUT_DIR/pages.rs`: browsers unpack them, the daemon never does.
fn pack_pages(out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let from = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?).join("src/web/assets");
    println!("cargo::rerun-if-changed={}", from.display());
    let mut files: Vec<std::path::PathBuf> =
        std::fs::read_dir(&from)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let mut text =
        String::from("/// Every page: its name, its bytes packed by gzip, and a number that is another when they are.\n");
    writeln!(text, "static PAGES: &[(&str, &[u8], u32)] = &[")?;
    for file in files.iter().filter(|file| file.is_file()) {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("a page's name is not text")?;
        let mut packer = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
        packer.write_all(&std::fs::read(file)?)?;
        let packed = packer.finish()?;
        // The last eight bytes of gzip's format (RFC 1952) are the content's CRC-32 and size.
        let crc = packed.len().checked_sub(8).and_then(|at| packed.get(at..at + 4)).ok_or("gzip has an end")?;
        let mark = u32::from_le_bytes(crc.try_into()?);
        let target = out.join(format!("{name}.gz"));
        std::fs::write(&target, packed)?;
        writeln!(text, "({name:?}, include_bytes!({:?}), {mark}),", target.display().to_string())?;
    }
    writeln!(text, "];")?;
    std::fs::write(out.join("pages.rs"), text)?;
    Ok(())
}

const TAILS_DOC: &str = "\
/// A yearly change: on the first such weekday (Sunday is 0) at least so many days after 1 March, at this second of the
/// day (UTC), to this offset.
type Yearly = (u16, u8, u32, i32);
/// For each table, what changes in each year after its end.
";

/// The changes of every year after the last, if the last twelve years agree on them.
fn tail_of(periods: &[(i64, i32)]) -> Option<[Change; 2]> {
    let of_year = |year: i32| -> Option<[Change; 2]> {
        let march = NaiveDate::from_ymd_opt(year, 3, 1)?;
        let range = march..NaiveDate::from_ymd_opt(year + 1, 3, 1)?;
        let mut changes = periods.iter().filter_map(|(start, offset)| {
            let at = DateTime::from_timestamp(*start, 0)?.naive_utc();
            let days = range.contains(&at.date()).then(|| (at.date() - march).num_days())?;
            let weekday = at.date().weekday().num_days_from_sunday();
            Some((u16::try_from(days).ok()?, u8::try_from(weekday).ok()?, at.time().num_seconds_from_midnight(), *offset))
        });
        let pair = [changes.next()?, changes.next()?];
        changes.next().is_none().then_some(pair)
    };
    let mut tail = of_year(REPEATING.start)?;
    for year in REPEATING {
        for (known, seen) in tail.iter_mut().zip(of_year(year)?) {
            if (known.1, known.2, known.3) != (seen.1, seen.2, seen.3) || known.0.abs_diff(seen.0) > 6 {
                return None;
            }
            known.0 = known.0.min(seen.0);
        }
    }
    Some(tail)
}

fn periods_of(zone: Tz) -> Result<Periods, String> {
    let mut offset = offset_at(zone, FIRST)?;
    let mut periods = vec![(i64::MIN, offset)];
    let mut at = FIRST;
    while at < LAST {
        let next = at + STEP;
        let changed = offset_at(zone, next)?;
        if changed != offset {
            let (mut before, mut after) = (at, next);
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if offset_at(zone, middle)? == offset { before = middle } else { after = middle }
            }
            offset = offset_at(zone, after)?;
            periods.push((after, offset));
        }
        at = next;
    }
    Ok(periods)
}

fn offset_at(zone: Tz, at: i64) -> Result<i32, String> {
    let utc = DateTime::from_timestamp(at, 0).ok_or("an instant of the table is outside of the calendar")?;
    Ok(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc())
}
