//! The keys of each map of a configuration, and lists of words for messages.

use crate::text::nearest;

/// The keys of the file.
pub(super) const TOP: &[&str] = &[
    "jobs",
    "defaults",
    "timezone",
    "max_parallel",
    "grace",
    "wait_for_clock",
    "shutdown_timeout",
    "on_stop",
    "state_dir",
    "state",
    #[cfg(feature = "web")]
    "web",
    #[cfg(feature = "metrics")]
    "metrics",
    #[cfg(feature = "notify")]
    "notify",
];

/// The keys of a job apart from those of its execution; those of its trigger come with the trigger's type.
pub(super) const JOB: &[&str] = &["name", "trigger", "depends_on", "condition", "enabled", "description", "tags", "timezone"];

/// The execution keys, of a job and of `defaults`.
pub(super) const EXECUTION: &[&str] = &[
    "command",
    "executor",
    "inherit_env",
    "env",
    "env_file",
    "cwd",
    "user",
    "group",
    "umask",
    "nice",
    "timeout",
    "kill_grace",
    "kill_mode",
    "retry",
    "success_exit_codes",
    "concurrency",
    "max_parallel",
    "output",
    "limits",
    "on_success",
    "on_failure",
    "on_retry",
];

/// The keys of `executor`.
pub(super) const EXECUTOR: &[&str] = &["type", "script", "args", "env", "cwd", "interpreter"];

/// The keys of `retry`.
pub(super) const RETRY: &[&str] = &["attempts", "delay", "backoff", "max_delay", "jitter", "on_exit_codes"];

/// The keys of `output`.
pub(super) const OUTPUT: &[&str] = &["capture", "max_size", "keep_runs", "keep_for"];

/// The keys of `limits`.
pub(super) const LIMITS: &[&str] = &["memory", "pids", "cpu", "open_files"];

/// The keys of `state`.
pub(super) const STATE: &[&str] = &["durability", "commit_every", "sync_to", "sync_every"];

/// The keys of `web`.
pub(super) const WEB: &[&str] = &["listen", "token_file", "allowed_hosts"];

/// The keys of `metrics`.
pub(super) const METRICS: &[&str] = &["textfile", "every"];

/// The keys of an item of `notify`.
#[cfg(any(feature = "notify", test))]
pub(super) const NOTIFY: &[&str] = &["url", "on", "jobs", "secret_file", "ping", "every", "timeout", "retry"];

/// The keys of its `retry`.
#[cfg(any(feature = "notify", test))]
pub(super) const NOTIFY_RETRY: &[&str] = &["attempts", "delay", "backoff", "max_delay", "jitter"];

/// Top-level keys whose cargo feature, of the same name, is not in this build.
const NOT_BUILT: &[&str] = &[
    #[cfg(not(feature = "web"))]
    "web",
    #[cfg(not(feature = "metrics"))]
    "metrics",
    #[cfg(not(feature = "notify"))]
    "notify",
];

/// The help for a key that is not in this build.
pub(super) const NOT_BUILT_HELP: &str = "remove it, or install a build with this feature";

/// The message about a key that is not in this build.
pub(super) fn not_built(word: &str) -> Option<String> {
    NOT_BUILT.contains(&word).then(|| format!("this build has no `{word}` (cargo feature `{word}`)"))
}

/// `, did you mean …?` if one of the words is near, else nothing.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}

/// The words in backticks: `a`, `b` or `c`; `last` joins the last one.
pub(super) fn listed(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [init @ .., end] => {
            let init: Vec<String> = init.iter().map(|word| format!("`{word}`")).collect();
            format!("{}{last}`{end}`", init.join(", "))
        }
    }
}
