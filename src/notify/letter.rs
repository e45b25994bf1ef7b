//! What a hook is sent, and its signature.

use chrono::{SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::config::Secret;
use crate::control::commands::events::Happened;
use crate::model::{RunView, StateWord};

/// What a run's payload may be long; a longer one is left out, since it would wait in memory.
const LARGEST_PAYLOAD: usize = 12 << 10;

/// One thing to tell, or a ping.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Names the delivery; the same in each attempt.
    pub(super) id: String,
    told: Option<Box<Told>>,
}

#[derive(Clone, Debug)]
struct Told {
    event: Happened,
    run: Option<RunView>,
    state: StateWord,
    recovered: bool,
}

/// The body, in the shapes of `ctl events` and `history`.
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

impl Letter {
    /// Tells of something that happened; `run` is the run, if there is one.
    #[must_use]
    pub fn new(event: Happened, mut run: Option<RunView>, state: StateWord, recovered: bool) -> Letter {
        if let Some(run) = &mut run
            && run.event.as_ref().is_some_and(|event| event.to_string().len() > LARGEST_PAYLOAD)
        {
            run.event = None;
        }
        Letter { id: String::new(), told: Some(Box::new(Told { event, run, state, recovered })) }
    }

    pub(super) fn ping() -> Letter {
        Letter { id: String::new(), told: None }
    }

    pub(super) fn named(self, id: String) -> Letter {
        Letter { id, ..self }
    }

    pub(super) fn state(&self) -> StateWord {
        self.told.as_ref().map_or(StateWord::Succeeded, |told| told.state)
    }

    pub(super) fn recovered(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.recovered)
    }

    /// For the log.
    pub(super) fn in_words(&self) -> String {
        let Some(told) = &self.told else { return "a ping".into() };
        let job = told.event.job.as_deref().unwrap_or("?");
        match told.event.run {
            Some(run) => format!("that run {run} of {job} {}", told.state.as_str()),
            None => format!("that {job} {}", told.state.as_str()),
        }
    }

    /// The body as it is sent now, with the seconds since the epoch; nothing for a ping.
    pub(super) fn body(&self, host: &str, dropped: u64) -> Option<(String, i64)> {
        let told = self.told.as_ref()?;
        let now = Utc::now();
        let body = Body {
            version: env!("CARGO_PKG_VERSION"),
            host,
            delivery: &self.id,
            sent_at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
            dropped,
            recovered: told.recovered,
            event: &told.event,
            run: told.run.as_ref(),
        };
        Some((serde_json::to_string(&body).ok()?, now.timestamp()))
    }
}

/// `sha256=` and the HMAC of the body in hexadecimal digits.
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
    fn a_signature_is_that_of_rfc_4231() {
        let secret = Secret(b"Jefe".as_slice().into());
        assert_eq!(
            signature(&secret, "what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
