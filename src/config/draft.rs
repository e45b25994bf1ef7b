//! A job between its own reading and the checks that take all jobs of the file.

use super::yaml::Scalar;

/// A job as far as it could be read.
pub(super) struct Draft<'a> {
    pub(super) name: Option<Scalar<'a>>,
    /// The names of its upstream jobs.
    pub(super) depends_on: Vec<Scalar<'a>>,
    pub(super) has_trigger: bool,
    /// Whether the job is enabled; none if it has errors, and then it is in no list of jobs.
    pub(super) enabled: Option<bool>,
}
