//! `retry`, of a job or of a webhook: a number of attempts, or a map.

use std::ops::RangeInclusive;

use super::defaults::BACKOFF_WORDS;
use super::fields::Fields;
use super::yaml::Value;
use crate::engine::rules::Retry;
use crate::model::{Backoff, Jitter};

/// What the two owners of the key differ in.
pub(super) struct Form {
    /// The keys of the map.
    pub(super) keys: &'static [&'static str],
    pub(super) attempts: RangeInclusive<i64>,
    /// True if the map must have `attempts`.
    pub(super) needs_attempts: bool,
    /// What holds for keys that are absent.
    pub(super) unset: Retry,
}

/// Reads the key `retry`. `None` if it is absent, or is neither a number nor a map, which is reported.
pub(super) fn read(fields: &Fields<'_>, form: Form) -> Option<Retry> {
    let field = fields.get("retry")?;
    let Form { keys, attempts, needs_attempts, unset } = form;
    if let Value::Scalar(_) = fields.cx.doc.value(field.node) {
        return Some(Retry { attempts: fields.number("retry", attempts)?, ..unset });
    }
    let retry = fields.map("retry", keys)?;
    if needs_attempts && !retry.has("attempts") {
        retry.cx.findings.error(retry.place, "`retry` needs `attempts`", "`attempts: 3` is one run and two more if it fails");
    }
    let jitter = retry.flag("jitter").map(|jitter| if jitter { Jitter::Random } else { Jitter::None });
    let delay = retry.duration("delay").unwrap_or(unset.backoff.delay);
    let read = Retry {
        attempts: retry.number("attempts", attempts).unwrap_or(unset.attempts),
        backoff: Backoff {
            delay,
            factor: retry.choice("backoff", BACKOFF_WORDS).unwrap_or(unset.backoff.factor),
            max: retry.duration("max_delay").unwrap_or(unset.backoff.max.max(delay)),
            jitter: jitter.unwrap_or(unset.backoff.jitter),
        },
        on_exit_codes: retry.exit_codes("on_exit_codes").unwrap_or_default(),
    };
    if read.backoff.max < read.backoff.delay {
        let message = "`max_delay` is shorter than `delay`";
        retry.cx.findings.error(retry.place_of("max_delay"), message, "no retry would wait as long as `delay` says");
    }
    Some(read)
}
