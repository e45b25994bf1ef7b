//! A schedule in the words of a person: `every day at 18:00`, `every 5 minutes`, `on Mondays at 03:30`.
//!
//! The words are made of the compiled bit sets, so that schedules that mean the same read the same, however they are
//! written. What has no short words has none; the expression itself is shorter then.

use super::schedule::{BOTH_DAYS, Schedule};

const ALL_SECONDS: u64 = (1 << 60) - 1;
const ALL_MINUTES: u64 = (1 << 60) - 1;
const ALL_HOURS: u32 = (1 << 24) - 1;
const ALL_DAYS: u32 = !1;
const ALL_MONTHS: u16 = ((1 << 13) - 1) & !1;
const ALL_WEEKDAYS: u8 = 0x7F;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// More names or times than this read worse than the expression.
const FEW: usize = 4;

impl Schedule {
    /// When it fires, in words; `None` if that would be no shorter than the expression.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let days = self.day_words()?;
        let months = self.month_words()?;
        match self.rhythm() {
            Some(rhythm) if days == "every day" && months.is_empty() => Some(rhythm),
            Some(rhythm) => Some(format!("{rhythm}, {days}{months}")),
            None => Some(format!("{days}{months} at {}", self.times()?)),
        }
    }

    /// `every 5 minutes`, for what goes on all day.
    fn rhythm(&self) -> Option<String> {
        let (seconds, minutes) = (self.seconds, self.minutes);
        let single = |bits: u64| bits.count_ones() == 1;
        let all_hours = self.hours == ALL_HOURS;
        if seconds != ALL_SECONDS && !single(seconds) && all_hours && minutes == ALL_MINUTES {
            return step(seconds, 60).map(|step| format!("every {step} seconds"));
        }
        if seconds == ALL_SECONDS && all_hours && minutes == ALL_MINUTES {
            return Some("every second".into());
        }
        let plain_second = seconds == 1;
        if !plain_second || !all_hours && !single(minutes) {
            return None;
        }
        if minutes == ALL_MINUTES {
            return Some("every minute".into());
        }
        if all_hours && !single(minutes) {
            return step(minutes, 60).map(|step| format!("every {step} minutes"));
        }
        let past = match minutes.trailing_zeros() {
            0 => String::new(),
            1 => ", a minute past".into(),
            minute => format!(", {minute} minutes past"),
        };
        if all_hours {
            return Some(format!("every hour{past}"));
        }
        let step = step(u64::from(self.hours), 24)?;
        Some(format!("every {step} hours{past}"))
    }

    /// `18:00`, or a few of them.
    fn times(&self) -> Option<String> {
        if self.seconds.count_ones() != 1 {
            return None;
        }
        let second = self.seconds.trailing_zeros();
        let hours = (0..24).filter(|hour| self.hours & (1 << hour) != 0);
        let minutes = |hour| (0..60).filter(|minute| self.minutes & (1 << minute) != 0).map(move |minute| (hour, minute));
        let times: Vec<String> = hours
            .flat_map(minutes)
            .take(FEW + 1)
            .map(|(hour, minute)| match second {
                0 => format!("{hour:02}:{minute:02}"),
                second => format!("{hour:02}:{minute:02}:{second:02}"),
            })
            .collect();
        (times.len() <= FEW).then(|| listed(&times))
    }

    fn day_words(&self) -> Option<String> {
        let (days, weekdays) = (self.days & ALL_DAYS, self.weekdays);
        let by_weekday = || -> Option<String> {
            match weekdays {
                0b011_1110 => Some("on weekdays".into()),
                0b100_0001 => Some("on weekends".into()),
                bits => {
                    let names = (0..7).filter(|day| bits & (1 << day) != 0).map(|day| format!("{}s", WEEKDAYS[day]));
                    let names: Vec<String> = names.collect();
                    (names.len() <= FEW).then(|| format!("on {}", listed(&names)))
                }
            }
        };
        let by_day = || -> Option<String> {
            let numbers: Vec<String> = (1..32).filter(|day| days & (1 << day) != 0).map(ordinal).collect();
            (numbers.len() <= FEW).then(|| format!("on the {}", listed(&numbers)))
        };
        match (days == ALL_DAYS, weekdays & ALL_WEEKDAYS == ALL_WEEKDAYS) {
            (true, true) => Some("every day".into()),
            (true, false) if self.flags & BOTH_DAYS != 0 => by_weekday(),
            (false, true) if self.flags & BOTH_DAYS != 0 => by_day(),
            // One of the two is enough, and one of them is always so.
            (true, false) | (false, true) => Some("every day".into()),
            (false, false) if self.flags & BOTH_DAYS != 0 => None,
            (false, false) => Some(format!("{} and {}", by_day()?, by_weekday()?)),
        }
    }

    /// ` in January`, or nothing for every month.
    fn month_words(&self) -> Option<String> {
        let months = self.months & ALL_MONTHS;
        if months == ALL_MONTHS {
            return Some(String::new());
        }
        let names: Vec<String> =
            (1..13).filter(|month| months & (1 << month) != 0).map(|month| MONTHS[month - 1].to_owned()).collect();
        (names.len() <= FEW).then(|| format!(" in {}", listed(&names)))
    }
}

