//! `manual`: a run only on request, or after its dependencies if it has any.

use super::{JobContext, Keys, Trigger, TriggerType};
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: TriggerWord::Manual.as_str(), keys: &[], build };

#[derive(Debug, PartialEq)]
struct Manual;

fn build(_: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    Some(Box::new(Manual))
}

impl Trigger for Manual {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Manual
    }

    fn summary(&self) -> String {
        TriggerWord::Manual.as_str().into()
    }
}
