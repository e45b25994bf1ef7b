//! Triggers: what makes a job want to run.
//!
//! A trigger type is one file here and one line in [`REGISTRY`]. The file says which keys the type takes, reads them
//! through [`Keys`] (so that every mistake is reported with its place), and yields a [`Trigger`]. A trigger then has
//! up to two faces:
//!
//! * [`Trigger::timing`]: what the engine can time by itself, as pure data (cron, interval, startup);
//! * [`Trigger::source`]: what waits for the world (a bucket, a folder, a plugin), driven by the reactor through
//!   [`Source`] and [`SourceHost`].
//!
//! How to add a type is told in docs/triggers.md.
//!
//! This room imports `model`, `engine::rules` and `exec::spec`; `config` and `reactor` import it.

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
pub use source::{ChildPipes, FdId, Mailbox, Readiness, Source, SourceHost};

/// Every trigger type that a configuration may name. Adding one: a file in this folder, a line here.
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

/// What a job's surroundings say to its trigger while it is read.
#[derive(Clone, Copy, Debug)]
pub struct JobContext<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The zone that holds for the job: its own `timezone`, else the file's, else the system's.
    pub zone: Zone,
    /// The job's `cwd`, from which relative paths start.
    pub cwd: &'a Path,
    /// A number that is the same for each start on this machine (from machine-id); seeds stable jitter.
    pub machine_seed: u64,
}

/// A type of trigger: its word, its keys and how it is read.
pub struct TriggerType {
    /// The word after `trigger:` or `type:`.
    pub word: &'static str,
    /// The keys it takes beside `type`.
    pub keys: &'static [&'static str],
    /// Reads the keys. `None` when something was wrong; the reasons were reported to [`Keys::error`].
    pub build: fn(&mut dyn Keys, &JobContext<'_>) -> Option<Box<dyn Trigger>>,
}

impl fmt::Debug for TriggerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TriggerType").field(&self.word).finish()
    }
}

/// Whether two triggers are the same one, as far as a reload is concerned; each [`Trigger`] that is `PartialEq` has it.
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

/// One job's trigger, as configured. A source goes on over a reload if its job's trigger is equal before and after.
pub trait Trigger: SameTrigger + Any + fmt::Debug + Send + Sync {
    /// What `status` and the history call its runs' trigger. Types may share a word of the design: whatever watches
    /// something outside is a `watch`.
    fn kind(&self) -> TriggerWord;

    /// One line for `check` and `status`: `cron 0 18 * * *`, `watch s3://bucket/input/`.
    fn summary(&self) -> String;

    /// When it fires, in the words of a person, where there are any: `every day at 18:00`.
    fn words(&self) -> Option<String> {
        None
    }

    /// What happens by default when the job is triggered while a run of it is active.
    fn default_concurrency(&self) -> Concurrency {
        Concurrency::Queue
    }

    /// What the engine keeps time for.
    fn timing(&self) -> Timing {
        Timing::None
    }

    /// What waits for events from outside; the reactor starts it once the job is armed.
    fn source(&self) -> Option<Box<dyn Source>> {
        None
    }

    /// The variables that an event's payload adds to the environment of its run.
    fn event_env(&self, _event: &serde_json::Value) -> Vec<(String, OsString)> {
        Vec::new()
    }
}

/// The type that a word names.
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
