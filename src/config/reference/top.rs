//! The keys of the file.

use super::{EXECUTION, Key, Kind, Section, TEXTS, key};

/// The file.
pub static TOP: Section = Section {
    name: "file",
    about: "What holds for the whole file.",
    needs: &["jobs"],
    keys: &[
        key("jobs", Kind::Jobs, "", "What to run and when: a list with a map for each job."),
        key(
            "defaults",
            Kind::Map(&EXECUTION),
            "",
            "Keys of execution for each job that does not set them. Variables of `env` are put together, the job's own winning.",
        ),
        key(
            "timezone",
            Kind::Text,
            "the system's zone",
            "The zone in which schedules are read and instants are shown, by its IANA name, like `Europe/Berlin`.",
        ),
        key(
            "max_parallel",
            Kind::Number(1, 10_000),
            "`32`",
            "How many attempts run at once, all jobs together. The rest wait their turn.",
        ),
        key(
            "grace",
            Kind::Duration,
            "`60s`",
            "How late a deadline of the clock may still be met. What is later was missed, and `catch_up` decides.",
        ),
        key(
            "wait_for_clock",
            Kind::Either(&[Kind::Duration, Kind::Word(&["off"])]),
            "`off`",
            "For boxes without a battery for their clock: until the kernel says that the clock is synchronized, or for so long, no deadline of the clock fires.",
        ),
        key(
            "shutdown_timeout",
            Kind::Duration,
            "`30s`",
            "How long running jobs get when the daemon is asked to stop, before they are ended.",
        ),
        key(
            "on_stop",
            Kind::Word(&["wait", "leave"]),
            "`wait`",
            "What becomes of running jobs at a stop: they are waited for, or left to the next daemon, for upgrades.",
        ),
        key(
            "state_dir",
            Kind::Text,
            "`/var/lib/firelink` for root, else `$XDG_STATE_HOME/firelink`",
            "The directory of the state and of the logs. `--state-dir` wins.",
        ),
        STATE_KEY,
        WEB_KEY,
        METRICS_KEY,
        NOTIFY_KEY,
    ],
};

const WEB_KEY: Key =
    key("web", Kind::Map(&WEB), "", "The window: pages, an HTTP API and live events. Without it nothing listens.");

static WEB: Section = Section {
    name: "web",
    about: "The window: pages, an HTTP API and live events.",
    needs: &["listen"],
    keys: &[
        key(
            "listen",
            Kind::Text,
            "",
            "An address with its port, like `127.0.0.1:8080` or `[::1]:8080`, or `unix:` and the path of a socket's file, which only the daemon's user and root can open.",
        ),
        key(
            "token_file",
            Kind::Text,
            "",
            "A file whose first line is the token that requests must carry to change something, read at a start and at a reload. Without it nothing can be changed over TCP. Where other machines reach the window it must be there, and reading needs the token too.",
        ),
        key(
            "allowed_hosts",
            Kind::List,
            "",
            "Names by which the window may be called, besides those of this machine and the address that it listens on.",
        ),
    ],
};

const METRICS_KEY: Key = key(
    "metrics",
    Kind::Map(&METRICS),
    "",
    "Numbers for Prometheus in a file, where nothing may listen. The window has them at `/metrics` without this key.",
);

static METRICS: Section = Section {
    name: "metrics",
    about: "Numbers for Prometheus in a file that its node_exporter reads.",
    needs: &["textfile"],
    keys: &[
        key(
            "textfile",
            Kind::Text,
            "",
            "The file, in the folder that node_exporter's textfile collector reads. Its name ends in `.prom`, as the collector demands. It is replaced whole, so nobody reads half of it.",
        ),
        key(
            "every",
            Kind::Duration,
            "`60s`",
            "How long a change may be without being in the file; at least `1s`. Nothing is written while nothing happens. The daemon's end writes it too.",
        ),
    ],
};

const NOTIFY_KEY: Key = key(
    "notify",
    Kind::Maps(&NOTIFY),
    "",
    "Whom the daemon calls: webhooks that are told what happens, and dead man's switches. See docs/notify.md.",
);

static NOTIFY: Section = Section {
    name: "notify",
    about: "One that is called: a `url` is told what happens, a `ping` is called every so often while all is well.",
    needs: &[],
    keys: &[
        key("url", Kind::Text, "", "Where events are sent by POST, `https://` or `http://`. This or `ping` is needed."),
        key(
            "on",
            Kind::List,
            "`[failed, timed_out, lost]`",
            "What is told: `failed`, `timed_out`, `lost`, `cancelled`, `skipped`, `succeeded`, `missed`, and `recovered`, which is the first success after a failure.",
        ),
        key("jobs", TEXTS, "all jobs", "Patterns of the names of the jobs that are told of, as `backup-*`."),
        key(
            "secret_file",
            Kind::Text,
            "",
            "A file with the key that signs each delivery (HMAC-SHA256), read at a start and at a reload. White space at its end does not count.",
        ),
        key("ping", Kind::Text, "", "What is called by GET every so often while the daemon is well: a dead man's switch."),
        key("every", Kind::Duration, "`5m`", "How often the `ping` is called; at least `100ms`."),
        key("timeout", Kind::Duration, "`10s`", "How long one call may take, from the name's look-up to the answer."),
        key(
            "retry",
            Kind::Either(&[Kind::Number(1, 1_000), Kind::Map(&NOTIFY_RETRY)]),
            "5 attempts, 2 of a ping",
            "What follows a call that failed. A number is `attempts`.",
        ),
    ],
};

static NOTIFY_RETRY: Section = Section {
    name: "notify-retry",
    about: "A call that failed is tried again.",
    needs: &[],
    keys: &[
        key("attempts", Kind::Number(1, 1_000), "`5`, `2` of a ping", "How many calls in all."),
        key("delay", Kind::Duration, "`5s`", "The wait before the second attempt."),
        key("backoff", Kind::Word(&["fixed", "exponential"]), "`exponential`", "`exponential` doubles the wait each time."),
        key(
            "max_delay",
            Kind::Duration,
            "`5m`, or `delay` if that is longer",
            "The longest wait, also if `Retry-After` asks for more.",
        ),
        key("jitter", Kind::Flag, "`true`", "Draws each wait from half of it to the whole."),
    ],
};

const STATE_KEY: Key = key("state", Kind::Map(&STATE), "", "How the state is kept.");

static STATE: Section = Section {
    name: "state",
    about: "How the state is kept: the history, what triggers remember, paused jobs.",
    needs: &[],
    keys: &[
        key(
            "durability",
            Kind::Word(&["normal", "full"]),
            "`normal`",
            "`normal` survives any crash of the process; `full` also presses each change onto the disk, against power cuts.",
        ),
        key(
            "commit_every",
            Kind::Duration,
            "`0s`",
            "Gathers changes for so long into one write, for memory that wears. That much history may be lost, never an event that was acted on twice.",
        ),
        key(
            "sync_to",
            Kind::Text,
            "",
            "A directory to which the state is copied, for a `state_dir` in memory. At the start the copy is taken back.",
        ),
        key("sync_every", Kind::Duration, "`1h`", "How long a change may be without a copy. The daemon's end makes one, too."),
    ],
};
