//! Starting a process: from a [`Launch`] to a child that has executed its program.
//!
//! | file | subject |
//! | --- | --- |
//! | `launch` | what is started, and why it could not be |
//! | `start` | which of the ways a launch takes |
//! | `output` | the pipes of a process's output |
//! | `plan` | everything that can be prepared before the child exists: argv, envp, account, directory |
//! | `clone`, `posix` | two ways to start it that share the daemon's memory until exec; `start` has the third, fork |
//! | `environment` | the daemon's own environment, read once |
//! | `env_file` | the parser of `env_file` |
//!
//! Imports `model` and the files of [`super`]; the reactor is the only caller.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod clone;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "no_clone.rs"]
mod clone;
mod env_file;
mod environment;
mod launch;
pub(super) mod output;
mod plan;
mod posix;
mod start;

pub use launch::{Launch, SpawnError};
pub use start::{Apart, PendingSpawn, begin, spawn, spawn_apart};
