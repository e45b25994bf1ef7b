//! From a schedule's text to its bit sets, with an error that points at the token that is wrong.
//!
//! The grammar is crontab(5)'s as Debian's entry.c reads it, and stricter only where that one ignores what it does not
//! understand: a field is a list of elements, an element is `*`, `a` or `a-b`, each with `/step` after it or not.

use std::ops::Range;

use super::calendar::days_in;
use super::error::ScheduleError;
use super::schedule::{BOTH_DAYS, FIXED, Schedule};
use crate::text::nearest;

/// The one macro that names no instant of the clock but the start of the daemon.
pub const REBOOT: &str = "@reboot";

const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A larger step is no step of any field, and a larger number no value.
const LARGEST_NUMBER: u32 = 999_999_999;

/// True if a schedule's text is [`REBOOT`], which [`Schedule::parse`] refuses: it has no instants.
#[must_use]
pub fn is_reboot(text: &str) -> bool {
    trimmed(text).text == REBOOT
}

/// The values of a field.
struct Field {
    name: &'static str,
    /// The plural, with its verb: `minutes go`.
    range_words: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on; three letters, any case.
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", range_words: "seconds go", low: 0, high: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", range_words: "minutes go", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", range_words: "hours go", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day of month", range_words: "days of the month go", low: 1, high: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    range_words: "months go",
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    name: "day of week",
    range_words: "days of the week go",
    low: 0,
    high: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// A part of the text with its place in it.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Token<'a> {
    fn span(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// The parts before and after the first `separator`, an ASCII character.
    fn split(self, separator: u8) -> (Token<'a>, Option<Token<'a>>) {
        let bytes = self.text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            if bytes[index] == separator {
                let tail = Token { text: &self.text[index + 1..], at: self.at + index + 1 };
                return (Token { text: &self.text[..index], at: self.at }, Some(tail));
            }
            index += 1;
        }
        (self, None)
    }

    fn error(self, message: String, help: String) -> ScheduleError {
        ScheduleError { span: self.span(), message, help }
    }
}

/// The values of one field.
#[derive(Clone, Copy)]
struct Values {
    bits: u64,
    /// The field's text starts with `*`, which is what crontab(5) calls a star even when a step follows.
    star: bool,
}

impl Schedule {
    /// Compiles five fields (minute, hour, day of month, month, day of week), six (seconds before them) or a macro.
    ///
    /// # Errors
    /// Names the field, its value and the accepted values; also for a schedule that can never fire, like `0 0 30 2 *`.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let whole = trimmed(text);
        if whole.text.is_empty() {
            return Err(whole.error("the schedule is empty".into(), FIELDS_HELP.into()));
        }
        if whole.text.starts_with('@') {
            return parse_macro(whole);
        }
        let Split { fields, count, seventh, plain } = split_fields(whole);
        if !plain && let Some(error) = odd_space(whole) {
            return Err(error);
        }
        let [first, rest @ ..] = fields;
        match count {
            5 => compile(None, [fields[0], fields[1], fields[2], fields[3], fields[4]]),
            6 => compile(Some(first), rest),
            7.. => Err(wrong_count(seventh..whole.span().end, count)),
            _ => Err(wrong_count(whole.span(), count)),
        }
    }
}

const FIELDS_HELP: &str = "the fields are minute, hour, day of month, month, day of week; a sixth before them is seconds";

fn wrong_count(span: Range<usize>, count: usize) -> ScheduleError {
    let message = format!("a schedule has 5 or 6 fields, this one has {count}");
    ScheduleError { span, message, help: FIELDS_HELP.into() }
}

/// The error for a character that looks like a space, or like nothing, and is none of the blanks.
fn odd_space(whole: Token<'_>) -> Option<ScheduleError> {
    let is_odd = |c: char| (c.is_whitespace() || c.is_control()) && c != ' ' && c != '\t';
    let (at, odd) = whole.text.char_indices().find(|(_, c)| is_odd(*c))?;
    let start = whole.at + at;
    Some(ScheduleError {
        span: start..start + odd.len_utf8(),
        message: format!("the character U+{:04X} does not separate fields", u32::from(odd)),
        help: "write spaces or tabs between fields".into(),
    })
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without blanks and line ends, which a YAML block leaves behind a text.
fn trimmed(text: &str) -> Token<'_> {
    let inside = |byte: u8| !is_blank(byte) && !matches!(byte, b'\n' | b'\r');
    match text.bytes().position(inside) {
        Some(start) => {
            let end = text.bytes().rposition(inside).map_or(text.len(), |last| last + 1);
            Token { text: &text[start..end], at: start }
        }
        None => Token { text: "", at: text.len() },
    }
}

/// The parts of a text between spaces and tabs.
struct Split<'a> {
    /// The first six.
    fields: [Token<'a>; 6],
    /// How many there are.
    count: usize,
    /// Where the seventh begins.
    seventh: usize,
    /// There is nothing but blanks and visible ASCII.
    plain: bool,
}

