//! Text for people: the nearest known name to a misspelt one.
//!
//! A leaf: every room may import it, and it imports none.

mod nearest;

pub use nearest::nearest;
