//! The keys of a job, of its execution and of its trigger.

use super::{COMMAND, Kind, Section, TEXTS, key};

/// What a job is and when it runs.
pub static JOB: Section = Section {
    name: "jobs",
    about: "A job: a name, what makes it want to run, and, from the next table, what it runs.",
    needs: &["name"],
    keys: &[
        key(
            "name",
            Kind::Text,
            "",
            "Unique in the file: letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`, at most 128.",
        ),
        key(
            "trigger",
            Kind::Trigger,
            "`after_deps` with `depends_on`, else `manual`",
            "What makes it want to run. As a word, the trigger's keys stand beside it in the job; as a map, within it. Both mean the same.",
        ),
        key(
            "depends_on",
            TEXTS,
            "",
            "Jobs that must have ended a run since this job's previous run took theirs in. A run starts when its job was triggered and every dependency is satisfied.",
        ),
        key("condition", CONDITION, "`all_success`", "How the jobs of `depends_on` must end."),
        key("enabled", Kind::Flag, "`true`", "`false` keeps the job and its history, and triggers nothing."),
        key("description", Kind::Text, "", "For people."),
        key("tags", Kind::List, "", "For people."),
        key("timezone", Kind::Text, "the file's", "The zone of this job's schedules and instants."),
    ],
};

const CONDITION: Kind = Kind::Word(&["all_success", "any_success", "all_done", "always", "any_failure"]);

/// How a job runs.
pub static EXECUTION: Section = Section {
    name: "execution",
    about: "How a job's runs are executed. These keys may stand in a job and in `defaults`.",
    needs: &[],
    keys: &[
        key(
            "command",
            COMMAND,
            "none: the job is a milestone and succeeds at once",
            "What to run: a text is run by `/bin/sh -c`, a list directly, without a shell.",
        ),
        key("executor", Kind::Map(&EXECUTOR), "", "A script with its interpreter, in place of `command`."),
        key("env", Kind::Env, "", "Variables for its processes. The daemon's own environment is below them."),
        key(
            "env_file",
            Kind::Text,
            "",
            "A file of `KEY=value` lines, read at each start of a run: the place for secrets, which are never logged, stored or shown.",
        ),
        key(
            "cwd",
            Kind::Text,
            "where the daemon was started",
            "The directory in which it runs; relative paths of the job start there.",
        ),
        key("user", Kind::Text, "the daemon's", "The user as whom it runs, by name or number. Root only."),
        key("group", Kind::Text, "the user's", "The group as which it runs. Root only."),
        key("umask", Kind::Octal, "the daemon's", "The mask of new files' modes, like `\"027\"`."),
        key("nice", Kind::Number(-20, 19), "the daemon's", "Its niceness. Below 0 usually needs root."),
        key(
            "timeout",
            Kind::Duration,
            "none",
            "How long an attempt may take. Then its processes get SIGTERM, after `kill_grace` SIGKILL, and the run is `timed_out`.",
        ),
        key("kill_grace", Kind::Duration, "`10s`", "The time between SIGTERM and SIGKILL."),
        key(
            "retry",
            Kind::Either(&[Kind::Number(1, 1_000_000), Kind::Map(&RETRY)]),
            "one attempt",
            "What follows a failed attempt. A number is `attempts`.",
        ),
        key("success_exit_codes", Kind::Either(&[Kind::Number(0, 255), EXIT_CODES]), "`0`", "The exit codes that mean success."),
        key(
            "concurrency",
            Kind::Word(&["forbid", "queue", "allow", "replace"]),
            "`forbid` for `cron` and `interval`, else `queue`",
            "When the job is triggered while a run of it is active: skip the new one, let it wait, run both, or cancel the old one.",
        ),
        key(
            "max_parallel",
            Kind::Number(1, 10_000),
            "no limit of its own",
            "How many runs of this job at once, with `concurrency: allow`.",
        ),
        key("output", Kind::Map(&OUTPUT), "", "What is kept of its output and of its runs."),
        key("limits", Kind::Map(&LIMITS), "", "Bounds on what its runs may use."),
        key("on_success", COMMAND, "", "A command after a run that succeeded."),
        key("on_failure", COMMAND, "", "A command after a run that failed for good."),
        key("on_retry", COMMAND, "", "A command after a failed attempt that another one follows."),
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
            "",
            "The interpreter, as it is found in `PATH`. This or `interpreter` is needed.",
        ),
        key("interpreter", TEXTS, "", "Any other interpreter, with its options: `[lua, -W]`."),
        key("script", Kind::Text, "", "The script's path; a relative one starts from `cwd`."),
        key("args", Kind::List, "", "The script's arguments."),
        key("env", Kind::Env, "", "More variables, which win over the job's."),
        key("cwd", Kind::Text, "the job's", "The directory in which the script runs."),
    ],
};

