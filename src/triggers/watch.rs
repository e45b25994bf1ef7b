//! `watch` (placeholder).
use super::{JobContext, Keys, Trigger, TriggerType};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType =
    TriggerType { kind: TriggerWord::Watch, keys: &["source", "filter", "poll_interval", "existing", "batch"], build };

fn build(_: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    None
}
