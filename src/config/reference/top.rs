//! The keys of the file.

use super::{EXECUTION, Key, Kind, Literal, NOTHING, Section, TEXTS, Unset, duration, flag, key, number, word, word_of, words};
use crate::config::OnStop;
use crate::config::defaults::{self, BACKOFF_WORDS};
use crate::config::top::{DURABILITY, ON_STOP};
use crate::model::Jitter;
use crate::store::Durability;

/// The file.
pub static TOP: Section = Section {
    name: "file",
    about: "What holds for the whole file.",
    needs: &["jobs"],
    keys: &[
        key("jobs", Kind::Jobs, NOTHING, "What to run and when: a list with a map for each job."),
        key(
            "defaults",
            Kind::Map(&EXECUTION),
            NOTHING,
            "Keys of execution for each job that does not set them. Variables of `env` are merged, the job's own winning.",
        ),
        key(
            "timezone",
            Kind::Text,
            words("the system's zone"),
            "The zone in which schedules are read and instants are shown, by its IANA name, like `Europe/Berlin`.",
        ),
        key(
            "max_parallel",
            Kind::Number(1, 10_000),
            number(defaults::MAX_PARALLEL),
            "How many attempts run at once, all jobs together. The others wait for a free slot.",
        ),
        key(
            "grace",
            Kind::Duration,
            duration(defaults::GRACE),
            "How late a wall-clock deadline may still be met. A later one counts as missed, and `catch_up` decides.",
        ),
        key(
            "wait_for_clock",
            Kind::Either(&[Kind::Duration, Kind::Word(&["off"])]),
            word(|| "off".into()),
            "For boxes without a battery-backed clock: no wall-clock deadline fires until the kernel reports the clock as synchronized, or until this time has passed.",
        ),
        key(
            "shutdown_timeout",
            Kind::Duration,
            duration(defaults::SHUTDOWN_TIMEOUT),
            "How long running jobs get to end when the daemon stops, before they are terminated.",
        ),
        key(
            "on_stop",
            Kind::Word(&["wait", "leave"]),
            word(|| word_of(ON_STOP, &OnStop::default())),
            "What happens to running jobs when the daemon stops: `wait` waits for their end, `leave` leaves them to the next daemon, for upgrades.",
        ),
        key(
            "state_dir",
            Kind::Text,
            words("`/var/lib/firelink` for root, else `$XDG_STATE_HOME/firelink`"),
            "The directory of the state and of the logs. `--state-dir` wins.",
        ),
        STATE_KEY,
        WEB_KEY,
        METRICS_KEY,
        NOTIFY_KEY,
    ],
};

const WEB_KEY: Key = key(
    "web",
    Kind::Map(&WEB),
    NOTHING,
    "The web UI: pages, an HTTP API and live events. Without this key nothing listens on the network.",
);

static WEB: Section = Section {
    name: "web",
    about: "The web UI: pages, an HTTP API and live events.",
    needs: &["listen"],
    keys: &[
        key(
            "listen",
            Kind::Text,
            NOTHING,
            "An address with its port, like `127.0.0.1:8080` or `[::1]:8080`, or `unix:` and the path of a socket, which only the daemon's user and root can open.",
        ),
        key(
            "token_file",
            Kind::Text,
            NOTHING,
            "A file whose first line is the token that requests must carry to change something, read at start and at reload. Without it nothing can be changed over TCP. It is required where other machines can connect, and reading needs the token there, too.",
        ),
        key(
            "allowed_hosts",
            Kind::List,
            NOTHING,
            "Host names accepted in requests, besides those of this machine and the address it listens on.",
        ),
    ],
};

const METRICS_KEY: Key = key(
    "metrics",
    Kind::Map(&METRICS),
    NOTHING,
    "Prometheus metrics in a file, where nothing may listen. The web UI serves them at `/metrics` without this key.",
);

static METRICS: Section = Section {
    name: "metrics",
    about: "Prometheus metrics in a file that node_exporter reads.",
    needs: &["textfile"],
    keys: &[
        key(
            "textfile",
            Kind::Text,
            NOTHING,
            "The file, in the directory of node_exporter's textfile collector. Its name ends in `.prom`, as the collector requires. It is replaced atomically.",
        ),
        key(
            "every",
            Kind::Duration,
            duration(defaults::METRICS_EVERY),
            "The longest delay until a change is in the file; at least `1s`. Nothing is written while nothing changes. The file is also written when the daemon stops.",
        ),
    ],
};