static RETRY: Section = Section {
    name: "retry",
    about: "A failed attempt is followed by another one of the same run.",
    needs: &["attempts"],
    keys: &[
        key("attempts", Kind::Number(1, 1_000_000), "", "How many attempts a run has in all."),
        key("delay", Kind::Duration, "`1s`", "The wait before the second attempt."),
        key("backoff", Kind::Word(&["fixed", "exponential"]), "`fixed`", "`exponential` doubles the wait each time."),
        key("max_delay", Kind::Duration, "`5m`, or `delay` if that is longer", "The longest wait."),
        key("jitter", Kind::Flag, "`false`", "Spreads the waits, so that a fleet does not come back all at once."),
        key(
            "on_exit_codes",
            Kind::Either(&[Kind::Number(0, 255), EXIT_CODES]),
            "any failure",
            "Only these exit codes are worth another attempt.",
        ),
    ],
};

static OUTPUT: Section = Section {
    name: "output",
    about: "What is kept of the output of a job's runs, and of the runs.",
    needs: &[],
    keys: &[
        key(
            "capture",
            Kind::Word(&["all", "on_failure", "none"]),
            "`all`",
            "`on_failure` writes nothing to disk when the run succeeds, for SD cards.",
        ),
        key("max_size", Kind::Size, "`10MiB`", "The largest log of a run, at least 4KiB. Of more, head and tail are kept."),
        key("keep_runs", Kind::Number(0, 1_000_000), "`100`", "How many ended runs are kept, and how many missed deadlines."),
        key("keep_for", Kind::Duration, "no limit", "How long they are kept, besides."),
    ],
};

static LIMITS: Section = Section {
    name: "limits",
    about: "Bounds that the kernel keeps. Where a control group was delegated to the daemon, as the unit of the packages does, `memory` and `pids` bound the whole run; else they are those of setrlimit(2).",
    needs: &[],
    keys: &[
        key("memory", Kind::Size, "the daemon's", "The memory of the run, else the address space of each process."),
        key("pids", Kind::Number(1, 2_147_483_647), "the daemon's", "The processes of the run, else all of its user."),
        key("cpu", Kind::Duration, "the daemon's", "The time of each process on the processor, in whole seconds."),
        key("open_files", Kind::Number(3, 2_147_483_647), "the daemon's", "The open files of each process."),
    ],
};

