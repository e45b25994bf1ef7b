//! A run's state and outcome, and its JSON form.

use serde::{Deserialize, Serialize};

use super::{Attempt, RunId};

/// How a process ended, as reported by waitid(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// It called exit with this status, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// How a run ended. `Skipped` is a run that never started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The last attempt ended with one of `success_exit_codes`.
    Succeeded,
    /// The last attempt ended otherwise, or could not be started.
    Failed,
    /// The last attempt ran past the job's `timeout`.
    TimedOut,
    /// A person, or `concurrency: replace`, ended it.
    Cancelled,
    /// It was not started, for a reason that is recorded.
    Skipped,
    /// The daemon died and the outcome is unknown.
    Lost,
}

impl Outcome {
    /// True for the one outcome that satisfies `all_success`.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Outcome::Succeeded)
    }

    /// The state with the same name.
    #[must_use]
    pub const fn word(self) -> StateWord {
        match self {
            Outcome::Succeeded => StateWord::Succeeded,
            Outcome::Failed => StateWord::Failed,
            Outcome::TimedOut => StateWord::TimedOut,
            Outcome::Cancelled => StateWord::Cancelled,
            Outcome::Skipped => StateWord::Skipped,
            Outcome::Lost => StateWord::Lost,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All variants.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The word in JSON, logs and the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// The variant of a word, if it is one.
            #[must_use]
            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// The state of a run, as a word.
    StateWord {
        /// Triggered; waits for its dependencies, a slot, its turn or its retry.
        Pending = "pending",
        /// Its process is alive.
        Running = "running",
        /// See [`Outcome::Succeeded`].
        Succeeded = "succeeded",
        /// See [`Outcome::Failed`].
        Failed = "failed",
        /// See [`Outcome::TimedOut`].
        TimedOut = "timed_out",
        /// See [`Outcome::Cancelled`].
        Cancelled = "cancelled",
        /// See [`Outcome::Skipped`].
        Skipped = "skipped",
        /// See [`Outcome::Lost`].
        Lost = "lost",
        /// A deadline without a run.
        Missed = "missed",
    }
}

words! {
    /// The kind of trigger that created a run.
    TriggerWord {
        /// A wall-clock deadline.
        Cron = "cron",
        /// An elapsed-time deadline.
        Interval = "interval",
        /// The daemon's start.
        Startup = "startup",
        /// A new or changed object or file.
        Watch = "watch",
        /// A line of a plugin.
        Plugin = "plugin",
        /// Its dependencies.
        AfterDeps = "after_deps",
        /// A person.
        Manual = "manual",
    }
}

impl StateWord {
    /// True when nothing more can happen to the run.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, StateWord::Pending | StateWord::Running)
    }
}

/// The stable JSON form of a run in `history`, `ctl trigger` and `ctl status`. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// The run's number; null for a missed deadline, which has no run.
    pub id: Option<RunId>,
    /// The job's name.
    pub job: String,
    /// The state.
    pub state: StateWord,
    /// The kind of trigger.
    pub trigger: TriggerWord,
    /// The event's payload, if it has one.
    pub event: Option<serde_json::Value>,
    /// When it was due, or when its event arrived.
    pub scheduled_at: String,
    /// When its first process started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The number of attempts so far.
    pub attempt: Attempt,
    /// The last process's exit status.
    pub exit_code: Option<i32>,
    /// The signal that ended the last process, by name (`SIGTERM`).
    pub signal: Option<String>,
    /// Why it is in this state, unless the state explains itself.
    pub reason: Option<String>,
    /// The path of its output, if there is any.
    pub log: Option<String>,
}