/// The step of `0, step, 2 * step…` below `end`, if the bits are just that and the last step is as long as the others.
fn step(bits: u64, end: u32) -> Option<u32> {
    let count = bits.count_ones();
    let step = end.checked_div(count).filter(|step| count > 1 && *step > 1 && step * count == end)?;
    (0..count).all(|index| bits & (1 << (index * step)) != 0).then_some(step)
}

fn ordinal(day: u32) -> String {
    let end = match (day % 10, day / 10) {
        (_, 1) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{day}{end}")
}

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_as_a_person_would_say_it() {
        for (text, words) in [
            ("0 18 * * *", "every day at 18:00"),
            ("@daily", "every day at 00:00"),
            ("*/5 * * * *", "every 5 minutes"),
            ("0,15,30,45 * * * *", "every 15 minutes"),
            ("* * * * *", "every minute"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("* * * * * *", "every second"),
            ("@hourly", "every hour"),
            ("1 * * * *", "every hour, a minute past"),
            ("20 * * * *", "every hour, 20 minutes past"),
            ("0 */6 * * *", "every 6 hours"),
            ("30 */2 * * *", "every 2 hours, 30 minutes past"),
            ("30 3 * * 1", "on Mondays at 03:30"),
            ("30 3 * * mon,thu", "on Mondays and Thursdays at 03:30"),
            ("0 9 * * 1-5", "on weekdays at 09:00"),
            ("0 9 * * 6,7", "on weekends at 09:00"),
            ("0 9,17 * * *", "every day at 09:00 and 17:00"),
            ("5 0 9 * * *", "every day at 09:00:05"),
            ("0 4 1 * *", "on the 1st at 04:00"),
            ("0 4 2,11,23 * *", "on the 2nd, 11th and 23rd at 04:00"),
            ("@yearly", "on the 1st in January at 00:00"),
            ("0 4 1 * 1", "on the 1st and on Mondays at 04:00"),
            ("*/15 * * * 1-5", "every 15 minutes, on weekdays"),
            ("0 0 * jul *", "every day in July at 00:00"),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(schedule.words().as_deref(), Some(words), "{text}");
        }
    }

    #[test]
    fn what_has_no_short_words_has_none() {
        for text in ["*/7 * * * *", "1-50 8-17 * * *", "0 4 1-10 * *", "0 4 */2 * 1", "0 0 1 1-6 *", "1,2 0 0 * * *"] {
            assert_eq!(Schedule::parse(text).unwrap().words(), None, "{text}");
        }
    }
}
