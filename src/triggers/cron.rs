//! `cron`: a run at each instant of its schedules.

use std::sync::Arc;

use super::{JobContext, Keys, Text, Trigger, TriggerType, stable_offset};
use crate::cron::{REBOOT, Schedule, Zone, is_reboot};
use crate::engine::timing::{CatchUp, Concurrency, Timing, WallTiming};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType =
    TriggerType { word: TriggerWord::Cron.as_str(), keys: &["schedule", "timezone", "jitter", "catch_up"], build };

#[derive(Debug, PartialEq)]
struct Cron {
    /// The schedules as configured, for messages.
    text: Box<str>,
    timing: Arc<WallTiming>,
}

fn build(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    // Every key is read before an error ends it, so that all errors are reported at once.
    let written = read_schedules(keys);
    let zone = read_zone(keys, cx);
    let catch_up = read_catch_up(keys);
    let jitter = keys.duration("jitter").unwrap_or_default();
    let Written { text, schedules, at_startup } = written?;
    let timing = WallTiming {
        schedules: schedules.into_boxed_slice(),
        zone: zone?,
        offset: stable_offset(jitter, cx),
        catch_up: catch_up?,
        at_startup,
    };
    Some(Box::new(Cron { text: text.into_boxed_str(), timing: Arc::new(timing) }))
}

/// The value of `schedule`.
#[derive(Default)]
struct Written {
    text: String,
    schedules: Vec<Schedule>,
    at_startup: bool,
}

impl Written {
    fn note(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push_str(", ");
        }
        self.text.push_str(text);
    }
}

fn read_schedules(keys: &mut dyn Keys) -> Option<Written> {
    const EXAMPLE: &str = "for example `schedule: \"0 18 * * *\"`, daily at 18:00";
    if !keys.has("schedule") {
        keys.error(keys.place("schedule"), "a `cron` trigger needs a `schedule`".into(), EXAMPLE.into());
        return None;
    }
    let texts = keys.texts("schedule");
    let mut written = Written::default();
    let mut sound = true;
    for text in &texts {
        sound &= read_schedule(keys, text, &mut written);
    }
    // An empty list was reported by the reader of the keys.
    (sound && !texts.is_empty()).then_some(written)
}

/// Adds a schedule; false for an invalid one, which is reported.
fn read_schedule(keys: &mut dyn Keys, text: &Text, written: &mut Written) -> bool {
    let value = text.value.trim();
    let fresh = if is_reboot(value) {
        !std::mem::replace(&mut written.at_startup, true)
    } else {
        match Schedule::parse(&text.value) {
            Ok(schedule) => {
                let fresh = !written.schedules.contains(&schedule);
                if fresh {
                    written.schedules.push(schedule);
                }
                fresh
            }
            Err(error) => {
                keys.error(text.place_of(error.span), error.message, error.help);
                return false;
            }
        }
    };
    if fresh {
        written.note(value);
    } else {
        let what = if value == REBOOT { "is a duplicate" } else { "is the same schedule as one before it" };
        keys.warn(text.place, format!("`{value}` {what}"), "an instant fires once, even if several schedules have it".into());
    }
    true
}

fn read_zone(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Zone> {
    if !keys.has("timezone") {
        return Some(cx.zone);
    }
    let text = keys.text("timezone")?;
    match Zone::parse(&text.value) {
        Ok(zone) => Some(zone),
        Err(error) => {
            keys.error(text.place, error.message, error.help);
            None
        }
    }
}

fn read_catch_up(keys: &mut dyn Keys) -> Option<CatchUp> {
    if !keys.has("catch_up") {
        return Some(CatchUp::default());
    }
    let text = keys.text("catch_up")?;
    match text.value.as_str() {
        "none" => Some(CatchUp::None),
        "last" => Some(CatchUp::Last),
        "all" => Some(CatchUp::All),
        other => {
            let message = format!("invalid value `{other}` for `catch_up`: expected `none`, `last` or `all`");
            let help = "after a time without a daemon, `last` runs the latest missed deadline and `all` each of them";
            keys.error(text.place, message, help.into());
            None
        }
    }
}

impl Trigger for Cron {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Cron
    }

    fn summary(&self) -> String {
        format!("cron {}", self.text)
    }

    /// As configured, if a schedule can't be described.
    fn words(&self) -> Option<String> {
        let mut all: Vec<String> = Vec::new();
        if self.timing.at_startup {
            all.push("when the daemon starts".into());
        }
        for schedule in &self.timing.schedules {
            match schedule.words() {
                Some(words) => all.push(words),
                None => return Some(self.text.to_string()),
            }
        }
        Some(all.join("; "))
    }

    fn default_concurrency(&self) -> Concurrency {
        Concurrency::Forbid
    }

    fn timing(&self) -> Timing {
        Timing::Wall(Arc::clone(&self.timing))
    }
}

#[cfg(test)]
mod tests;
