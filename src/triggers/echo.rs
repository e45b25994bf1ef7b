//! `echo`: one run at the start of the daemon, with the text of its key as the payload. For tests only: the smallest complete
//! type, which docs/triggers.md refers to.
//!
//! ```yaml
//! trigger: { type: echo, text: hello }
//! ```

use super::{JobContext, Keys, Readiness, Source, SourceHost, Trigger, TriggerType};
use std::ffi::OsString;

use crate::model::{Batch, TriggerWord};

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: "echo", keys: &["text"], build };

#[derive(Clone, Debug, PartialEq)]
struct Echo {
    text: String,
}

fn build(keys: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    if !keys.has("text") {
        keys.error(keys.place("text"), "an `echo` trigger needs a `text`".into(), "for example `text: hello`".into());
        return None;
    }
    Some(Box::new(Echo { text: keys.text("text")?.value }))
}

impl Trigger for Echo {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Watch
    }

    fn summary(&self) -> String {
        format!("echo {}", self.text)
    }

    fn source(&self) -> Option<Box<dyn Source>> {
        Some(Box::new(self.clone()))
    }

    fn event_env(&self, event: &serde_json::Value) -> Vec<(String, OsString)> {
        event.as_str().map(|text| ("FIRELINK_ECHO".to_owned(), text.into())).into_iter().collect()
    }
}

impl Source for Echo {
    fn start(&mut self, host: &mut dyn SourceHost) -> Result<(), String> {
        host.emit(Batch { events: vec![self.text.clone().into()], ..Batch::default() });
        Ok(())
    }

    fn ready(&mut self, host: &mut dyn SourceHost, what: Readiness) {
        // The batch was not stored: it is emitted again.
        if matches!(what, Readiness::NotRecorded) {
            host.emit(Batch { events: vec![self.text.clone().into()], ..Batch::default() });
        }
    }

    fn stop(&mut self, _: &mut dyn SourceHost) {}
}