/// One pass over the bytes: a daemon compiles thousands of schedules when it starts.
fn split_fields(whole: Token<'_>) -> Split<'_> {
    let bytes = whole.text.as_bytes();
    let mut split = Split { fields: [Token { text: "", at: whole.at }; 6], count: 0, seventh: 0, plain: true };
    let mut index = 0;
    while index < bytes.len() {
        if is_blank(bytes[index]) {
            index += 1;
            continue;
        }
        let start = index;
        while index < bytes.len() && !is_blank(bytes[index]) {
            split.plain &= bytes[index].is_ascii_graphic();
            index += 1;
        }
        if let Some(field) = split.fields.get_mut(split.count) {
            *field = Token { text: &whole.text[start..index], at: whole.at + start };
        } else if split.count == split.fields.len() {
            split.seventh = whole.at + start;
        }
        split.count += 1;
    }
    split
}

fn parse_macro(whole: Token<'_>) -> Result<Schedule, ScheduleError> {
    if let Some((_, fields)) = MACROS.iter().find(|(name, _)| *name == whole.text) {
        return Schedule::parse(fields);
    }
    if whole.text == REBOOT {
        let message = format!("`{REBOOT}` is the start of the daemon, not an instant of the clock");
        return Err(whole.error(message, "only a job's `schedule` may be `@reboot`".into()));
    }
    let names = MACROS.iter().map(|(name, _)| *name).chain([REBOOT]);
    let help = match nearest(whole.text, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there are {}", names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(whole.error(format!("`{}` is not a macro", whole.text), help))
}

fn compile(second: Option<Token<'_>>, fields: [Token<'_>; 5]) -> Result<Schedule, ScheduleError> {
    let seconds = match second {
        Some(token) => parse_field(&SECOND, token)?,
        None => Values { bits: 1, star: false },
    };
    let [minute, hour, day, month, weekday] = fields;
    let minutes = parse_field(&MINUTE, minute)?;
    let hours = parse_field(&HOUR, hour)?;
    let days = parse_field(&DAY, day)?;
    let months = parse_field(&MONTH, month)?;
    let weekdays = parse_field(&WEEKDAY, weekday)?;
    // Sunday is both 0 and 7.
    let week = (weekdays.bits | weekdays.bits >> 7) & 0x7f;
    let both_days = days.star || weekdays.star;
    let one_second = !seconds.star && seconds.bits.is_power_of_two();
    let fixed = one_second && !minutes.star && !hours.star;
    if both_days && !some_month_has(days.bits, months.bits) {
        return Err(never(day, month));
    }
    Ok(Schedule {
        seconds: seconds.bits,
        minutes: minutes.bits,
        hours: hours.bits as u32,
        days: days.bits as u32,
        months: months.bits as u16,
        weekdays: week as u8,
        flags: if both_days { BOTH_DAYS } else { 0 } | if fixed { FIXED } else { 0 },
    })
}

/// True if one of the months ever has one of the days. A leap year has the longest February, and over the centuries
/// its last day falls on each day of the week, so nothing else can keep a schedule from firing.
fn some_month_has(days: u64, months: u64) -> bool {
    const IN_EVERY_MONTH: u64 = span_of_bits(1, 28);
    days & IN_EVERY_MONTH != 0
        || (1..=12).any(|month| months & (1 << month) != 0 && days & ((2 << days_in(2000, month)) - 1) & !1 != 0)
}

fn never(day: Token<'_>, month: Token<'_>) -> ScheduleError {
    let message = format!("day of month: the schedule never fires, no month of `{}` has a day `{}`", month.text, day.text);
    day.error(message, "February has 29 days at most, April, June, September and November have 30".into())
}

fn parse_field(field: &Field, token: Token<'_>) -> Result<Values, ScheduleError> {
    if token.text == "*" {
        return Ok(Values { bits: span_of_bits(field.low, field.high), star: true });
    }
    let mut bits = 0;
    let mut rest = Some(token);
    while let Some(list) = rest {
        let (element, tail) = list.split(b',');
        if element.text.is_empty() {
            return Err(empty_element(field, token, element));
        }
        bits |= parse_element(field, element)?;
        rest = tail;
    }
    Ok(Values { bits, star: token.text.starts_with('*') })
}

fn empty_element(field: &Field, token: Token<'_>, element: Token<'_>) -> ScheduleError {
    // The commas around the empty place, so that there is something to point at.
    let start = element.at.saturating_sub(1).max(token.at);
    let end = (element.at + 1).min(token.at + token.text.len());
    ScheduleError {
        span: start..end,
        message: format!("{}: `{}` has an empty element", field.name, token.text),
        help: "write a value between two commas, and none at either end".into(),
    }
}

fn parse_element(field: &Field, element: Token<'_>) -> Result<u64, ScheduleError> {
    if let Number::Value(value) = parse_number(element.text)
        && (field.low..=field.high).contains(&value)
        && !element.text.is_empty()
    {
        return Ok(1 << value);
    }
    let (values, step) = element.split(b'/');
    let (first, last) = if values.text == "*" {
        (field.low, field.high)
    } else {
        let (first, last) = values.split(b'-');
        let low = parse_value(field, first, element)?;
        match last {
            Some(last) => {
                let high = parse_value(field, last, element)?;
                if low > high {
                    return Err(backwards(field, values, high == 0 && field.high == WEEKDAY.high));
                }
                (low, high)
            }
            // crontab(5) leaves `a/n` open; Debian's cron lets it run to the end of the field.
            None => (low, if step.is_some() { field.high } else { low }),
        }
    };
    match step {
        None => Ok(span_of_bits(first, last)),
        Some(step) => {
            let step = parse_step(field, step, element)?;
            Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
        }
    }
}

/// The bits from `first` to `last`, which is at most 62.
const fn span_of_bits(first: u32, last: u32) -> u64 {
    (2 << last) - (1 << first)
}

fn parse_value(field: &Field, token: Token<'_>, element: Token<'_>) -> Result<u32, ScheduleError> {
    if token.text.is_empty() {
        return Err(element.error(format!("{}: `{}` lacks a value", field.name, element.text), field.help()));
    }
    match parse_number(token.text) {
        Number::Value(value) if (field.low..=field.high).contains(&value) => return Ok(value),
        Number::Value(value) if value < field.low => {
            return Err(token.error(format!("{}: `{}` is too small", field.name, token.text), field.help()));
        }
        Number::Value(_) | Number::TooLarge => {
            return Err(token.error(format!("{}: `{}` is too large", field.name, token.text), field.help()));
        }
        Number::None => {}
    }
    let by_name = field.names.iter().zip(field.low..).find(|(name, _)| name.eq_ignore_ascii_case(token.text));
    by_name.map(|(_, value)| value).ok_or_else(|| field.unknown(token))
}

fn parse_step(field: &Field, token: Token<'_>, element: Token<'_>) -> Result<usize, ScheduleError> {
    const HELP: &str = "a step is a whole number above 0, like the 5 of `*/5`";
    if token.text.is_empty() {
        return Err(element.error(format!("{}: `{}` lacks a step", field.name, element.text), HELP.into()));
    }
    match parse_number(token.text) {
        Number::None => Err(token.error(format!("{}: `{}` is not a step", field.name, token.text), HELP.into())),
        Number::TooLarge => Err(token.error(format!("{}: the step `{}` is too large", field.name, token.text), HELP.into())),
        Number::Value(0) => Err(token.error(format!("{}: a step of `{}` goes nowhere", field.name, token.text), HELP.into())),
        Number::Value(step) => Ok(step as usize),
    }
}

/// What a text is as a number.
enum Number {
    /// It has something else than ASCII digits.
    None,
    Value(u32),
    /// Past every value and step.
    TooLarge,
}

fn parse_number(text: &str) -> Number {
    let mut value: u32 = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return Number::None;
        }
        value = value.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
    }
    if value > LARGEST_NUMBER { Number::TooLarge } else { Number::Value(value) }
}

