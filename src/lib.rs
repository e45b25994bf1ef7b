//! firelink: a job scheduler for Linux boxes that have little to spare.

pub mod cli;
pub mod config;
pub mod control;
pub mod dag;
pub mod engine;
pub mod exec;
pub mod model;
pub mod reactor;
pub mod store;
pub mod triggers;
