//! Processes.

pub mod spec;
