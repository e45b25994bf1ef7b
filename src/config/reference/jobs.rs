//! The keys of a job, of its execution and of its trigger.

use std::time::Duration;

use super::{COMMAND, Kind, Literal, NOTHING, Section, TEXTS, Unset, duration, flag, key, number, word, word_of, words};
use crate::config::defaults::{self, BACKOFF_WORDS};
use crate::config::execution::{CAPTURE, KILL_MODE};
use crate::dag::Condition;
use crate::exec::spec::{Capture, DEFAULT_LOG_SIZE, KillMode};
use crate::model::Jitter;
use crate::triggers::defaults as triggers;

/// What a job is and when it runs.
pub static JOB: Section = Section {
    name: "jobs",
    about: "A job: its name, its trigger, and, from the next table, what it runs.",
    needs: &["name"],
    keys: &[
        key(
            "name",
            Kind::Text,
            NOTHING,
            "Unique in the file: letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`, at most 128.",
        ),
        key(
            "trigger",
            Kind::Trigger,
            words("`after_deps` with `depends_on`, else `manual`"),
            "What makes it run. As a word, the trigger's keys are keys of the job; as a map, they are inside it. Both mean the same.",
        ),
        key(
            "depends_on",
            TEXTS,
            NOTHING,
            "Upstream jobs. A run starts when its job was triggered and each upstream job has ended a run that no earlier run of this job has consumed.",
        ),
        key("condition", CONDITION, CONDITION_UNSET, "How the jobs of `depends_on` must end for a run to start."),
        key("enabled", Kind::Flag, flag(defaults::ENABLED), "`false` keeps the job and its history, and triggers nothing."),
        key("description", Kind::Text, NOTHING, "A sentence, shown by the web UI."),
        key("tags", Kind::List, NOTHING, "Labels, shown by the web UI."),
        key("timezone", Kind::Text, words("the file's"), "The zone of this job's schedules and instants."),
    ],
};

const CONDITION_UNSET: Unset = word(|| word_of(Condition::WORDS, &Condition::default()));

const CONDITION: Kind = Kind::Word(&["all_success", "any_success", "all_done", "always", "any_failure"]);

const INHERIT_ENV: Kind = Kind::Either(&[Kind::Word(&["all"]), Kind::List]);

