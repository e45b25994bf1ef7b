//! A stretch of time in which one offset from UTC holds.

/// Neighbouring periods may have the same offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// The first second, since 1970-01-01T00:00:00Z; `i64::MIN` if there was none before.
    pub(super) start: i64,
    /// The first second of the next period; `i64::MAX` if there is none.
    pub(super) end: i64,
    /// Seconds east of UTC.
    pub(super) offset: i32,
    /// The offset before `start`.
    pub(super) before: i32,
}
