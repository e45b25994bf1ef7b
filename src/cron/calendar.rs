//! The Gregorian calendar on plain numbers: days since 1970-01-01 and back, without a library's range checks.

/// Seconds of a day on a local clock; a clock that is set forward or back does so between two days of this length.
pub(super) const DAY: i64 = 86_400;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i32,
    /// 1 to 12.
    pub(super) month: u32,
    /// 1 to 31.
    pub(super) day: u32,
}

/// The date of a day since 1970-01-01. Years are counted from March here, so that a leap day is the last of its year
/// and months have a regular length; an era is the 400 years after which the calendar repeats.
pub(super) fn date_of(days: i64) -> Date {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    Date { year: year as i32, month: month as u32, day: day as u32 }
}

/// The day since 1970-01-01 on which a month begins.
pub(super) fn first_day_of(year: i32, month: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let from_march = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// How many days a month has.
pub(super) const fn days_in(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The day of the week of a day since 1970-01-01, which was a Thursday; Sunday is 0.
pub(super) const fn weekday_of(days: i64) -> u32 {
    (days + 4).rem_euclid(7) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn every_day_of_six_centuries_has_the_date_that_chrono_gives_it() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in -110_000..110_000 {
            let expect = epoch + chrono::Duration::days(days);
            let date = date_of(days);
            assert_eq!((date.year, date.month, date.day), (expect.year(), expect.month(), expect.day()), "{days}");
            assert_eq!(first_day_of(date.year, date.month) + i64::from(date.day) - 1, days);
            assert_eq!(weekday_of(days), expect.weekday().num_days_from_sunday());
            assert_eq!(days_in(date.year, date.month), u32::from(expect.num_days_in_month()));
        }
    }
}
