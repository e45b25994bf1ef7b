//! `cron` (placeholder).
use super::{JobContext, Keys, Trigger, TriggerType};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType =
    TriggerType { kind: TriggerWord::Cron, keys: &["schedule", "timezone", "jitter", "catch_up"], build };

fn build(_: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    None
}
