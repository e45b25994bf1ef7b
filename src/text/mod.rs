//! Text for people: the nearest known name to a misspelt one, and the sanitizer of foreign text.
//!
//! A leaf: every room may import it, and it imports none.

mod nearest;
mod sanitize;

pub use nearest::nearest;
pub use sanitize::{REPLACEMENT, clipped, is_unprintable, printable, quoted};
