//! `notify`: webhooks and dead man's switches.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobBuilder};
use hyper::Uri;

use super::draft::Draft;
use super::fields::Fields;
use super::yaml::Value;
use super::{NotifyKind, NotifyOn, NotifyTarget, Surroundings, defaults, keys, retry};
use crate::engine::rules::Retry;
use crate::model::StateWord;
use crate::text::quoted;
use crate::triggers::Place;

/// The shortest period of pings, which tests use.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// A shorter period is likely a mistake: dead man's switches count in minutes.
const SHORT_PERIOD: Duration = Duration::from_secs(30);

/// The largest key in bytes; a larger file is the wrong one.
const LARGEST_SECRET: u64 = 64 << 10;

const EVENTS: &[(&str, NotifyOn)] = &[
    ("failed", NotifyOn::State(StateWord::Failed)),
    ("timed_out", NotifyOn::State(StateWord::TimedOut)),
    ("lost", NotifyOn::State(StateWord::Lost)),
    ("cancelled", NotifyOn::State(StateWord::Cancelled)),
    ("skipped", NotifyOn::State(StateWord::Skipped)),
    ("succeeded", NotifyOn::State(StateWord::Succeeded)),
    ("missed", NotifyOn::State(StateWord::Missed)),
    ("recovered", NotifyOn::Recovered),
];

/// Reads the list `notify`.
pub(super) fn read(fields: &Fields<'_>, surroundings: &Surroundings, jobs: &[Draft<'_>]) -> Vec<NotifyTarget> {
    let Some(field) = fields.get("notify") else { return Vec::new() };
    let cx = fields.cx;
    let Value::List(items) = cx.doc.value(field.node) else {
        let help = "start each with `- url: ...` or `- ping: ...`";
        cx.findings.error(
            fields.place_of("notify"),
            format!("expected a list for `notify`, found {}", cx.kind(field.node)),
            help,
        );
        return Vec::new();
    };
    let targets = (1..).zip(items.iter()).map(|(number, item)| {
        let target = cx.map(*item, "an item of `notify`", keys::NOTIFY)?;
        read_target(&target, field.key.place, number, surroundings, jobs)
    });
    targets.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn read_target(
    fields: &Fields<'_>,
    list: Place,
    number: usize,
    surroundings: &Surroundings,
    jobs: &[Draft<'_>],
) -> Option<NotifyTarget> {
    let findings = fields.cx.findings;
    let (key, foreign): (&str, &[&str]) = match (fields.has("url"), fields.has("ping")) {
        (true, false) => ("url", &["every"]),
        (false, true) => ("ping", &["on", "jobs", "secret_file"]),
        _ => {
            let help = "a `url` receives events, a `ping` is called at a fixed interval while the daemon is healthy";
            findings.error(fields.place, "an item of `notify` needs either `url` or `ping`", help);
            return None;
        }
    };
    for other in fields.iter().filter(|field| foreign.contains(&field.key.value)) {
        let message = format!("`{}` can't be combined with `{key}`", other.key.value);
        findings.error(other.key.place, message, "remove it, or make two items");
    }
    let text = fields.word(key);
    // Reported at the list's key: an address is a secret, and messages go to logs with their line.
    let uri = text.and_then(|text| match read_address(text.value) {
        Ok(uri) => Some(uri),
        Err((what, help)) => {
            findings.error(list, format!("the `{key}` of item {number} of `notify` {what}"), help);
            None
        }
    });
    let kind = if key == "url" { read_webhook(fields, uri.as_ref(), surroundings, jobs) } else { read_ping(fields) };
    let timeout = fields.positive_duration("timeout").unwrap_or(defaults::NOTIFY_TIMEOUT);
    let retry = read_retry(fields, if key == "url" { defaults::NOTIFY_ATTEMPTS } else { defaults::PING_ATTEMPTS });
    uri?;
    Some(NotifyTarget { url: text?.value.into(), kind: kind?, timeout, retry: retry? })
}

/// An address, or a message and a help that quote nothing of it.
fn read_address(text: &str) -> Result<Uri, (&'static str, &'static str)> {
    let example = "for example `https://example.org/hook`";
    let uri: Uri = text.parse().map_err(|_| ("is not a URL", example))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or(("has no host", example))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(("is neither `http` nor `https`", example));
    }
    if authority.as_str().contains('@') {
        let help = "put a token into the path or the query, or sign what is sent with `secret_file`";
        return Err(("has a user name or a password, which are not sent", help));
    }
    Ok(uri)
}

fn read_webhook(fields: &Fields<'_>, uri: Option<&Uri>, surroundings: &Surroundings, jobs: &[Draft<'_>]) -> Option<NotifyKind> {
    let findings = fields.cx.findings;
    let on = match fields.list("on") {
        None if fields.has("on") => None,
        None => Some(defaults::NOTIFY_ON.map(NotifyOn::State).into()),
        Some(texts) => {
            let known: Vec<&str> = EVENTS.iter().map(|(word, _)| *word).collect();
            let events = texts.iter().map(|text| {
                let found = EVENTS.iter().find(|(word, _)| *word == text.value).map(|(_, event)| *event);
                if found.is_none() {
                    let near = keys::did_you_mean(text.value, known.iter().copied());
                    let message = format!("unknown event {}{near}", quoted(text.value));
                    findings.error(text.place, message, format!("expected {}", keys::listed(&known, " or ")));
                }
                found
            });
            events.collect::<Vec<_>>().into_iter().collect::<Option<Box<[NotifyOn]>>>()
        }
    };
    if on.as_ref().is_some_and(|on| on.is_empty()) {
        findings.error(fields.place_of("on"), "`on` is empty: no event would ever be sent", "remove it, or name an event");
    }
    let globs = read_globs(fields, jobs);
    let secret = match fields.path("secret_file") {
        None if fields.has("secret_file") => return None,
        None => None,
        Some(file) => {
            let file = surroundings.start_dir.join(file);
            match read_secret(&file) {
                Ok(secret) => Some(secret),
                Err(why) => {
                    let help = "it contains the key that signs deliveries; the daemon's user must be able to read it";
                    findings.error(fields.place_of("secret_file"), format!("{} {why}", file.display()), help);
                    return None;
                }
            }
        }
    };
    if secret.is_some() && uri.is_some_and(|uri| uri.scheme_str() == Some("http") && !is_local(uri.host().unwrap_or_default())) {
        let message = "signed deliveries are sent unencrypted: anybody on the network path can read them";
        findings.warn(fields.place_of("secret_file"), message, "use https, unless the network is trusted");
    }
    Some(NotifyKind::Event { on: on?, jobs: globs?, secret })
}