const NOTIFY_KEY: Key =
    key("notify", Kind::Maps(&NOTIFY), NOTHING, "Webhooks for events, and pings of dead man's switches. See docs/notify.md.");

static NOTIFY: Section = Section {
    name: "notify",
    about: "One target: a webhook (`url`) gets events, a dead man's switch (`ping`) is called at a fixed interval while the daemon is healthy.",
    needs: &[],
    keys: &[
        key("url", Kind::Text, NOTHING, "Where events are sent by POST, `https://` or `http://`. This or `ping` is required."),
        key(
            "on",
            Kind::List,
            word(|| format!("[{}]", defaults::NOTIFY_ON.map(|state| state.as_str()).join(", "))),
            "The events to send: `failed`, `timed_out`, `lost`, `cancelled`, `skipped`, `succeeded`, `missed`, and `recovered`, which is the first success after a failure.",
        ),
        key("jobs", TEXTS, words("all jobs"), "Patterns of the names of the jobs whose events are sent, like `backup-*`."),
        key(
            "secret_file",
            Kind::Text,
            NOTHING,
            "A file with the key that signs each delivery (HMAC-SHA256), read at start and at reload. White space at its end is ignored.",
        ),
        key("ping", Kind::Text, NOTHING, "The address of a dead man's switch, called by GET while the daemon is healthy."),
        key("every", Kind::Duration, duration(defaults::PING_EVERY), "The interval of the `ping`; at least `100ms`."),
        key(
            "timeout",
            Kind::Duration,
            duration(defaults::NOTIFY_TIMEOUT),
            "How long one request may take, from the name's look-up to the response.",
        ),
        key(
            "retry",
            Kind::Either(&[Kind::Number(1, 1_000), Kind::Map(&NOTIFY_RETRY)]),
            Unset::Computed(|| format!("{} attempts, {} of a ping", defaults::NOTIFY_ATTEMPTS, defaults::PING_ATTEMPTS)),
            "How a failed request is retried. A number is `attempts`.",
        ),
    ],
};

static NOTIFY_RETRY: Section = Section {
    name: "notify-retry",
    about: "How a failed request is retried.",
    needs: &[],
    keys: &[
        key(
            "attempts",
            Kind::Number(1, 1_000),
            Unset::Computed(|| format!("`{}`, `{}` of a ping", defaults::NOTIFY_ATTEMPTS, defaults::PING_ATTEMPTS)),
            "How many requests in all.",
        ),
        key("delay", Kind::Duration, duration(defaults::NOTIFY_BACKOFF.delay), "The delay before the second attempt."),
        key(
            "backoff",
            Kind::Word(&["fixed", "exponential"]),
            word(|| word_of(BACKOFF_WORDS, &defaults::NOTIFY_BACKOFF.factor)),
            "`exponential` doubles the delay each time.",
        ),
        key(
            "max_delay",
            Kind::Duration,
            Unset::Mostly(Literal::Duration(defaults::NOTIFY_BACKOFF.max), ", or `delay` if that is longer"),
            "The longest delay, also if `Retry-After` asks for more.",
        ),
        key(
            "jitter",
            Kind::Flag,
            flag(matches!(defaults::NOTIFY_BACKOFF.jitter, Jitter::Random)),
            "Draws each delay from its upper half.",
        ),
    ],
};

const STATE_KEY: Key = key("state", Kind::Map(&STATE), NOTHING, "How the state is stored.");

static STATE: Section = Section {
    name: "state",
    about: "How the state is stored: the history, what triggers remember, paused jobs.",
    needs: &[],
    keys: &[
        key(
            "durability",
            Kind::Word(&["normal", "full"]),
            word(|| word_of(DURABILITY, &Durability::default())),
            "`normal` survives any crash of the process; `full` fsyncs every transaction, against power cuts.",
        ),
        key(
            "commit_every",
            Kind::Duration,
            duration(defaults::COMMIT_EVERY),
            "Collects changes for this long into one write, for flash memory that wears. A crash may lose that much history, but never causes an event to be processed twice.",
        ),
        key(
            "sync_to",
            Kind::Text,
            NOTHING,
            "A directory to which the state is copied, for a `state_dir` in memory. The copy is restored at start.",
        ),
        key(
            "sync_every",
            Kind::Duration,
            duration(defaults::SYNC_EVERY),
            "The longest time a change may be without a copy. A copy is also made when the daemon stops.",
        ),
    ],
};
