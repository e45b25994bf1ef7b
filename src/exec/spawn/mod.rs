//! Starting a process: from a [`Launch`] to a child that has executed its program.
//!
//! | file | subject |
//! | --- | --- |
//! | `launch` | what is started, and why it could not be |
//! | `plan` | what the child reads: argv, envp, account, limits; no path is looked at |
//! | `account`, `environment` | what `user`, `group` and `inherit_env` come to |
//! | `daemon` | what every child needs to know of the daemon and the kernel |
//! | `steps` | **the child's program**: a list of system calls, each reported by its number and errno |
//! | `env_file` | the parser of `env_file`, for the child |
//! | `raw` | system calls without the C library, for the child |
//! | `memory` | the child's stack and report |
//! | `create` | clone3(2) with the daemon's memory shared until exec, else fork(2) |
//! | `output` | the pipes of a process's output |
//! | `start` | from a launch to a child that has executed its program |
//! | `explain` | a failed step as a sentence |
//!
//! Imports `model` and the files of [`super`]; the reactor is the only caller.

mod account;
mod create;
mod daemon;
mod env_file;
mod environment;
mod explain;
mod launch;
mod memory;
pub(super) mod output;
mod plan;
mod raw;
mod start;
mod steps;

use crate::exec::spec::ExecSpec;

pub use launch::{Launch, SpawnError};
pub(super) use memory::trim;
pub use start::{Abandoned, PendingSpawn, Progress, begin, begin_apart, spawn};

/// The user and the group to which a file for this job's processes must belong, if they are not the daemon's own.
///
/// # Errors
/// When its user or group does not exist.
pub(super) fn owner_of(exec: &ExecSpec) -> Result<Option<(u32, Option<u32>)>, SpawnError> {
    let account = account::Account::of(exec)?;
    Ok(account.uid.filter(|_| account.is_other_user()).map(|uid| (uid, account.gid)))
}
