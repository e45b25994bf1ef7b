//! `notify`: whom the daemon calls, and when.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobBuilder};
use hyper::Uri;

use super::draft::Draft;
use super::fields::Fields;
use super::yaml::Value;
use super::{Calls, Hook, Surroundings, Tell, defaults, keys, retry};
use crate::engine::rules::Retry;
use crate::model::StateWord;
use crate::text::quoted;
use crate::triggers::Place;

/// The shortest period of pings, which tests use.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// A period that is likely a mistake: the other side counts in minutes.
const SHORT_PERIOD: Duration = Duration::from_secs(30);

/// A key is not longer than what a person or a generator makes; more is the wrong file.
const LARGEST_SECRET: u64 = 64 << 10;

const TELLS: &[(&str, Tell)] = &[
    ("failed", Tell::State(StateWord::Failed)),
    ("timed_out", Tell::State(StateWord::TimedOut)),
    ("lost", Tell::State(StateWord::Lost)),
    ("cancelled", Tell::State(StateWord::Cancelled)),
    ("skipped", Tell::State(StateWord::Skipped)),
    ("succeeded", Tell::State(StateWord::Succeeded)),
    ("missed", Tell::State(StateWord::Missed)),
    ("recovered", Tell::Recovered),
];

/// Reads the list `notify`.
pub(super) fn read(fields: &Fields<'_>, surroundings: &Surroundings, jobs: &[Draft<'_>]) -> Vec<Hook> {
    let Some(field) = fields.get("notify") else { return Vec::new() };
    let cx = fields.cx;
    let Value::List(items) = cx.doc.value(field.node) else {
        let help = "begin each with `- url: ...` or `- ping: ...`";
        cx.findings.error(fields.place_of("notify"), "`notify` must be a list", help);
        return Vec::new();
    };
    let hooks = (1..).zip(items.iter()).map(|(number, item)| {
        let hook = cx.map(*item, "an item of `notify`", keys::NOTIFY)?;
        read_hook(&hook, field.key.place, number, surroundings, jobs)
    });
    hooks.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn read_hook(fields: &Fields<'_>, list: Place, number: usize, surroundings: &Surroundings, jobs: &[Draft<'_>]) -> Option<Hook> {
    let findings = fields.cx.findings;
    let (key, foreign): (&str, &[&str]) = match (fields.has("url"), fields.has("ping")) {
        (true, false) => ("url", &["every"]),
        (false, true) => ("ping", &["on", "jobs", "secret_file"]),
        _ => {
            let help = "a `url` is told what happens, a `ping` is called every so often while all is well";
            findings.error(fields.place, "an item of `notify` has either a `url` or a `ping`", help);
            return None;
        }
    };
    for other in fields.iter().filter(|field| foreign.contains(&field.key.value)) {
        let message = format!("`{}` has no meaning beside `{key}`", other.key.value);
        findings.error(other.key.place, message, "leave it out, or make it an item of its own");
    }
    let text = fields.word(key);
    // What is wrong with it is told beside the list's key: an address is a secret, and messages go to logs with their line.
    let uri = text.and_then(|text| match read_address(text.value) {
        Ok(uri) => Some(uri),
        Err((what, help)) => {
            findings.error(list, format!("the `{key}` of item {number} of `notify` {what}"), help);
            None
        }
    });
    let calls = if key == "url" { read_webhook(fields, uri.as_ref(), surroundings, jobs) } else { read_ping(fields) };
    let timeout = fields.positive_duration("timeout").unwrap_or(defaults::NOTIFY_TIMEOUT);
    let retry = read_retry(fields, if key == "url" { defaults::NOTIFY_ATTEMPTS } else { defaults::PING_ATTEMPTS });
    uri?;
    Some(Hook { url: text?.value.into(), calls: calls?, timeout, retry: retry? })
}

/// An address, or what is wrong with it and what to do, without a word of it.
fn read_address(text: &str) -> Result<Uri, (&'static str, &'static str)> {
    let example = "for example `https://example.org/hook`";
    let uri: Uri = text.parse().map_err(|_| ("is no address", example))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or(("names no host", example))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(("is neither http nor https", example));
    }
    if authority.as_str().contains('@') {
        let help = "put a token into the path or the query, or sign what is sent with `secret_file`";
        return Err(("has a user name or a password, which are not sent", help));
    }
    Ok(uri)
}

