//! Dependencies: the graph and the credit rule of the design's section 5. Pure.

/// How the dependencies of a job must have ended for it to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Each of them succeeded.
    #[default]
    AllSuccess,
    /// At least one of them succeeded.
    AnySuccess,
    /// Each of them ended, with any outcome.
    AllDone,
    /// At least one of them ended without success.
    AnyFailure,
}

impl Condition {
    /// The names in a configuration; `always` is an alias.
    pub const WORDS: &'static [(&'static str, Condition)] = &[
        ("all_success", Condition::AllSuccess),
        ("any_success", Condition::AnySuccess),
        ("all_done", Condition::AllDone),
        ("always", Condition::AllDone),
        ("any_failure", Condition::AnyFailure),
    ];

    /// The name in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        Condition::WORDS.iter().find(|(_, condition)| *condition == self).map_or("all_success", |(word, _)| word)
    }
}
mod credits;
mod graph;

pub use credits::{Credits, Verdict};
pub use graph::Graph;
