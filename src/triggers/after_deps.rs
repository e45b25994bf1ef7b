//! `after_deps`: a run whenever its dependencies are satisfied; `condition` is read with the job itself.

use super::{JobContext, Keys, Trigger, TriggerType};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: TriggerWord::AfterDeps.as_str(), keys: &["condition"], build };

#[derive(Debug, PartialEq)]
struct AfterDeps;

fn build(_: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    Some(Box::new(AfterDeps))
}

impl Trigger for AfterDeps {
    fn kind(&self) -> TriggerWord {
        TriggerWord::AfterDeps
    }

    fn summary(&self) -> String {
        TriggerWord::AfterDeps.as_str().into()
    }
}