fn read_webhook(fields: &Fields<'_>, uri: Option<&Uri>, surroundings: &Surroundings, jobs: &[Draft<'_>]) -> Option<Calls> {
    let findings = fields.cx.findings;
    let on = match fields.list("on") {
        None if fields.has("on") => None,
        None => Some(defaults::NOTIFY_ON.map(Tell::State).into()),
        Some(texts) => {
            let known: Vec<&str> = TELLS.iter().map(|(word, _)| *word).collect();
            let told = texts.iter().map(|text| {
                let found = TELLS.iter().find(|(word, _)| *word == text.value).map(|(_, tell)| *tell);
                if found.is_none() {
                    let near = keys::did_you_mean(text.value, known.iter().copied());
                    let message = format!("{} is nothing to be told of{near}", quoted(text.value));
                    findings.error(text.place, message, format!("write {}", keys::listed(&known, " or ")));
                }
                found
            });
            told.collect::<Vec<_>>().into_iter().collect::<Option<Box<[Tell]>>>()
        }
    };
    if on.as_ref().is_some_and(|on| on.is_empty()) {
        findings.error(fields.place_of("on"), "`on` is empty: nothing would ever be told", "leave it out, or name a state");
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
                    let help = "it holds the key with which deliveries are signed; the daemon's user must be able to read it";
                    findings.error(fields.place_of("secret_file"), format!("{} {why}", file.display()), help);
                    return None;
                }
            }
        }
    };
    if secret.is_some() && uri.is_some_and(|uri| uri.scheme_str() == Some("http") && !is_local(uri.host().unwrap_or_default())) {
        let message = "what is signed here travels in the clear: everybody on the way can read it";
        findings.warn(fields.place_of("secret_file"), message, "use https, unless the way there is one's own");
    }
    Some(Calls::Event { on: on?, jobs: globs?, secret })
}

fn read_globs(fields: &Fields<'_>, jobs: &[Draft<'_>]) -> Option<Box<[Glob]>> {
    let findings = fields.cx.findings;
    let Some(texts) = fields.one_or_more("jobs") else {
        return if fields.has("jobs") { None } else { Some(Box::default()) };
    };
    if texts.is_empty() {
        findings.error(fields.place_of("jobs"), "`jobs` is empty: nothing would ever be told", "leave it out to mean all jobs");
    }
    let globs = texts.iter().map(|text| match GlobBuilder::new(text.value).build() {
        Ok(glob) => {
            let matcher = glob.compile_matcher();
            if !jobs.iter().filter_map(|job| job.name).any(|name| matcher.is_match(name.value)) {
                let help = "nothing of it will be told; a pattern is matched with the whole name, as `backup-*`";
                findings.warn(text.place, format!("no job is named like {}", quoted(text.value)), help);
            }
            Some(glob)
        }
        Err(error) => {
            findings.error(
                text.place,
                format!("{} is no pattern: {}", quoted(text.value), error.kind()),
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

fn read_ping(fields: &Fields<'_>) -> Option<Calls> {
    let findings = fields.cx.findings;
    let every = match fields.duration("every") {
        None if fields.has("every") => return None,
        every => every.unwrap_or(defaults::PING_EVERY),
    };
    if every < SHORTEST_PERIOD {
        findings.error(fields.place_of("every"), "`every` must be at least `100ms`", "some minutes are usual: `every: 5m`");
    } else if every < SHORT_PERIOD {
        let help = "some minutes are usual: each ping wakes the box";
        findings.warn(fields.place_of("every"), "the ping comes more often than every 30 seconds", help);
    }
    Some(Calls::Ping { every })
}

fn read_retry(fields: &Fields<'_>, attempts: u32) -> Option<Retry> {
    let unset = Retry { attempts, backoff: defaults::NOTIFY_BACKOFF, on_exit_codes: Box::default() };
    if !fields.has("retry") {
        return Some(unset);
    }
    retry::read(fields, retry::Form { keys: keys::NOTIFY_RETRY, attempts: 1..=1_000, needs_attempts: false, unset })
}
