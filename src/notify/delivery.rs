//! A delivery: its body and signature.

use chrono::{SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::config::Secret;
use crate::control::commands::events::Happened;
use crate::model::{RunView, StateWord};

/// The longest payload of a run that is included, in bytes: deliveries are queued in memory.
const LARGEST_PAYLOAD: usize = 12 << 10;

/// A report of an event, or a ping.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Identifies the delivery; the same in each attempt.
    pub(super) id: String,
    report: Option<Box<Report>>,
}

#[derive(Clone, Debug)]
struct Report {
    event: Happened,
    run: Option<RunView>,
    state: StateWord,
    recovered: bool,
}

/// The body, with the objects of `ctl events` and `history`.
#[derive(Serialize)]
struct Body<'a> {
    version: &'static str,
    host: &'a str,
    delivery: &'a str,
    sent_at: String,
    dropped: u64,
    recovered: bool,
    event: &'a Happened,
    run: Option<&'a RunView>,
}

impl Delivery {
    /// Reports an event; `run` is the run that it is about, if any.
    #[must_use]
    pub fn new(event: Happened, mut run: Option<RunView>, state: StateWord, recovered: bool) -> Delivery {
        if let Some(run) = &mut run
            && run.event.as_ref().is_some_and(|event| event.to_string().len() > LARGEST_PAYLOAD)
        {
            run.event = None;
        }
        Delivery { id: String::new(), report: Some(Box::new(Report { event, run, state, recovered })) }
    }

    pub(super) fn ping() -> Delivery {
        Delivery { id: String::new(), report: None }
    }

    pub(super) fn named(self, id: String) -> Delivery {
        Delivery { id, ..self }
    }

    pub(super) fn state(&self) -> StateWord {
        self.report.as_ref().map_or(StateWord::Succeeded, |report| report.state)
    }

    pub(super) fn recovered(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.recovered)
    }

    /// The log message of a delivery that is given up.
    pub(super) fn failure(&self) -> String {
        let Some(report) = &self.report else { return "ping failed".into() };
        let (job, state) = (report.event.job.as_deref().unwrap_or("?"), report.state.as_str());
        match report.event.run {
            Some(run) => format!("webhook delivery failed: run {run} of `{job}` ({state})"),
            None => format!("webhook delivery failed: `{job}` ({state})"),
        }
    }

    /// The body, and its timestamp in seconds since the epoch; `None` for a ping.
    pub(super) fn body(&self, host: &str, dropped: u64) -> Option<(String, i64)> {
        let report = self.report.as_ref()?;
        let now = Utc::now();
        let body = Body {
            version: env!("CARGO_PKG_VERSION"),
            host,
            delivery: &self.id,
            sent_at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
            dropped,
            recovered: report.recovered,
            event: &report.event,
            run: report.run.as_ref(),
        };
        Some((serde_json::to_string(&body).ok()?, now.timestamp()))
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.
pub(super) fn signature(secret: &Secret, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
    mac.update(body.as_bytes());
    let digits = mac.finalize().into_bytes().iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    Some(format!("sha256={digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_matches_the_vector_of_rfc_4231() {
        let secret = Secret(b"Jefe".as_slice().into());
        assert_eq!(
            signature(&secret, "what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