/// The types of triggers, in the order of the registry.
pub static TRIGGERS: &[&Section] = &[
    &Section {
        name: "cron",
        about: "At instants of the clock, with the semantics of Debian's cron.",
        needs: &["schedule"],
        keys: &[
            key(
                "schedule",
                TEXTS,
                "",
                "One or more: 5 fields as in a crontab, 6 with leading seconds, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, `@reboot`.",
            ),
            key("timezone", Kind::Text, "the job's", "The zone in which the schedule is read."),
            key(
                "jitter",
                Kind::Duration,
                "`0s`",
                "Shifts every instant by up to so much, always by the same on one box, so that a fleet spreads out.",
            ),
            key(
                "catch_up",
                Kind::Word(&["none", "last", "all"]),
                "`none`",
                "What becomes of deadlines that were missed: recorded as missed, the latest is run once, or each is run (at most 1,000).",
            ),
        ],
    },
    &Section {
        name: "interval",
        about: "Every so often, on a fixed grid of elapsed time that no clock step moves.",
        needs: &["every"],
        keys: &[
            key("every", Kind::Duration, "", "The time from one firing to the next, at least 1ms."),
            key("jitter", Kind::Duration, "`0s`", "Shifts the grid by up to so much, always by the same on one box."),
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
                "",
                "`s3://bucket/prefix`, a folder, `sqs://host/account/queue`, or a map for a bucket or queue with settings.",
            ),
            key(
                "filter",
                Kind::Text,
                "everything",
                "A glob: without `/` about the last part of the name, with one about the key below the prefix.",
            ),
            key(
                "poll_interval",
                Kind::Duration,
                "`30s` for buckets; folders and queues are not polled",
                "From the end of one poll to the next, at least 1s. For a folder only where inotify does not work.",
            ),
            key(
                "existing",
                Kind::Word(&["skip", "process"]),
                "`skip`",
                "What the first scan does with what it finds: take it as seen, or make runs of it.",
            ),
            key("batch", Kind::Flag, "`false`", "One run for all that one scan found, at most 1,000 a run."),
            key("ordered", Kind::Flag, "`false`", "Buckets: keys only grow, so that most polls list from the last key on."),
            key("recursive", Kind::Flag, "`false`", "Folders: those within it, too."),
            key("stable_for", Kind::Duration, "`0s`", "Folders: a file counts once it has not changed for so long."),
            key(
                "ack",
                Kind::Word(&["stored", "after_success"]),
                "`stored`",
                "Queues: when a message is deleted, once its run is in the store or once it has succeeded.",
            ),
        ],
    },
    &Section {
        name: "plugin",
        about: "Once per line of JSON that a long-lived program writes; see [plugins.md](plugins.md).",
        needs: &["command"],
        keys: &[
            key("command", COMMAND, "", "The program. Within `trigger`, since a `command` beside it is what the job runs."),
            key("restart", Kind::Word(&["always", "on_failure", "never"]), "`always`", "When it is started again after its end."),
        ],
    },
    &Section {
        name: "after_deps",
        about: "When its dependencies allow it.",
        needs: &[],
        keys: &[key("condition", CONDITION, "`all_success`", "As in the job.")],
    },
    &Section {
        name: "manual",
        about: "When somebody asks (`firelink ctl trigger`), or its dependencies allow it if it has any.",
        needs: &[],
        keys: &[],
    },
];

static SOURCE: Section = Section {
    name: "source",
    about: "A bucket with settings. What is not set comes from the usual AWS variables and profile.",
    needs: &["s3"],
    keys: &[
        key("s3", Kind::Text, "", "`bucket/prefix`."),
        key("endpoint", Kind::Text, "Amazon's", "The address of another server, like `http://192.168.1.5:9000`."),
        key("region", Kind::Text, "of the environment or profile", "The bucket's region."),
        key("profile", Kind::Text, "of the environment", "A profile of `~/.aws/config`."),
        key(
            "path_style",
            Kind::Flag,
            "`true` for servers that are not Amazon's",
            "The bucket is in the path and not in the host's name.",
        ),
        key("anonymous", Kind::Flag, "`false`", "Requests are not signed."),
        key("timeout", Kind::Duration, "`20s`", "How long a server may be silent before a request is given up, at least 1s."),
    ],
};

static QUEUE: Section = Section {
    name: "queue",
    about: "A queue with settings. What is not set comes from the queue's URL, or from the usual AWS variables and profile.",
    needs: &["sqs"],
    keys: &[
        key("sqs", Kind::Text, "", "The queue's URL, with `sqs:`, `https:` or `http:`."),
        key("endpoint", Kind::Text, "the server that the URL names", "The address of another server."),
        key("region", Kind::Text, "what the URL says, or the environment or profile", "The queue's region."),
        key("profile", Kind::Text, "of the environment", "A profile of `~/.aws/config`."),
        key("timeout", Kind::Duration, "`20s`", "How long a server may be silent beyond the time that it was asked to wait."),
    ],
};
