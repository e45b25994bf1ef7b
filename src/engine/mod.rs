//! The pure scheduling core.

pub mod rules;