/// How a job runs.
pub static EXECUTION: Section = Section {
    name: "execution",
    about: "How a job's runs are executed. These keys are valid in a job and in `defaults`.",
    needs: &[],
    keys: &[
        key(
            "command",
            COMMAND,
            words("none: the job is a milestone and succeeds at once"),
            "What to run: a text is run by `/bin/sh -c`, a list directly, without a shell.",
        ),
        key("executor", Kind::Map(&EXECUTOR), NOTHING, "A script with its interpreter, in place of `command`."),
        key(
            "inherit_env",
            INHERIT_ENV,
            words("`all`; with another `user`: none"),
            "Which of the daemon's variables its processes inherit, besides `PATH`, `LANG` and `TZ`.",
        ),
        key("env", Kind::Env, NOTHING, "Environment variables of its processes, added to those that are inherited."),
        key(
            "env_file",
            Kind::Text,
            NOTHING,
            "A file of `KEY=value` lines, read whenever a run starts: the place for secrets, which are never logged, stored or shown.",
        ),
        key(
            "cwd",
            Kind::Text,
            words("where the daemon was started"),
            "The working directory; relative paths of the job start there.",
        ),
        key("user", Kind::Text, words("the daemon's"), "The user it runs as, by name or number. Root only."),
        key("group", Kind::Text, words("the user's"), "The group it runs as, by name or number. Root only."),
        key("umask", Kind::Octal, words("the daemon's"), "The file mode creation mask, like `\"027\"`."),
        key("nice", Kind::Number(-20, 19), words("the daemon's"), "Its niceness. Below 0 usually needs root."),
        key(
            "timeout",
            Kind::Duration,
            words("none"),
            "How long an attempt may take. Then its processes get SIGTERM, after `kill_grace` SIGKILL, and the run ends as `timed_out`.",
        ),
        key("kill_grace", Kind::Duration, duration(defaults::KILL_GRACE), "The time between SIGTERM and SIGKILL."),
        key(
            "kill_mode",
            Kind::Word(&["run", "main"]),
            word(|| word_of(KILL_MODE, &KillMode::default())),
            "What is ended with a run: all of its processes (`run`), or the one that was started alone (`main`), for a job that starts a service on purpose. See [signals](signals.md#a-job-that-leaves-something-running).",
        ),
        key(
            "retry",
            Kind::Either(&[Kind::Number(1, 1_000_000), Kind::Map(&RETRY)]),
            words("one attempt"),
            "How a failed attempt is retried. A number is `attempts`.",
        ),
        key(
            "success_exit_codes",
            Kind::Either(&[Kind::Number(0, 255), EXIT_CODES]),
            number(0),
            "The exit codes that mean success.",
        ),
        key(
            "concurrency",
            Kind::Word(&["forbid", "queue", "allow", "replace"]),
            words("`forbid` for `cron` and `interval`, else `queue`"),
            "What happens when the job is triggered while a run of it is active: the new run is skipped (`forbid`), waits (`queue`), runs in parallel (`allow`), or the active one is cancelled (`replace`).",
        ),
        key(
            "max_parallel",
            Kind::Number(1, 10_000),
            words("no limit of its own"),
            "How many runs of this job may be active at once, with `concurrency: allow`.",
        ),
        key("output", Kind::Map(&OUTPUT), NOTHING, "How its output and its runs are kept."),
        key("limits", Kind::Map(&LIMITS), NOTHING, "Resource limits of its runs."),
        key("on_success", COMMAND, NOTHING, "A command after a run that succeeded."),
        key("on_failure", COMMAND, NOTHING, "A command after a run that failed for good."),
        key("on_retry", COMMAND, NOTHING, "A command after a failed attempt that will be retried."),
    ],
};

const EXIT_CODES: Kind = Kind::List;

static EXECUTOR: Section = Section {
    name: "executor",
    about: "A script with its interpreter.",
    needs: &["script"],
    keys: &[
        key(
            "type",
            Kind::Word(&["bash", "sh", "python", "node", "perl", "ruby"]),
            NOTHING,
            "The interpreter, looked up in `PATH`. This or `interpreter` is required.",
        ),
        key("interpreter", TEXTS, NOTHING, "Any other interpreter, with its options: `[lua, -W]`."),
        key("script", Kind::Text, NOTHING, "The script's path; a relative one starts from `cwd`."),
        key("args", Kind::List, NOTHING, "The script's arguments."),
        key("env", Kind::Env, NOTHING, "More environment variables, which override the job's."),
        key("cwd", Kind::Text, words("the job's"), "The directory in which the script runs."),
    ],
};

static RETRY: Section = Section {
    name: "retry",
    about: "How a failed attempt is retried, within the same run.",
    needs: &["attempts"],
    keys: &[
        key("attempts", Kind::Number(1, 1_000_000), NOTHING, "How many attempts a run has in all."),
        key("delay", Kind::Duration, duration(defaults::RETRY_BACKOFF.delay), "The delay before the second attempt."),
        key(
            "backoff",
            Kind::Word(&["fixed", "exponential"]),
            word(|| word_of(BACKOFF_WORDS, &defaults::RETRY_BACKOFF.factor)),
            "`exponential` doubles the delay each time.",
        ),
        key(
            "max_delay",
            Kind::Duration,
            Unset::Mostly(Literal::Duration(defaults::RETRY_BACKOFF.max), ", or `delay` if that is longer"),
            "The longest delay.",
        ),
        key(
            "jitter",
            Kind::Flag,
            flag(matches!(defaults::RETRY_BACKOFF.jitter, Jitter::Random)),
            "Spreads the delays, so that a fleet does not retry in step.",
        ),
        key(
            "on_exit_codes",
            Kind::Either(&[Kind::Number(0, 255), EXIT_CODES]),
            words("any failure"),
            "Retry only after these exit codes.",
        ),
    ],
};

