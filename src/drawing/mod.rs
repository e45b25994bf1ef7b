//! Drawings of the dependency graph, as plain data: [`Layout`] for SVG and the web UI, [`lanes()`] for terminals. Pure.
//!
//! This room imports `dag` and `model`; `cli` and the web UI's graph command render what it returns.

mod lanes;
mod layout;

pub use lanes::{Cell, LANES, Row, lanes};
pub use layout::{Layout, Line, Place};
