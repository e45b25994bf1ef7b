//! Triggers: the reasons for a job to run.
//!
//! A trigger type is a file or folder here and a line in [`REGISTRY`]. It names its keys, reads them through [`Keys`], which
//! reports every error with its place, and makes a [`Trigger`] of them, with up to two parts:
//!
//! * [`Trigger::timing`]: what the engine times by itself, as plain data (cron, interval, startup);
//! * [`Trigger::source`]: what waits for external events (a bucket, a folder, a plugin), driven by the reactor through
//!   [`Source`] and [`SourceHost`].
//!
//! | module | subject |
//! | --- | --- |
//! | `cron`, `interval`, `startup`, `manual`, `after_deps` | types without a source |
//! | `watch_trigger` | the type `watch`; its sources are [`s3`], [`sqs`] and `files` |
//! | `plugin` | the type `plugin`: a process whose output is events |
//! | [`watch`], [`aws`] | what the sources of `watch` share, and what those of AWS share |
//! | `keys`, `source` | the interfaces to the configuration and to the reactor |
//!
//! How to add a type: docs/triggers.md. Of the engine, triggers import plain data alone ([`crate::engine::timing`]).

mod after_deps;
pub mod aws;
mod cron;
pub mod defaults;
#[cfg(test)]
mod echo;
mod files;
mod interval;
mod jitter;
mod keys;
mod manual;
mod plugin;
pub mod s3;
#[doc(hidden)]
pub mod seams;
mod source;
pub mod sqs;
mod startup;
pub mod watch;
mod watch_trigger;

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::cron::Zone;
use crate::engine::timing::{Concurrency, Timing};
use crate::model::TriggerWord;

pub use crate::model::Spread;
pub use jitter::stable_offset;
pub use keys::{Keys, Place, Text};
pub use source::{AskId, ChildPipes, FdId, Mailbox, Readiness, Source, SourceHost};

/// All trigger types.
pub static REGISTRY: &[&TriggerType] = &[
    &cron::TYPE,
    &interval::TYPE,
    &startup::TYPE,
    &watch_trigger::TYPE,
    &plugin::TYPE,
    &after_deps::TYPE,
    &manual::TYPE,
    #[cfg(test)]
    &echo::TYPE,
];

/// The job whose trigger is read.
#[derive(Clone, Copy, Debug)]
pub struct JobContext<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The job's time zone: its own `timezone`, else the file's, else the system's.
    pub zone: Zone,
    /// The job's `cwd`; relative paths start there.
    pub cwd: &'a Path,
    /// The seed of stable jitter, the same for each start on this machine (from machine-id).
    pub machine_seed: u64,
}

/// A trigger type.
pub struct TriggerType {
    /// The value of `trigger:` or `type:`.
    pub word: &'static str,
    /// Its keys besides `type`.
    pub keys: &'static [&'static str],
    /// Reads the keys. `None` after an error, which was reported to [`Keys::error`].
    pub build: fn(&mut dyn Keys, &JobContext<'_>) -> Option<Box<dyn Trigger>>,
}

impl fmt::Debug for TriggerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TriggerType").field(&self.word).finish()
    }
}

/// The comparison of triggers at a reload; every [`Trigger`] that is `PartialEq` has it.
pub trait SameTrigger {
    /// True if the other is of the same type and has the same settings.
    fn same_as(&self, other: &dyn Trigger) -> bool;
}

impl<T: Trigger + PartialEq> SameTrigger for T {
    fn same_as(&self, other: &dyn Trigger) -> bool {
        (other as &dyn Any).downcast_ref::<T>().is_some_and(|other| self == other)
    }
}

impl PartialEq for dyn Trigger {
    fn eq(&self, other: &dyn Trigger) -> bool {
        self.same_as(other)
    }
}

/// One job's trigger, as configured. A reload keeps the source of a job whose trigger is equal before and after.
pub trait Trigger: SameTrigger + Any + fmt::Debug + Send + Sync {
    /// The trigger of its runs in `status` and in the history. Types may share a word: all watches are `watch`.
    fn kind(&self) -> TriggerWord;

    /// One line for `check` and `status`: `cron 0 18 * * *`, `watch s3://bucket/input/`.
    fn summary(&self) -> String;

    /// When it fires, in English, if that can be said: `every day at 18:00`.
    fn words(&self) -> Option<String> {
        None
    }

    /// The default of `concurrency`.
    fn default_concurrency(&self) -> Concurrency {
        Concurrency::Queue
    }

    /// What the engine times.
    fn timing(&self) -> Timing {
        Timing::None
    }

    /// The source of external events; the reactor starts it when the job is armed.
    fn source(&self) -> Option<Box<dyn Source>> {
        None
    }

    /// The environment variables of a run that this event has triggered.
    fn event_env(&self, _event: &serde_json::Value) -> Vec<(String, OsString)> {
        Vec::new()
    }
}

/// The type with this word.
#[must_use]
pub fn find_type(word: &str) -> Option<&'static TriggerType> {
    REGISTRY.iter().copied().find(|t| t.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, load_text};

    #[test]
    fn a_trigger_is_the_same_after_a_reload_if_nothing_of_it_has_changed() {
        let load = |trigger: &str| {
            let around = Surroundings { start_dir: "/".into(), machine_seed: 1, uid: 65_534 };
            let text = format!("jobs: [{{ name: a, command: work, trigger: {trigger} }}]");
            load_text(Path::new("f"), &text, &around).expect("a valid file").jobs.remove(0)
        };
        let triggers = [
            "manual",
            "startup",
            "{ type: cron, schedule: '1 * * * *' }",
            "{ type: cron, schedule: '2 * * * *' }",
            "{ type: interval, every: 5m }",
            "{ type: interval, every: 6m }",
            "{ type: watch, source: /in }",
            "{ type: watch, source: /in, filter: '*.txt' }",
            "{ type: watch, source: /in, filter: '*.csv' }",
            "{ type: plugin, command: listen }",
            "{ type: plugin, command: listen, restart: never }",
        ];
        for (row, one) in triggers.iter().enumerate() {
            for (column, other) in triggers.iter().enumerate() {
                assert_eq!(load(one) == load(other), row == column, "{one} and {other}");
                assert_eq!(*load(one).trigger == *load(other).trigger, row == column, "{one} and {other}");
            }
        }
    }
}