fn read_globs(fields: &Fields<'_>, jobs: &[Draft<'_>]) -> Option<Box<[Glob]>> {
    let findings = fields.cx.findings;
    let Some(texts) = fields.one_or_more("jobs") else {
        return if fields.has("jobs") { None } else { Some(Box::default()) };
    };
    if texts.is_empty() {
        findings.error(fields.place_of("jobs"), "`jobs` is empty: no event would ever be sent", "remove it to mean all jobs");
    }
    let globs = texts.iter().map(|text| match GlobBuilder::new(text.value).build() {
        Ok(glob) => {
            let matcher = glob.compile_matcher();
            if !jobs.iter().filter_map(|job| job.name).any(|name| matcher.is_match(name.value)) {
                let help = "no event will be sent for it; a pattern is matched against the whole name, like `backup-*`";
                findings.warn(text.place, format!("no job matches the pattern {}", quoted(text.value)), help);
            }
            Some(glob)
        }
        Err(error) => {
            findings.error(
                text.place,
                format!("invalid pattern {}: {}", quoted(text.value), error.kind()),
                "for example `backup-*`",
            );
            None
        }
    });
    globs.collect::<Vec<_>>().into_iter().collect()
}

fn read_secret(file: &Path) -> Result<super::Secret, String> {
    let size = std::fs::metadata(file).map_err(|error| format!("can't be read: {error}"))?;
    if !size.is_file() || size.len() > LARGEST_SECRET {
        return Err("is not a file with a key".into());
    }
    let bytes = std::fs::read(file).map_err(|error| format!("can't be read: {error}"))?;
    let key = bytes.trim_ascii_end();
    if key.is_empty() { Err("is empty".into()) } else { Ok(super::Secret(Arc::from(key))) }
}

fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn read_ping(fields: &Fields<'_>) -> Option<NotifyKind> {
    let findings = fields.cx.findings;
    let every = match fields.duration("every") {
        None if fields.has("every") => return None,
        every => every.unwrap_or(defaults::PING_EVERY),
    };
    if every < SHORTEST_PERIOD {
        findings.error(fields.place_of("every"), "`every` must be at least `100ms`", "a few minutes are usual: `every: 5m`");
    } else if every < SHORT_PERIOD {
        let help = "a few minutes are usual: each ping wakes the machine";
        findings.warn(fields.place_of("every"), "the interval of the ping is shorter than 30 seconds", help);
    }
    Some(NotifyKind::Ping { every })
}

fn read_retry(fields: &Fields<'_>, attempts: u32) -> Option<Retry> {
    let unset = Retry { attempts, backoff: defaults::NOTIFY_BACKOFF, on_exit_codes: Box::default() };
    if !fields.has("retry") {
        return Some(unset);
    }
    retry::read(fields, retry::Form { keys: keys::NOTIFY_RETRY, attempts: 1..=1_000, needs_attempts: false, unset })
}
