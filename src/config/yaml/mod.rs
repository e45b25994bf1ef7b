//! YAML into a tree of values with their places: the parser, and the fast path for the part of YAML that most
//! configurations are written in.

mod document;
mod fast;

pub(super) use document::*;