static OUTPUT: Section = Section {
    name: "output",
    about: "How the output of a job's runs, and the runs themselves, are kept.",
    needs: &[],
    keys: &[
        key(
            "capture",
            Kind::Word(&["all", "on_failure", "none"]),
            word(|| word_of(CAPTURE, &Capture::default())),
            "`on_failure` writes nothing to disk when the run succeeds, for SD cards.",
        ),
        key(
            "max_size",
            Kind::Size,
            Unset::Value(Literal::Size(DEFAULT_LOG_SIZE)),
            "The largest log of a run, at least 4KiB. Of a larger output, head and tail are kept. While the run is active, its log may be larger, \
             by up to 8KiB or half of its tail, which is 128KiB at most.",
        ),
        key(
            "keep_runs",
            Kind::Number(0, 1_000_000),
            number(defaults::KEEP_RUNS),
            "How many ended runs are kept, and how many missed deadlines.",
        ),
        key("keep_for", Kind::Duration, words("no limit"), "How long ended runs are kept, at most."),
    ],
};

static LIMITS: Section = Section {
    name: "limits",
    about: "Limits enforced by the kernel. Where a control group is delegated to the daemon, as the packages' systemd unit does, `memory` and `pids` limit the whole run; otherwise they are those of setrlimit(2).",
    needs: &[],
    keys: &[
        key(
            "memory",
            Kind::Size,
            words("the daemon's"),
            "Memory of the run, none of which is swapped out (`memory.max`, and `memory.swap.max` 0 where the kernel has that); else address space of each process.",
        ),
        key(
            "pids",
            Kind::Number(1, 2_147_483_647),
            words("the daemon's"),
            "Processes of the run, else all processes of its user.",
        ),
        key("cpu", Kind::Duration, words("the daemon's"), "CPU time of each process, in whole seconds."),
        key("open_files", Kind::Number(3, 2_147_483_647), words("the daemon's"), "Open files of each process."),
    ],
};

