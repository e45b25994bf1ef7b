//! How a trigger type reads its part of a job: values with their places, and errors that point at them.

use std::time::Duration;

use crate::exec::spec::Action;

/// Where a value stands in the file: byte offsets into its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A scalar and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The scalar's text, unquoted.
    pub value: String,
    /// Where it stands, quotes included.
    pub place: Place,
    /// Where the first character of `value` stands, if the text stands in the file as it is (no escapes, no folding):
    /// then a byte of `value` has its own column.
    pub verbatim_at: Option<usize>,
}

impl Text {
    /// The place of `value[range]`: exact where the text is verbatim, else the whole scalar.
    #[must_use]
    pub fn place_of(&self, range: std::ops::Range<usize>) -> Place {
        match self.verbatim_at {
            Some(at) => Place { start: at + range.start, end: at + range.end.max(range.start + 1) },
            None => self.place,
        }
    }
}

/// The keys of one trigger, read one by one. A reader that finds a value of the wrong shape reports it and answers
/// `None`, like a key that is absent; [`Keys::has`] tells the two apart.
pub trait Keys {
    /// True if the key stands there.
    fn has(&self, key: &str) -> bool;
    /// The place of the key's value, else of the trigger itself.
    fn place(&self, key: &str) -> Place;
    /// A scalar.
    fn text(&mut self, key: &str) -> Option<Text>;
    /// A scalar or a list of scalars; empty when absent. An empty list is a mistake, which is reported.
    fn texts(&mut self, key: &str) -> Vec<Text>;
    /// A duration with units.
    fn duration(&mut self, key: &str) -> Option<Duration>;
    /// `true` or `false`.
    fn flag(&mut self, key: &str) -> Option<bool>;
    /// A command: a list of words, run directly, or a line for the shell.
    fn command(&mut self, key: &str) -> Option<Action>;
    /// A map, as keys of its own that may be read in turn, whose keys must be among `allowed`; `None` if the value is
    /// no map (which is no error: a scalar may be allowed too).
    fn map(&mut self, key: &str, allowed: &[&str]) -> Option<Box<dyn Keys + '_>>;
    /// Reports a mistake: what is wrong at `place`, and what to do about it (empty for nothing to add).
    fn error(&mut self, place: Place, message: String, help: String);
    /// Reports what is legal but likely wrong.
    fn warn(&mut self, place: Place, message: String, help: String);
}
