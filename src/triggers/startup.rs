//! `startup`: a run at each start of the daemon, like `@reboot` in a crontab.

use super::{JobContext, Keys, Trigger, TriggerType};
use crate::engine::timing::Timing;
use crate::model::TriggerWord;

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: TriggerWord::Startup.as_str(), keys: &[], build };

#[derive(Debug, PartialEq)]
struct Startup;

fn build(_: &mut dyn Keys, _: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    Some(Box::new(Startup))
}

impl Trigger for Startup {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Startup
    }

    fn summary(&self) -> String {
        "startup".into()
    }

    fn timing(&self) -> Timing {
        Timing::Startup
    }
}
