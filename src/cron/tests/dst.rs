//! A table of what the zones of the world do to schedules, one row a rule.

use super::firings;

/// Each row: the rule, the schedule, the zone, the instant after which to look, the firings that follow.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

const GAPS: &[Row] = &[
    (
        "a fixed time inside a gap fires once, right after it",
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T03:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    ),
    (
        "the second of a fixed time is kept when it runs after the gap",
        "7 30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T03:00:00+01:00",
        &["2026-03-29T03:00:07+02:00", "2026-03-30T02:30:07+02:00"],
    ),
    (
        "runs within the first minute after the gap, also when asked within that minute",
        "7 30 2 * * *",
        "Europe/Berlin",
        "2026-03-29T03:00:06+02:00",
        &["2026-03-29T03:00:07+02:00", "2026-03-30T02:30:07+02:00"],
    ),
    ("runs once only", "7 30 2 * * *", "Europe/Berlin", "2026-03-29T03:00:07+02:00", &["2026-03-30T02:30:07+02:00"]),
    (
        "several fixed times inside a gap make one firing",
        "0,15,30,45 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:45:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    ),
    (
        "a run after the gap and one that is due right then are one firing",
        "0,30 2-3 * * *",
        "Europe/Berlin",
        "2026-03-29T01:59:59+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:00:00+02:00"],
    ),
    (
        "the first time after a gap is not in it",
        "0 3 * * *",
        "Europe/Berlin",
        "2026-03-28T03:00:00+01:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"],
    ),
    (
        "the last time before a gap is not in it",
        "59 1 * * *",
        "Europe/Berlin",
        "2026-03-28T03:00:00+01:00",
        &["2026-03-29T01:59:00+01:00", "2026-03-30T01:59:00+02:00"],
    ),
    (
        "a wildcard schedule does not run after the gap: a star in the hour",
        "30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:30:00+01:00",
        &["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"],
    ),
    (
        "a wildcard schedule does not run after the gap: a star in the minute",
        "*/30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:30:00+01:00",
        &["2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    ),
    (
        "a six-field schedule with a list of seconds is a wildcard",
        "0,30 30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T02:30:30+01:00",
        &["2026-03-30T02:30:00+02:00", "2026-03-30T02:30:30+02:00"],
    ),
    (
        "elapsed time goes on evenly over a gap",
        "*/20 * * * *",
        "Europe/Berlin",
        "2026-03-29T01:20:00+01:00",
        &["2026-03-29T01:40:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:20:00+02:00"],
    ),
    (
        "a gap of half an hour",
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T02:15:00+10:30",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    ),
    (
        "a gap of half an hour swallows nothing of its other half",
        "45 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T02:45:00+10:30",
        &["2026-10-04T02:45:00+11:00", "2026-10-05T02:45:00+11:00"],
    ),
    (
        "a gap of two hours",
        "15 2 * * *",
        "Antarctica/Troll",
        "2026-03-28T02:15:00+00:00",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:15:00+02:00"],
    ),
    (
        "a gap that swallows midnight",
        "0 0 * * *",
        "America/Havana",
        "2026-03-07T00:00:00-05:00",
        &["2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"],
    ),
    (
        "a midnight that is swallowed belongs to its own day of the week",
        "0 0 * * 0",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00-03:00",
        &["2018-11-04T01:00:00-02:00", "2018-11-11T00:00:00-02:00"],
    ),
    (
        "a midnight that is swallowed on the first of a month",
        "0 0 1 * *",
        "Asia/Beirut",
        "2018-02-28T12:00:00+02:00",
        &["2018-03-01T00:00:00+02:00", "2018-04-01T00:00:00+03:00"],
    ),
    (
        "a lost day is a change of calendar: nothing runs after it, fixed or not",
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00-10:00",
        &["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00"],
    ),
    (
        "a lost day that the schedule names: the next such day comes",
        "0 12 30 12 *",
        "Pacific/Apia",
        "2011-12-29T00:00:00-10:00",
        &["2012-12-30T12:00:00+14:00"],
    ),
    (
        "a gap of three hours is a change of calendar",
        "30 3 * * *",
        "Antarctica/Casey",
        "2009-10-17T04:00:00+08:00",
        &["2009-10-19T03:30:00+11:00"],
    ),
];

const OVERLAPS: &[Row] = &[
    (
        "a fixed time that an overlap repeats fires the first time",
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T03:00:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    ),
    (
        "asked between the two, a fixed time is over",
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T02:10:00+01:00",
        &["2026-10-26T02:30:00+01:00"],
    ),
    (
        "asked in the first pass, after the time, a fixed time is over",
        "10 2 * * *",
        "Europe/Berlin",
        "2026-10-25T02:30:00+02:00",
        &["2026-10-26T02:10:00+01:00"],
    ),
    (
        "the last repeated minute is repeated, the one after it is not",
        "59 2 * * *",
        "Europe/Berlin",
        "2026-10-25T02:59:00+02:00",
        &["2026-10-26T02:59:00+01:00"],
    ),
    (
        "the first time after an overlap comes once",
        "0 3 * * *",
        "Europe/Berlin",
        "2026-10-25T02:00:00+02:00",
        &["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"],
    ),
    (
        "a wildcard schedule runs in both halves: a star in the hour",
        "30 * * * *",
        "Europe/Berlin",
        "2026-10-25T01:30:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"],
    ),
    (
        "a wildcard schedule runs in both halves: a star in the minute",
        "*/30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00+02:00",
        &[
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-26T02:00:00+01:00",
        ],
    ),
    (
        "a list of seconds runs in both halves",
        "0,30 59 2 * * *",
        "Europe/Berlin",
        "2026-10-25T02:59:00+02:00",
        &["2026-10-25T02:59:30+02:00", "2026-10-25T02:59:00+01:00", "2026-10-25T02:59:30+01:00", "2026-10-26T02:59:00+01:00"],
    ),
    (
        "a single second is fixed",
        "30 59 2 * * *",
        "Europe/Berlin",
        "2026-10-25T02:59:00+02:00",
        &["2026-10-25T02:59:30+02:00", "2026-10-26T02:59:30+01:00"],
    ),
    (
        "an overlap of half an hour",
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-05T01:30:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    ),
    (
        "an overlap of two hours",
        "30 1 * * *",
        "Antarctica/Troll",
        "2026-10-25T00:00:00+02:00",
        &["2026-10-25T01:30:00+02:00", "2026-10-26T01:30:00+00:00"],
    ),
    (
        "an overlap that repeats the last hour of a day does not repeat a fixed time",
        "30 23 * * 6",
        "America/Sao_Paulo",
        "2018-02-17T12:00:00-02:00",
        &["2018-02-17T23:30:00-02:00", "2018-02-24T23:30:00-03:00"],
    ),
    (
        "a midnight after an overlap of the hour before it comes once",
        "0 0 * * *",
        "America/Sao_Paulo",
        "2018-02-17T12:00:00-02:00",
        &["2018-02-18T00:00:00-03:00", "2018-02-19T00:00:00-03:00"],
    ),
    (
        "an overlap of three hours still repeats no fixed time",
        "30 0 * * *",
        "Antarctica/Casey",
        "2010-03-04T12:00:00+11:00",
        &["2010-03-05T00:30:00+11:00", "2010-03-06T00:30:00+08:00"],
    ),
    (
        "a day that comes again is a day of its own",
        "0 12 * * *",
        "Pacific/Kwajalein",
        "1969-09-30T00:00:00+11:00",
        &["1969-09-30T12:00:00+11:00", "1969-09-30T12:00:00-12:00", "1969-10-01T12:00:00-12:00"],
    ),
];

const SPARSE: &[Row] = &[
    (
        "a leap day comes again after eight years where a century has none",
        "0 0 29 2 *",
        "Europe/Berlin",
        "2096-02-29T00:00:00+01:00",
        &["2104-02-29T00:00:00+01:00"],
    ),
    (
        "a leap day on a Monday is forty years off",
        "0 0 29 2 */8",
        "UTC",
        "2076-03-01T00:00:00Z",
        &["2088-02-29T00:00:00+00:00", "2128-02-29T00:00:00+00:00"],
    ),
    (
        "both day fields restricted: either is enough",
        "0 0 13 * 5",
        "UTC",
        "2026-11-06T00:00:00Z",
        &[
            "2026-11-13T00:00:00+00:00",
            "2026-11-20T00:00:00+00:00",
            "2026-11-27T00:00:00+00:00",
            "2026-12-04T00:00:00+00:00",
            "2026-12-11T00:00:00+00:00",
            "2026-12-13T00:00:00+00:00",
        ],
    ),
    (
        "a day field that starts with a star: both must match",
        "0 0 */2 * 5",
        "UTC",
        "2026-11-06T00:00:00Z",
        &["2026-11-13T00:00:00+00:00", "2026-11-27T00:00:00+00:00", "2026-12-11T00:00:00+00:00"],
    ),
    (
        "a daily job at one in the morning is neither skipped nor doubled in a year with two changes",
        "0 1 * * *",
        "Europe/London",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T02:00:00+01:00", "2026-03-30T01:00:00+01:00"],
    ),
];

fn check(rows: &[Row]) {
    for (rule, schedule, zone, after, expect) in rows {
        assert_eq!(firings(schedule, zone, after, expect.len()), *expect, "{rule}: `{schedule}` in {zone} after {after}");
    }
}

#[test]
fn what_a_gap_swallows_is_made_up_once_for_fixed_schedules_only() {
    check(GAPS);
}

#[test]
fn what_an_overlap_repeats_runs_twice_for_wildcard_schedules_only() {
    check(OVERLAPS);
}

#[test]
fn days_that_come_seldom_come_when_the_calendar_has_them() {
    check(SPARSE);
}

/// A daily job that daylight saving skipped or doubled is what users of other schedulers report most.
#[test]
fn a_daily_job_runs_once_on_each_day_of_twenty_years_in_every_zone() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut", "Antarctica/Troll"]
    {
        for schedule in ["30 0 * * *", "45 1 * * *", "30 2 * * *", "59 23 * * *"] {
            let runs = firings(schedule, zone, "2015-01-01T12:00:00Z", 7_300);
            let mut days: Vec<&str> = runs.iter().map(|at| &at[..10]).collect();
            days.dedup();
            assert_eq!(days.len(), runs.len(), "{schedule} in {zone}: a day has two runs");
            let first = chrono::NaiveDate::parse_from_str(days[0], "%Y-%m-%d").unwrap();
            let last = chrono::NaiveDate::parse_from_str(days[7_299], "%Y-%m-%d").unwrap();
            assert_eq!((last - first).num_days(), 7_299, "{schedule} in {zone}: a day has no run");
        }
    }
}
