//! The error message for an invalid schedule.

use std::fmt;
use std::ops::Range;

/// The error of an invalid schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// The bytes of the invalid token; empty only if the schedule is.
    pub span: Range<usize>,
    /// Names the field and its value.
    pub message: String,
    /// The values that are accepted; may be empty.
    pub help: String,
}

impl ScheduleError {
    /// The message with the text and a caret under the token, without a final newline:
    ///
    /// ```text
    /// minute: `60` is too large
    ///   60 * * * *
    ///   ^^
    /// help: a minute is 0 to 59
    /// ```
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        if text.trim().is_empty() {
            return format!("{}\nhelp: {}", self.message, self.help);
        }
        let shown = |part: &str| part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let before = text.get(..self.span.start).unwrap_or("");
        let token = text.get(self.span.clone()).unwrap_or("");
        let carets = "^".repeat(token.chars().count().max(1));
        let mut out = format!("{}\n  {}\n  {}{carets}", self.message, shown(text), " ".repeat(before.chars().count()));
        if !self.help.is_empty() {
            out.push_str("\nhelp: ");
            out.push_str(&self.help);
        }
        out
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

impl std::error::Error for ScheduleError {}
