//! The interface by which a trigger type reads its keys: values with their places, and errors that point at them.

use std::time::Duration;

use crate::exec::spec::Action;

/// The place of a value in the file, in byte offsets.
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
    /// Its place, with quotes.
    pub place: Place,
    /// The offset of the first character of `value`, if the text is verbatim in the file (no escapes, no folding), so that each
    /// byte of `value` has a column.
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

/// The keys of one trigger. A value of the wrong type is reported and read as `None`, like an absent key; [`Keys::has`]
/// distinguishes the two.
pub trait Keys {
    /// True if the key is present.
    fn has(&self, key: &str) -> bool;
    /// The place of the key's value, else of the trigger itself.
    fn place(&self, key: &str) -> Place;
    /// A scalar.
    fn text(&mut self, key: &str) -> Option<Text>;
    /// A scalar or a list of scalars; empty when absent. An empty list is an error, which is reported.
    fn texts(&mut self, key: &str) -> Vec<Text>;
    /// A duration with units.
    fn duration(&mut self, key: &str) -> Option<Duration>;
    /// `true` or `false`.
    fn flag(&mut self, key: &str) -> Option<bool>;
    /// A command: a list, executed directly, or a line for the shell.
    fn command(&mut self, key: &str) -> Option<Action>;
    /// A map, whose keys must be in `allowed`; `None` if the value is not a map, which is not an error: a scalar may be allowed
    /// too.
    fn map(&mut self, key: &str, allowed: &[&str]) -> Option<Box<dyn Keys + '_>>;
    /// Reports an error at `place`, with a hint on how to fix it, which may be empty.
    fn error(&mut self, place: Place, message: String, help: String);
    /// Reports something that is valid but probably wrong.
    fn warn(&mut self, place: Place, message: String, help: String);
}