/// The types of triggers, in the order of the registry.
pub static TRIGGERS: &[&Section] = &[
    &Section {
        name: "cron",
        about: "At wall-clock times, with the semantics of Debian's cron.",
        needs: &["schedule"],
        keys: &[
            key(
                "schedule",
                TEXTS,
                NOTHING,
                "One or more: 5 fields as in a crontab, 6 with leading seconds, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, `@reboot`.",
            ),
            key("timezone", Kind::Text, words("the job's"), "The zone in which the schedule is read."),
            key(
                "jitter",
                Kind::Duration,
                duration(Duration::ZERO),
                "Shifts every firing by up to this much, by an amount that is stable on one machine, so that a fleet spreads out.",
            ),
            key(
                "catch_up",
                Kind::Word(&["none", "last", "all"]),
                word(|| "none".into()),
                "What happens to missed deadlines: they are recorded as missed (`none`), the latest is run (`last`), or each is run, at most 1,000 (`all`).",
            ),
        ],
    },
    &Section {
        name: "interval",
        about: "At a fixed interval of elapsed time, which clock steps do not move.",
        needs: &["every"],
        keys: &[
            key("every", Kind::Duration, NOTHING, "The interval, at least 1ms."),
            key(
                "jitter",
                Kind::Duration,
                duration(Duration::ZERO),
                "Shifts every firing by up to this much, by an amount that is stable on one machine.",
            ),
        ],
    },
    &Section { name: "startup", about: "Once per start of the daemon.", needs: &[], keys: &[] },
    &Section {
        name: "watch",
        about: "Once per new or changed object of an S3 bucket or file of a folder, or per message of a queue (see [queues.md](queues.md)).",
        needs: &["source"],
        keys: &[
            key(
                "source",
                Kind::Either(&[Kind::Text, Kind::Map(&SOURCE), Kind::Map(&QUEUE)]),
                NOTHING,
                "`s3://bucket/prefix`, a folder, `sqs://host/account/queue`, or a map for a bucket or queue with settings.",
            ),
            key(
                "filter",
                Kind::Text,
                words("everything"),
                "A glob: without `/` it is matched with the last part of the name, with one with the key below the prefix.",
            ),
            key(
                "poll_interval",
                Kind::Duration,
                Unset::Mostly(Literal::Duration(triggers::POLL_INTERVAL), " for buckets; folders and queues are not polled"),
                "The time from the end of one poll to the next, at least 1s. For a folder it is used only where inotify does not work.",
            ),
            key(
                "existing",
                Kind::Word(&["skip", "process"]),
                word(|| "skip".into()),
                "What the first scan does with the objects it finds: mark them as seen (`skip`), or create runs for them (`process`).",
            ),
            key("batch", Kind::Flag, flag(false), "One run for all objects found by one scan, at most 1,000 per run."),
            key(
                "ordered",
                Kind::Flag,
                flag(false),
                "Buckets: new keys sort after existing ones, so that most polls list from the last key on.",
            ),
            key("recursive", Kind::Flag, flag(false), "Folders: watch subfolders, too."),
            key(
                "stable_for",
                Kind::Duration,
                duration(Duration::ZERO),
                "Folders: a file is reported once it has not changed for this long.",
            ),
            key(
                "ack",
                Kind::Word(&["stored", "after_success"]),
                word(|| "stored".into()),
                "Queues: when a message is deleted: once its run is stored (`stored`), or once its run has succeeded (`after_success`).",
            ),
        ],
    },
    &Section {
        name: "plugin",
        about: "Once per line of JSON that a long-lived program writes; see [plugins.md](plugins.md).",
        needs: &["command"],
        keys: &[
            key(
                "command",
                COMMAND,
                NOTHING,
                "The program. It must be inside the `trigger` map, since a `command` of the job is what its runs execute.",
            ),
            key(
                "restart",
                Kind::Word(&["always", "on_failure", "never"]),
                word(|| "always".into()),
                "When it is restarted after it has exited.",
            ),
        ],
    },
    &Section {
        name: "after_deps",
        about: "When its dependencies allow it.",
        needs: &[],
        keys: &[key("condition", CONDITION, CONDITION_UNSET, "As in the job.")],
    },
    &Section {
        name: "manual",
        about: "When somebody asks (`firelink ctl trigger`), or when its dependencies allow it.",
        needs: &[],
        keys: &[],
    },
];

static SOURCE: Section = Section {
    name: "source",
    about: "A bucket with settings. Absent keys are taken from the usual AWS environment variables and profile.",
    needs: &["s3"],
    keys: &[
        key("s3", Kind::Text, NOTHING, "`bucket/prefix`."),
        key("endpoint", Kind::Text, words("Amazon's"), "The address of another server, like `http://192.168.1.5:9000`."),
        key("region", Kind::Text, words("of the environment or profile"), "The bucket's region."),
        key("profile", Kind::Text, words("of the environment"), "A profile of `~/.aws/config`."),
        key(
            "path_style",
            Kind::Flag,
            words("`true` for servers that are not Amazon's"),
            "Put the bucket into the path of requests, not into the host name.",
        ),
        key("anonymous", Kind::Flag, flag(false), "Send unsigned requests."),
        key(
            "timeout",
            Kind::Duration,
            duration(triggers::SERVER_TIMEOUT),
            "How long the server may be silent before a request is aborted, at least 1s.",
        ),
    ],
};

static QUEUE: Section = Section {
    name: "queue",
    about: "A queue with settings. Absent keys are taken from the queue's URL, or from the usual AWS environment variables and profile.",
    needs: &["sqs"],
    keys: &[
        key("sqs", Kind::Text, NOTHING, "The queue's URL, with `sqs:`, `https:` or `http:`."),
        key("endpoint", Kind::Text, words("the server that the URL names"), "The address of another server."),
        key("region", Kind::Text, words("what the URL says, or the environment or profile"), "The queue's region."),
        key("profile", Kind::Text, words("of the environment"), "A profile of `~/.aws/config`."),
        key(
            "timeout",
            Kind::Duration,
            duration(triggers::SERVER_TIMEOUT),
            "How long the server may be silent beyond the time it was asked to wait.",
        ),
    ],
};