fn backwards(field: &Field, range: Token<'_>, ends_on_sunday: bool) -> ScheduleError {
    let help = match range.text.split_once('-') {
        Some((first, _)) if ends_on_sunday => format!("Sunday is 7 at the end of a range: `{first}-7`"),
        Some((first, last)) => format!("write `{first}-{},{}-{last}` for what wraps around", field.high, field.low),
        None => String::new(),
    };
    range.error(format!("{}: the range `{}` runs backwards", field.name, range.text), help)
}

impl Field {
    /// The accepted values, for a message.
    fn help(&self) -> String {
        let names = match self.names {
            [first, .., last] if self.high == WEEKDAY.high => format!(" (0 and 7 are Sunday) or from {first} to {last}"),
            [first, .., last] => format!(" or from {first} to {last}"),
            _ => String::new(),
        };
        format!("{} from {} to {}{names}", self.range_words, self.low, self.high)
    }

    /// The error for a value that is neither a number nor a name.
    fn unknown(&self, token: Token<'_>) -> ScheduleError {
        let message = format!("{}: `{}` is not a value of this field", self.name, token.text);
        // `monday` is nearer to nothing than to `mon`, but a person who wrote it meant that.
        let prefix = token.text.get(..3).filter(|_| token.text.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let near = self.names.iter().copied().find(|name| prefix.is_some_and(|prefix| name.eq_ignore_ascii_case(prefix)));
        let help = if let Some(name) = near.or_else(|| nearest(token.text, self.names.iter().copied())) {
            format!("did you mean `{name}`?")
        } else if token.text.chars().any(|c| c.is_numeric() && !c.is_ascii()) {
            format!("digits are 0 to 9; {}", self.help())
        } else if token.text.starts_with('*') {
            "after `*` comes nothing, or a step like `/5`".into()
        } else if token.text.contains(['?', 'L', 'W', '#', '~', 'H']) {
            format!("`L`, `W`, `#`, `?`, `~` and `H` belong to other schedulers; {}", self.help())
        } else {
            self.help()
        };
        token.error(message, help)
    }
}
