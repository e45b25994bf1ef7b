//! Dependencies: the graph and the credit rule of the design's section 5. Pure.

/// How the dependencies of a job must have ended for it to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Each of them succeeded.
    #[default]
    AllSuccess,
    /// At least one of them succeeded.
    AnySuccess,
    /// Each of them ended, in whatever way.
    AllDone,
    /// At least one of them ended otherwise than by success.
    AnyFailure,
}

impl Condition {
    /// The words that a configuration may use.
    pub const WORDS: &'static [(&'static str, Condition)] = &[
        ("all_success", Condition::AllSuccess),
        ("any_success", Condition::AnySuccess),
        ("all_done", Condition::AllDone),
        ("always", Condition::AllDone),
        ("any_failure", Condition::AnyFailure),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Condition::WORDS.iter().find(|(_, condition)| *condition == self).map_or("all_success", |(word, _)| word)
    }
}
mod credits;
mod graph;

pub use credits::{Credits, Verdict};
pub use graph::Graph;
